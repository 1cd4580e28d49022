"""No secret in what the service writes or shows: the whole path with every kind of credential, right and wrong."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest
import trustme
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from service.rest.keys import jwks, new_key
from service.sandbox.patients import generate, stream
from tests.guarded_ehr import GuardedEhr, Registration, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.sandbox.events import Event
    from service.sandbox.hapi import FhirServer
    from service.sandbox.kafka import Broker

SCOPES = "system/*.cruds"
DEADLINE_S = 120.0
SECRETS = {
    "token": "bearer-correct-horse",
    "password": "basic-battery-staple",
    "client-secret": "client-horse-staple",
    "database": "database-staple-horse",
}


@dataclass(frozen=True)
class Site:
    """An installation with every kind of credential."""

    folder: Path
    config: Path
    topics: tuple[str, str]
    ehr: GuardedEhr
    key: str
    """The private part of the key that signs assertions."""

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the service that ends by itself."""
        return subprocess.run(
            [sys.executable, "-m", "service", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def leaks(self, text: str) -> list[str]:
        """Return the names of the secrets that a text shows, granted tokens and sent assertions too."""
        sent = [form["client_assertion"] for form in self.ehr.forms if "client_assertion" in form]
        all_ = SECRETS | {"key": self.key} | dict(enumerate([*self.ehr.tokens, *sent]))
        return [str(name) for name, secret in all_.items() if secret in text]


@pytest.fixture
async def site(kafka: Broker, fhir_server: FhirServer, tmp_path: Path) -> AsyncIterator[Site]:
    """An installation: one destination where everything is right, three where something is wrong."""
    fhir_server.reset()
    name, key = uuid.uuid4().hex[:8], new_key("ES384")
    (tmp_path / "keys.json").write_bytes(jwks([key], private=True))
    for secret, value in SECRETS.items():
        (tmp_path / secret).write_text(f"{value}\n")
    topics = (f"enc-{name}", f"qr-{name}")
    await kafka.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    known = {"ipt": Registration("ipt", SCOPES, jwks=orjson.loads(jwks([key])))}
    with served(GuardedEhr(behind=fhir_server.base, clients=known), trustme.CA(), tmp_path) as ehr:
        config = tmp_path / "ipt-bridge.toml"
        config.write_text(
            f"""
            [kafka]
            bootstrap = "{kafka.bootstrap}"
            group_id = "{name}"
            [store]
            url = "sqlite:///{tmp_path / "store.sqlite"}"
            password = "{SECRETS["database"]}"
            [http]
            port = 0
            [[sources]]
            time_zone = "America/New_York"
            topics = [
                {{ name = "{topics[0]}", resource_type = "Encounter" }},
                {{ name = "{topics[1]}", resource_type = "QuestionnaireResponse" }},
            ]
            fhir_base = "{ehr.base}"
            ca_file = "{tmp_path / "ca.pem"}"
            auth = {{ kind = "bearer", token_file = "{tmp_path / "token"}" }}
            [[destinations]]
            kind = "fhir"
            name = "right"
            base = "{ehr.base}"
            ca_file = "{tmp_path / "ca.pem"}"
            [destinations.auth]
            kind = "backend-services"
            client_id = "ipt"
            keys_file = "{tmp_path / "keys.json"}"
            scopes = ["{SCOPES}"]
            [[destinations]]
            kind = "fhir"
            name = "stranger"
            base = "{ehr.base}"
            ca_file = "{tmp_path / "ca.pem"}"
            [destinations.auth]
            kind = "client-secret"
            client_id = "stranger"
            client_secret_file = "{tmp_path / "client-secret"}"
            [[destinations]]
            kind = "fhir"
            name = "untrusted"
            base = "{ehr.base}"
            auth = {{ kind = "basic", username = "ipt", password_file = "{tmp_path / "password"}" }}
            [[destinations]]
            kind = "fhir"
            name = "refused"
            base = "{ehr.base}"
            ca_file = "{tmp_path / "ca.pem"}"
            auth = {{ kind = "basic", username = "ipt", password_file = "{tmp_path / "password"}" }}
            """
        )
        yield Site(tmp_path, config, topics, ehr, key.private()["d"])


async def test_a_plan_gets_into_an_ehr_behind_tokens_and_nothing_tells_a_secret(
    site: Site, kafka: Broker, fhir_server: FhirServer
) -> None:
    """Neither the log, at its most talkative, nor the list of processes, nor `check`, with whatever is wrong."""
    (patient,) = generate(7, 1, date(2026, 1, 5))
    async with httpx.AsyncClient(timeout=60) as client:
        for resource in patient.resources:
            await client.put(f"{fhir_server.base}/{resource['resourceType']}/{resource['id']}", json=resource)
    await _send(kafka, site, stream([patient]))
    log = site.folder / "log"
    process = started(site, log)
    try:
        await _until_plans(fhir_server, 1, log)
        listed = read(Path(f"/proc/{process.pid}/cmdline"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    said = read(log)
    checked, as_json = site.command("check"), site.command("check", "--json")

    for code in ("invalid-client", "untrusted", "unauthorised"):
        assert code in said
    assert site.ehr.tokens
    assert [] == site.leaks(said)
    assert [] == site.leaks(listed)
    assert (1, 1) == (checked.returncode, as_json.returncode)
    assert [] == site.leaks(checked.stdout + checked.stderr + as_json.stdout + as_json.stderr)
    right = [each for each in orjson.loads(as_json.stdout) if each["what"].startswith("FHIR server right")]
    assert [True] * 6 == [each["ok"] and not each["warning"] for each in right]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('kind = "bearer"', 'kind = "baerer"'),
        ('scopes = ["', 'scopse = ["'),
        ('keys_file = "', 'keys_file = "/nowhere'),
        ("token_file = ", f'token = "{SECRETS["token"]}", token_file = '),
        ('username = "ipt", password_file = ', f'username = 7, password = "{SECRETS["password"]}", password_file = '),
    ],
)
def test_no_error_of_the_settings_tells_a_secret(before: str, after: str, site: Site) -> None:
    """Not in its sentence, and not in a traceback."""
    site.config.write_text(site.config.read_text().replace(before, after))

    answer = site.command("--debug", "check")

    assert 0 != answer.returncode
    assert "Traceback" in answer.stderr
    assert [] == site.leaks(answer.stdout + answer.stderr)


@pytest.mark.parametrize("file", ["keys.json", "token", "client-secret"])
def test_no_damaged_file_of_secrets_tells_what_it_holds(file: str, site: Site) -> None:
    """Its name, and what should be in it, is all that is said, in a traceback too."""
    damaged = site.folder / file
    damaged.write_text(damaged.read_text()[:-2] + "\n\N{BELL}" + damaged.read_text())

    answer = site.command("--debug", "run")

    assert 0 != answer.returncode
    assert str(damaged) in answer.stderr
    assert [] == site.leaks(answer.stdout + answer.stderr)


def started(site: Site, log: Path) -> subprocess.Popen[bytes]:
    """Start the service, with a traceback where something fails."""
    with log.open("wb") as opened:
        return subprocess.Popen(
            [sys.executable, "-m", "service", "--debug", "run", "--config", str(site.config)],
            stdout=opened,
            stderr=opened,
            env={"PATH": "/usr/bin:/bin", "IPT_LOG__LEVEL": "debug"},
        )


def read(file: Path) -> str:
    """Return what a file holds by now."""
    return file.read_bytes().decode()


async def _send(kafka: Broker, site: Site, events: list[Event]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    for event in events:
        topic = site.topics[0] if event.kind == "Encounter" else site.topics[1]
        at = round(event.time.timestamp() * 1000)
        await producer.send_and_wait(topic, event.value, key=event.key.encode(), timestamp_ms=at)
    await producer.stop()


async def _until_plans(server: FhirServer, number: int, log: Path) -> None:
    until = time.monotonic() + DEADLINE_S
    async with httpx.AsyncClient(timeout=30) as client:
        while True:
            answer = await client.get(f"{server.base}/CarePlan", params={"_summary": "count"})
            codes = read(log)
            failed = all(code in codes for code in ("invalid-client", "untrusted", "unauthorised"))
            if answer.json()["total"] >= number and failed:
                return
            assert time.monotonic() < until, codes[-3000:]
            await asyncio.sleep(0.3)
