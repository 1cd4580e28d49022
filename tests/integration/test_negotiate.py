"""What a real server states, and that it does what its profile says beyond that."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest
import trustme
from typer.testing import CliRunner

from service.cli import cli
from service.configuration import environment_names
from service.domain.mapping_files import vendor_profiles
from tests.guarded_ehr import GuardedEhr, served

if TYPE_CHECKING:
    from pathlib import Path

    from service.sandbox.hapi import FhirServer


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder, without any setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)


def test_hapi_takes_everything_in_one_transaction(fhir_server: FhirServer) -> None:
    """As the service's own deliveries find it."""
    ran = CliRunner().invoke(cli, ["negotiate", f"{fhir_server.base}/metadata", "--json"])
    assert 0 == ran.exit_code, ran.output
    found = orjson.loads(ran.stdout_bytes)
    assert {"software", "fhirVersion", "profile", "routes", "auth"} == found.keys()
    assert ("hapi", "4.0.1", "none-stated") == (found["profile"], found["fhirVersion"], found["auth"]["method"])
    assert "create-update" == found["routes"].pop("AuditEvent")["route"]
    assert {"transaction"} == {each["route"] for each in found["routes"].values()}


def test_hapi_does_what_its_profile_says(fhir_server: FhirServer, mapping_files: dict[str, bytes]) -> None:
    """Ids of our choosing are taken; a stale If-Match has the status that the profile names."""
    profile = vendor_profiles(mapping_files)["hapi"]
    assert profile.client_ids is not None
    assert profile.stale_if_match is not None
    name = f"negotiated-{uuid.uuid4().hex[:12]}"
    with httpx.Client(base_url=fhir_server.base, timeout=60) as http:
        patient = {"resourceType": "Patient", "id": name, "active": True}
        created = http.put(f"/Patient/{name}", json=patient)
        http.put(f"/Patient/{name}", json={**patient, "active": False})
        stale = http.put(f"/Patient/{name}", json=patient, headers={"If-Match": 'W/"1"'})
    assert profile.client_ids.value == (created.status_code == HTTPStatus.CREATED)
    assert profile.stale_if_match.value == stale.status_code


def test_a_server_of_a_private_authority_is_asked_where_that_is_given(tmp_path: Path) -> None:
    """Without it nothing is believed; a file that holds no authority is the operator's to mend."""
    (tmp_path / "none.pem").write_text("none")
    with served(GuardedEhr(), trustme.CA(), tmp_path) as ehr:
        asked = ["negotiate", ehr.base, "--json"]
        trusted = CliRunner().invoke(cli, [*asked, "--ca", str(tmp_path / "ca.pem")])
        strange = CliRunner().invoke(cli, asked)
        broken = CliRunner().invoke(cli, [*asked, "--ca", str(tmp_path / "none.pem")])
    assert 0 == trusted.exit_code, trusted.output
    assert "routes" in orjson.loads(trusted.stdout_bytes)
    assert 0 != strange.exit_code
    assert 2 == broken.exit_code, broken.output
