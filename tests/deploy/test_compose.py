"""docker-compose.yml against the settings and rules of this service; a later step starts it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from service.configuration import environment_names, load_settings
from service.settings import Destination, Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

VERSION = re.compile(r":v?\d+\.\d+(\.\d+)?(-[\w.]+)?$")
ENDS_BY_ITSELF = {"migrate", "topics"}

Compose = dict[str, Any]


def _services(compose: Compose) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = compose["services"]
    return services


def _own(compose: Compose) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in _services(compose).items() if "build" in service}


def test_images_carry_a_version(compose: Compose) -> None:
    """The same file starts the same parts next year."""
    unversioned = [name for name, service in _services(compose).items() if not VERSION.search(service["image"])]

    assert [] == unversioned


def test_nothing_runs_as_root(compose: Compose) -> None:
    """Each by number, with no capabilities and no way to more."""
    for service in _services(compose).values():
        user, _, group = service["user"].partition(":")
        assert int(user) > 0 < int(group)
        assert ["ALL"] == service["cap_drop"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_every_service_that_stays_up_has_a_health_check(compose: Compose) -> None:
    """And what ends by itself is waited for by its end."""
    for name, service in _services(compose).items():
        check = service["healthcheck"]
        assert check.get("disable", False) == (name in ENDS_BY_ITSELF)
        assert name in ENDS_BY_ITSELF or check["test"][0] == "CMD"
        for awaited, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if awaited in ENDS_BY_ITSELF else "service_healthy"
            assert expected == how["condition"]


def test_ports_are_open_on_this_machine_only(compose: Compose) -> None:
    """No database, broker or plan is offered to the network."""
    ports = [port for service in _services(compose).values() for port in service.get("ports", [])]

    assert ports
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


def test_the_port_is_the_settings_default(compose: Compose) -> None:
    """One number in every document."""
    port = Settings().http.port

    assert [f"127.0.0.1:{port}:{port}"] == _services(compose)["ipt-bridge"]["ports"]
    assert f":{port}/readyz" in " ".join(_services(compose)["ipt-bridge"]["healthcheck"]["test"])


def test_every_environment_name_is_a_setting(compose: Compose) -> None:
    """A misspelt one would stop the service at its start."""
    for service in _own(compose).values():
        assert set() == set(service["environment"]) - environment_names()


def test_the_environment_is_valid(
    compose: Compose, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The settings load as they will in the container, secret included."""
    secret = compose["secrets"]["IPT_STORE__PASSWORD"]["file"]
    (tmp_path / "IPT_STORE__PASSWORD").write_text((repository / secret).read_text())
    monkeypatch.chdir(tmp_path)
    for name, value in _services(compose)["ipt-bridge"]["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPT_SECRETS_DIR", str(tmp_path))

    settings = load_settings()

    assert "postgresql://postgres:5432/ipt" == settings.store.place
    assert settings.store.password is not None
    assert (repository / secret).read_text().strip() == settings.store.password.get_secret_value()
    assert ["kafka", "ehr"] == [destination.name for destination in settings.destinations]


def test_the_environment_names_services_of_the_file(compose: Compose) -> None:
    """Hosts and ports are those that the other services listen at."""
    environment = _services(compose)["ipt-bridge"]["environment"]
    destinations = TypeAdapter(list[Destination]).validate_python(json.loads(environment["IPT_DESTINATIONS"]))
    bases = [destination.base for destination in destinations if destination.kind == "fhir"]
    listeners = _services(compose)["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]

    assert ["http://fhir:8080/fhir"] == bases
    assert ":8080" in _services(compose)["fhir"]["ports"][0]
    assert f"//{environment['IPT_KAFKA__BOOTSTRAP']}," in listeners


def test_the_topics_are_those_of_the_settings(compose: Compose) -> None:
    """Every topic that the service reads or writes is made, the plans' one compacted."""
    script = _services(compose)["topics"]["command"][0]
    settings = Settings()
    read = {topic.name for source in settings.sources for topic in source.topics}
    written = {destination.topic for destination in settings.destinations if destination.kind == "kafka"}

    made = set(re.findall(r"--topic (\S+)", script))
    compacted = set(re.findall(r"--topic (\S+) --config cleanup\.policy=compact", script))

    assert read | written == made
    assert written == compacted


def test_the_service_cannot_write_its_own_files(compose: Compose) -> None:
    """Read-only root, with a /tmp in memory."""
    for service in _own(compose).values():
        assert service["read_only"] is True
        assert ["/tmp"] == service["tmpfs"]  # noqa: S108 - the container's own


def test_the_database_is_migrated_before_the_service_starts(compose: Compose) -> None:
    """By the service's own command."""
    services = _services(compose)

    assert ["migrate"] == services["migrate"]["command"]
    assert {"migrate", "topics", "fhir"} == set(services["ipt-bridge"]["depends_on"])
