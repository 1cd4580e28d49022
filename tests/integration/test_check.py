"""`ipt-bridge check` on EHRs: from certificate to routes, without a word of a patient and nothing stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import orjson
import pytest
import trustme
from starlette.responses import JSONResponse, Response

from service.commands.checks import Check, check_destination, check_source
from service.configuration import load_vendor_profiles
from service.health import serving
from service.rest.keys import jwks, new_key
from service.settings import FhirDestination, Settings, Source
from tests.guarded_ehr import FHIR, GuardedEhr, Registration, served, statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.domain.vendors import VendorProfile
    from service.sandbox.hapi import FhirServer

ALL = "system/CarePlan.cruds system/Goal.cruds"
SECRET = "correct-horse-battery"  # noqa: S105 - made up, to look for in what is printed
EMPTY = {"resourceType": "Bundle", "type": "searchset", "total": 0}
FINE = {"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]}


@pytest.fixture(scope="module")
def profiles() -> dict[str, VendorProfile]:
    """The profiles of EHR servers."""
    return load_vendor_profiles(Settings())


@pytest.fixture
def ehr(tmp_path: Path) -> Iterator[GuardedEhr]:
    """An EHR that lets a client with a secret do everything."""
    made = GuardedEhr(
        clients={"ipt": Registration("ipt", ALL, secret=SECRET)},
        answers={
            "CarePlan": JSONResponse(EMPTY, media_type=FHIR),
            "Encounter": JSONResponse(EMPTY, media_type=FHIR),
            "CarePlan/$validate": JSONResponse(FINE, media_type=FHIR),
        },
    )
    with served(made, trustme.CA(), tmp_path):
        yield made


@pytest.fixture
def destination(ehr: GuardedEhr, tmp_path: Path) -> FhirDestination:
    """That EHR as a destination."""
    auth = {"kind": "client-secret", "client_id": "ipt", "client_secret": SECRET, "scopes": ALL.split()}
    settings = {"kind": "fhir", "base": ehr.base, "ca_file": tmp_path / "ca.pem", "timeout_s": 5, "auth": auth}
    return FhirDestination.model_validate(settings)


def told(checks: list[Check]) -> list[tuple[str, str]]:
    """Return of each check which part it is of and how that is."""
    parts = [each.what.removeprefix("FHIR server ehr").removeprefix(", ") or "server" for each in checks]
    return [
        (part, "look" if each.warning else "ok" if each.ok else "wrong")
        for part, each in zip(parts, checks, strict=True)
    ]


async def test_everything_in_order_is_told_part_by_part(
    ehr: GuardedEhr, destination: FhirDestination, profiles: dict[str, VendorProfile]
) -> None:
    """And all that was asked for is what nobody has."""
    checks = await check_destination(destination, profiles)

    parts = ["server", "token", "scopes", "routes", "reading", "writing"]
    assert [(part, "ok") for part in parts] == told(checks)
    assert [
        "software not named, FHIR 4.0.1, profile generic-r4",
        "granted for 300 s",
        "all that is needed is granted",
    ] == [each.text for each in checks[:3]]
    assert checks[3].text.startswith("transaction: CarePlan, Goal; chart-only: Task, Flag, ")
    assert {
        "metadata",
        ".well-known/smart-configuration",
        "/token",
        "CarePlan/ipt-bridge-check",
        "CarePlan",
        "CarePlan/$validate",
    } == set(ehr.asked)


async def test_rights_that_are_not_granted_are_named(
    ehr: GuardedEhr, destination: FhirDestination, profiles: dict[str, VendorProfile]
) -> None:
    """As the scopes to register."""
    ehr.clients["ipt"] = Registration("ipt", "system/CarePlan.cruds", secret=SECRET)

    checks = await check_destination(destination, profiles)

    assert ("scopes", "look") in told(checks)
    assert "Not granted: system/Goal.cru. Register them there, and name them in scopes." in [
        each.text for each in checks
    ]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Response(status_code=403), "CarePlan may not be read. Ask its operator for the right to read and search it."),
        (
            Response(status_code=401),
            "does not accept our credentials (401). Check the authentication that is set for it.",
        ),
    ],
)
async def test_what_may_not_be_read_is_wrong(
    answer: Response, text: str, ehr: GuardedEhr, destination: FhirDestination, profiles: dict[str, VendorProfile]
) -> None:
    """No plan could be kept current there."""
    ehr.answers["CarePlan/ipt-bridge-check"] = answer

    checks = await check_destination(destination, profiles)

    assert ("reading", "wrong") == told(checks)[-1]
    assert text in checks[-1].text


@pytest.mark.parametrize(
    ("path", "answer", "part", "text"),
    [
        ("CarePlan/ipt-bridge-check", Response(status_code=400), "reading", "It does not say whether CarePlan may be"),
        ("CarePlan", Response(status_code=400), "reading", "CarePlan may be read; searching it by identifier failed"),
        (
            "CarePlan/$validate",
            JSONResponse(
                {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "required"}]},
                media_type=FHIR,
            ),
            "writing",
            "$validate finds fault with a CarePlan of ours (required).",
        ),
        ("CarePlan/$validate", Response(status_code=403), "writing", "$validate: The FHIR server forbids it"),
    ],
)
async def test_what_is_doubtful_is_to_be_looked_at(  # noqa: PLR0917 - pytest gives each by its name
    path: str,
    answer: Response,
    part: str,
    text: str,
    ehr: GuardedEhr,
    destination: FhirDestination,
    profiles: dict[str, VendorProfile],
) -> None:
    """It may be as it should be: servers differ in what they answer to such questions."""
    ehr.answers[path] = answer

    checks = await check_destination(destination, profiles)

    (found,) = [each for each in checks if each.what == f"FHIR server ehr, {part}"]
    assert (True, True) == (found.ok, found.warning)
    assert text in found.text


async def test_an_ehr_that_takes_no_plans_is_told_of(
    ehr: GuardedEhr, destination: FhirDestination, profiles: dict[str, VendorProfile]
) -> None:
    """Nothing more is tried there."""
    ehr.metadata = statement("Observation")

    checks = await check_destination(destination, profiles)

    assert ("routes", "look") == told(checks)[-1]
    assert f"Nothing is written there: see `ipt-bridge negotiate {ehr.base}`." in checks[-1].text


async def test_an_ehr_of_another_version_is_wrong(
    ehr: GuardedEhr, destination: FhirDestination, profiles: dict[str, VendorProfile]
) -> None:
    """Before anything is tried."""
    ehr.metadata["fhirVersion"] = "5.0.0"

    checks = await check_destination(destination, profiles)

    assert [("server", "wrong")] == told(checks)
    assert "/token" not in ehr.asked


async def test_a_wrong_secret_is_wrong_and_not_shown(
    ehr: GuardedEhr, destination: FhirDestination, profiles: dict[str, VendorProfile]
) -> None:
    """What comes after it is not tried."""
    ehr.clients["ipt"] = Registration("ipt", ALL, secret="other")  # noqa: S106 - made up

    checks = await check_destination(destination, profiles)

    assert [("server", "ok"), ("token", "wrong")] == told(checks)
    assert "does not know this client, its key or its secret (invalid_client)" in checks[-1].text
    assert SECRET not in repr(checks)


async def test_a_server_of_an_unknown_authority_is_wrong(
    ehr: GuardedEhr, destination: FhirDestination, profiles: dict[str, VendorProfile], tmp_path: Path
) -> None:
    """Nothing was asked of it."""
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)

    checks = await check_destination(destination.model_copy(update={"ca_file": stranger}), profiles)

    assert [("server", "wrong")] == told(checks)
    assert "its certificate is not trusted" in checks[0].text
    assert 0 == ehr.asked.total()


async def test_an_unusable_file_is_wrong(
    destination: FhirDestination, profiles: dict[str, VendorProfile], tmp_path: Path
) -> None:
    """Named as the service would name it at its start."""
    nothing = tmp_path / "nothing.pem"
    nothing.touch()

    checks = await check_destination(destination.model_copy(update={"ca_file": nothing}), profiles)

    assert [("server", "wrong")] == told(checks)
    assert "nothing.pem holds no certificate of an authority." in checks[0].text


async def test_a_base_without_tls_is_to_be_looked_at(profiles: dict[str, VendorProfile]) -> None:
    """Whoever listens under way reads plans and credentials; on this machine nobody does."""
    for host, told_of in (("127.0.0.2", True), ("127.0.0.1", False)):
        async with serving(GuardedEhr().app(), host, 0) as url:
            checks = await check_destination(FhirDestination(kind="fhir", base=f"{url}/fhir"), profiles)
        assert told_of == (("transport", "look") in told(checks))
        assert ("reading", "wrong") == told(checks)[-1]


async def test_a_server_that_is_away_is_wrong(profiles: dict[str, VendorProfile]) -> None:
    """Nothing else is said of it."""
    checks = await check_destination(FhirDestination(kind="fhir", base="http://127.0.0.1:9/fhir"), profiles)

    assert [("server", "wrong")] == told(checks)


async def test_a_profile_that_there_is_none_of_is_wrong(profiles: dict[str, VendorProfile]) -> None:
    """Before anything is asked; the ones that there are are named."""
    named = FhirDestination(kind="fhir", base="http://127.0.0.1:9/fhir", profile="epik")
    checks = await check_destination(named, profiles)

    assert [("server", "wrong")] == told(checks)
    assert "there is no profile epik. Name one of aidbox, athenahealth" in checks[0].text


async def test_a_source_is_tried_for_what_is_read_there(ehr: GuardedEhr, tmp_path: Path) -> None:
    """Reading and searching alone, and the scopes for that."""
    scopes = "system/Encounter.rs system/Patient.s"
    ehr.clients["ipt"] = Registration("ipt", scopes, secret=SECRET)
    auth = {"kind": "client-secret", "client_id": "ipt", "client_secret": SECRET}
    source = Source.model_validate({"fhir_base": ehr.base, "ca_file": tmp_path / "ca.pem", "auth": auth})

    checks = await check_source(source, ["Encounter"])

    what = "FHIR server of source main"
    assert [what, f"{what}, token", f"{what}, scopes", f"{what}, reading"] == [each.what for each in checks]
    assert [True] * 4 == [each.ok and not each.warning for each in checks]
    assert [] == await check_source(Source(), ["Encounter"])


async def test_a_real_server_behind_tokens_passes(
    fhir_server: FhirServer, profiles: dict[str, VendorProfile], tmp_path: Path
) -> None:
    """HAPI, by SMART Backend Services: everything is in order, and it holds nothing afterwards."""
    fhir_server.reset()
    key, file = new_key("ES384"), tmp_path / "keys.json"
    file.write_bytes(jwks([key], private=True))
    scopes = "system/*.cruds"
    guarded = GuardedEhr(
        behind=fhir_server.base, clients={"ipt": Registration("ipt", scopes, jwks=orjson.loads(jwks([key])))}
    )
    with served(guarded, trustme.CA(), tmp_path):
        auth = {"kind": "backend-services", "client_id": "ipt", "keys_file": file, "scopes": [scopes]}
        settings = {"kind": "fhir", "base": guarded.base, "ca_file": tmp_path / "ca.pem", "auth": auth}
        checks = await check_destination(FhirDestination.model_validate(settings), profiles)
        stored = await _stored(fhir_server)

    assert [part for part, how in told(checks) if how != "ok"] == [], [each.text for each in checks]
    assert "$validate takes a CarePlan of ours" in checks[-1].text
    assert 0 == stored


async def _stored(server: FhirServer) -> int:
    async with httpx.AsyncClient(timeout=30) as client:
        return int((await client.get(f"{server.base}/CarePlan", params={"_summary": "count"})).json()["total"])
