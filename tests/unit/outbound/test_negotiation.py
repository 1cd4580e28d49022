"""Which route a plan takes into an EHR, by what its server states. The statements are made up for each case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.mapping_files import parse, vendor_profiles
from service.outbound.negotiation import Negotiated, negotiate
from service.outbound.terms import terms_of
from service.rest.capabilities import NotNegotiable
from tests.conftest import MAPPINGS

if TYPE_CHECKING:
    from service.domain.vendors import VendorProfile

KINDS = ("CarePlan", "Goal", "Task", "Flag", "Provenance", "DocumentReference")
ALL = ("read", "search-type", "create", "update")
READ = ("read", "search-type")
EHR = sorted((MAPPINGS / "ehr").glob("*.toml"))


@pytest.fixture(scope="module")
def profiles(mapping_files: dict[str, bytes]) -> dict[str, VendorProfile]:
    """Every profile of `mappings/ehr/`."""
    return vendor_profiles(mapping_files)


def resource(kind: str, *interactions: str, **elements: object) -> dict[str, Any]:
    """Return what a server states of a type."""
    return {"type": kind, "interaction": [{"code": each} for each in interactions], **elements}


def statement(*resources: dict[str, Any], system: tuple[str, ...] = (), **elements: object) -> dict[str, Any]:
    """Return a server's CapabilityStatement."""
    interaction = [{"code": each} for each in system]
    return {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "rest": [{"mode": "server", "interaction": interaction, "resource": list(resources)}],
        **elements,
    }


def everything(*interactions: str, **elements: object) -> list[dict[str, Any]]:
    """Return the same for every type that a plan consists of."""
    return [resource(kind, *(interactions or ALL), **elements) for kind in KINDS]


def of(document: object, profiles: dict[str, VendorProfile], smart: object = None) -> Negotiated:
    """Negotiate with a document."""
    return negotiate(orjson.dumps(document), None if smart is None else orjson.dumps(smart), profiles)


def ways(found: Negotiated) -> dict[str, str]:
    """Return the routes alone, of what a plan consists of."""
    return {kind: route.way.value for kind, route in found.routes.items() if kind in KINDS}


def test_client_ids_and_transaction_give_one_transaction(profiles: dict[str, VendorProfile]) -> None:
    """The best route there is, for every resource."""
    found = of(statement(*everything(updateCreate=True), system=("batch", "transaction")), profiles)
    assert dict.fromkeys(KINDS, "transaction") == ways(found)


def test_batch_without_transaction_gives_single_writes(profiles: dict[str, VendorProfile]) -> None:
    """A batch is not all or nothing; what that costs is said."""
    found = of(statement(*everything(updateCreate=True), system=("batch",)), profiles)
    assert "create-update" == found.routes["CarePlan"].way
    assert "only batch" in found.routes["CarePlan"].reason
    assert "they can differ" in found.routes["CarePlan"].reason


@pytest.mark.parametrize("stated", [{}, {"updateCreate": False}, {"updateCreate": None}])
def test_a_server_that_does_not_state_client_ids_chooses_ids(
    profiles: dict[str, VendorProfile], stated: dict[str, object]
) -> None:
    """Transactions or not."""
    found = of(statement(*everything(**stated), system=("transaction",)), profiles)
    assert "server-id" == found.routes["CarePlan"].way


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"conditionalCreate": True}, None),
        ({"searchParam": [{"name": "identifier"}]}, "searched by identifier before"),
        ({"searchParam": [{"name": "patient"}]}, "among the patient's own before"),
        ({"conditionalCreate": False, "conditionalUpdate": False}, "a duplicate is possible"),
    ],
)
def test_without_conditional_create_the_server_ids_cost_is_told(
    profiles: dict[str, VendorProfile], stated: dict[str, object], told: str | None
) -> None:
    """Searched first where it can be; else a lost answer may leave a second one."""
    missing = of(statement(*everything(**stated)), profiles).routes["CarePlan"].missing
    assert () == missing if told is None else told in " ".join(missing)


def test_goals_that_are_not_taken_are_contained(profiles: dict[str, VendorProfile]) -> None:
    """They go the CarePlan's way."""
    found = of(statement(resource("CarePlan", *ALL, updateCreate=True), system=("batch",)), profiles)
    assert "create-update" == found.routes["Goal"].way
    assert "contained in the CarePlan" in found.routes["Goal"].reason
    assert "chart-only" == found.routes["DocumentReference"].way


@pytest.mark.parametrize(("more", "told"), [([resource("Communication", "create")], "announce"), ([], "in the plan")])
def test_tasks_that_are_not_taken_stay_out_of_the_chart(
    profiles: dict[str, VendorProfile], more: list[dict[str, Any]], told: str
) -> None:
    """A Communication is named where there is one."""
    task = of(statement(resource("CarePlan", *ALL), resource("Task", "read", "update"), *more), profiles).routes["Task"]
    assert "chart-only" == task.way
    assert "Task takes only update" in task.reason
    assert told in task.reason


def test_updates_without_versions_are_told(profiles: dict[str, VendorProfile]) -> None:
    """The route stays; a clinician's edit can be missed."""
    found = of(statement(*everything(updateCreate=True, versioning="no-version"), system=("transaction",)), profiles)
    assert "transaction" == found.routes["CarePlan"].way
    assert "No versions" in found.routes["CarePlan"].reason


@pytest.mark.parametrize("plan", [READ, ("read", "create"), ("read", "update"), ("read", "patch", "create")])
def test_a_plan_that_cannot_be_kept_current_becomes_a_document(
    profiles: dict[str, VendorProfile], plan: tuple[str, ...]
) -> None:
    """Read only, create only, update only of what is there, patch only: none of them will do."""
    document = resource("DocumentReference", *ALL)
    found = of(statement(resource("CarePlan", *plan), resource("Goal", *ALL), document), profiles)
    expected = {"CarePlan": "document", "Goal": "document", "Task": "document", "Flag": "document"}
    assert {**expected, "Provenance": "chart-only", "DocumentReference": "document"} == ways(found)
    assert "replaced" in found.routes["DocumentReference"].reason


def test_a_document_that_cannot_be_updated_is_superseded(profiles: dict[str, VendorProfile]) -> None:
    """Each version then is a note of its own; Provenance goes where it is taken."""
    notes = (resource("DocumentReference", "create"), resource("Provenance", "create"))
    found = of(statement(resource("CarePlan", *READ), *notes), profiles)
    assert "document" == found.routes["DocumentReference"].way
    assert "supersedes" in found.routes["DocumentReference"].reason
    assert "server-id" == found.routes["Provenance"].way


@pytest.mark.parametrize(
    "rest", [None, [], {}, [None], [{"mode": "server"}], [{"resource": None}], [{"resource": [None, {"type": None}]}]]
)
def test_a_statement_that_lists_nothing_leaves_the_chart_view(profiles: dict[str, VendorProfile], rest: object) -> None:
    """Arrays missing, empty or null."""
    assert dict.fromkeys(KINDS, "chart-only") == ways(of({**statement(), "rest": rest}, profiles))


def test_several_rest_entries_and_repeated_types_are_joined(profiles: dict[str, VendorProfile]) -> None:
    """A client's part says nothing of the server."""
    document = statement(resource("CarePlan", "create"), resource("Goal", *READ))
    document["rest"].append({"mode": "client", "resource": everything(updateCreate=True)})
    document["rest"].append({"mode": "server", "resource": [resource("CarePlan", "update", updateCreate=False)]})
    found = of(document, profiles)
    assert "server-id" == found.routes["CarePlan"].way
    assert "contained" in found.routes["Goal"].reason


def test_a_statement_in_a_bundle_is_found(profiles: dict[str, VendorProfile]) -> None:
    """Beside an older one, too."""
    old = {**statement(), "fhirVersion": "3.0.1"}
    bundle = {"resourceType": "Bundle", "entry": [{}, {"resource": old}, {"resource": statement(*everything())}]}
    assert "server-id" == of(bundle, profiles).routes["CarePlan"].way


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({**statement(), "fhirVersion": "5.0.0"}, "speaks FHIR 5.0.0 (R5)"),
        ({**statement(), "fhirVersion": "3.0.1"}, "speaks FHIR 3.0.1 (STU3)"),
        ({**statement(), "fhirVersion": "4.6.0"}, "speaks FHIR 4.6.0 (a draft of R5)"),
        ({**statement(), "fhirVersion": "current"}, "no version of FHIR"),
        ({"resourceType": "Conformance", "fhirVersion": "1.0.2"}, "DSTU2"),
        ({**statement(), "fhirVersion": None}, "names no fhirVersion"),
        ({**statement(), "rest": [{"mode": "client"}]}, "client's"),
        ({"resourceType": "OperationOutcome"}, "a FHIR OperationOutcome"),
        ({"resourceType": "Bundle", "entry": None}, "a FHIR Bundle"),
        ({"token_endpoint": "https://ehr.example.org/token"}, "smart-configuration"),
        ([], "no FHIR resource"),
    ],
)
def test_other_documents_are_refused_in_a_sentence(
    profiles: dict[str, VendorProfile], document: object, told: str
) -> None:
    """Another FHIR version, or no server's statement."""
    with pytest.raises(NotNegotiable) as refused:
        of(document, profiles)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b'<?xml version="1.0"?><CapabilityStatement xmlns="http://hl7.org/fhir"/>', "is XML"),
        (b"", "empty"),
        (b'{"resourceType":', "not JSON"),
    ],
)
def test_what_is_not_json_is_refused_by_name(profiles: dict[str, VendorProfile], content: bytes, told: str) -> None:
    """A login page, XML, nothing, half a document."""
    with pytest.raises(NotNegotiable, match=told):
        negotiate(content, None, profiles)


@pytest.mark.parametrize("version", ["4.0.1", "4.0", "4.3.0", "4.1.0", "R4", "R4B"])
def test_every_version_of_r4_is_taken(profiles: dict[str, VendorProfile], version: str) -> None:
    """R4B differs in nothing that a plan consists of."""
    assert version == of({**statement(), "fhirVersion": version}, profiles).fhir_version


@pytest.mark.parametrize(
    ("elements", "profile"),
    [
        ({"software": {"name": "HAPI FHIR Server"}}, "hapi"),
        ({"software": {"name": "Smile CDR"}}, "hapi"),
        ({"software": {"name": "Epic"}}, "epic"),
        ({"software": {"name": "Epicentre"}}, "generic-r4"),
        ({"publisher": "Oracle Health"}, "oracle-health"),
        ({"url": "https://fhir-ehr.cerner.com/r4/x/metadata"}, "oracle-health"),
        ({"publisher": "athenahealth"}, "athenahealth"),
        ({"implementation": {"url": "https://ehr.meditech.com/v2"}}, "meditech"),
        ({"software": {"name": "medplum"}}, "medplum"),
        ({"implementation": {"description": "Aidbox FHIR Server"}, "software": None}, "aidbox"),
        ({"software": {"name": "Azure Healthcare APIs"}}, "azure"),
        ({"software": {"name": "Google Cloud Healthcare API"}}, "google"),
        ({"software": {"name": "Own Server"}, "publisher": None}, "generic-r4"),
        ({"implementation": {"description": "Our own server, hosted on Azure"}}, "generic-r4"),
    ],
)
def test_a_profile_is_recognised_by_software_else_by_what_else_is_named(
    profiles: dict[str, VendorProfile], elements: dict[str, Any], profile: str
) -> None:
    """By whole words."""
    assert profile == of(statement(**elements), profiles).profile


def test_the_profile_decides_only_where_the_statement_is_silent(profiles: dict[str, VendorProfile]) -> None:
    """HAPI leaves updateCreate out and takes our ids; one that states false does not."""
    hapi = {"software": {"name": "HAPI FHIR Server"}}
    silent = of(statement(*everything(), system=("transaction",), **hapi), profiles)
    refusing = of(statement(*everything(updateCreate=False), system=("transaction",), **hapi), profiles)
    assert ["transaction", "server-id"] == [each.routes["CarePlan"].way for each in (silent, refusing)]


@pytest.mark.parametrize(
    ("smart", "method", "told"),
    [
        (
            {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
            "backend-services",
            "jwt is listed",
        ),
        ({"capabilities": ["client-confidential-asymmetric"]}, "backend-services", "no system/ scope"),
        (
            {
                "capabilities": ["client-confidential-asymmetric"],
                "token_endpoint_auth_methods": ["client_secret_post"],
            },
            "backend-services",
            "ask the vendor",
        ),
        ({"token_endpoint_auth_methods_supported": ["client_secret_basic"]}, "client-secret", "neither"),
        (
            {
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "grant_types_supported": ["authorization_code"],
            },
            "oauth",
            "client_credentials is not listed",
        ),
    ],
)
def test_authentication_follows_the_smart_configuration(
    profiles: dict[str, VendorProfile], smart: dict[str, object], method: str, told: str
) -> None:
    """Backend Services need a token endpoint, a key and the grant."""
    auth = of(statement(), profiles, {"token_endpoint": "https://ehr.example.org/token", **smart}).authentication
    assert (method, "https://ehr.example.org/token") == (auth.method, auth.token_endpoint)
    assert told in auth.reason


@pytest.mark.parametrize(
    ("security", "method"),
    [
        (None, "none-stated"),
        ({"service": [{"coding": [{"code": "Basic"}]}]}, "basic"),
        ({"service": [{"coding": [{"code": "SMART-on-FHIR"}]}, None]}, "oauth"),
        (
            {"extension": [{"url": "x/oauth-uris", "extension": [{"url": "token", "valueUri": "https://x.example"}]}]},
            "oauth",
        ),
    ],
)
def test_without_a_smart_configuration_the_statement_speaks(
    profiles: dict[str, VendorProfile], security: object, method: str
) -> None:
    """Also where what stands in its place is none."""
    document = statement()
    document["rest"][0]["security"] = security
    assert method == of(document, profiles).authentication.method
    assert method == negotiate(orjson.dumps(document), b"<html>", profiles).authentication.method


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([*KINDS, "create", "update", "server", "4.0.1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "code", "interaction", "resource", "mode", "name", "url", "security", "service"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("stated", "way", "missing"),
    [
        ([], "chart-only", ("The audit trail stays with the service: `ipt-bridge deliveries audit`.",)),
        ([resource("AuditEvent", *READ)], "chart-only", None),
        ([resource("AuditEvent", "update", updateCreate=True)], "create-update", ()),
        (
            [resource("AuditEvent", "create", "update", updateCreate=False)],
            "server-id",
            ("No conditional create by tag: after a lost answer an AuditEvent may stand there twice.",),
        ),
        (
            [resource("AuditEvent", "create", conditionalCreate=True, searchParam=[{"name": "_tag"}])],
            "server-id",
            ("No conditional create by tag: after a lost answer an AuditEvent may stand there twice.",),
        ),
        (
            [resource("AuditEvent", "create", *READ, conditionalCreate=True, searchParam=[{"name": "_tag"}])],
            "server-id",
            (),
        ),
    ],
)
def test_audit_events_have_a_route_of_their_own(
    stated: list[dict[str, Any]], way: str, missing: tuple[str, ...] | None, profiles: dict[str, VendorProfile]
) -> None:
    """Whatever becomes of the plan; and no plan is sent again because it changes."""
    found = of(statement(*stated), profiles)
    route = found.routes["AuditEvent"]
    assert way == route.way
    assert missing in {None, route.missing}
    assert terms_of(found, scores=False) == terms_of(of(statement(), profiles), scores=False)
    assert (way == "chart-only") is (terms_of(found, scores=False).audit is None)


@given(rest=JSON, software=JSON, security=JSON, smart=JSON)
def test_any_content_of_a_statement_gives_routes_or_a_sentence(
    rest: object, software: object, security: object, smart: object
) -> None:
    """No shape of what a server states is a defect."""
    profiles = vendor_profiles({path.relative_to(MAPPINGS).as_posix(): path.read_bytes() for path in EHR})
    document = {**statement(), "rest": [rest, {"security": security}], "software": software, "name": smart}
    try:
        found = of(document, profiles, smart)
    except NotNegotiable as refused:
        assert "client's" in str(refused)  # noqa: PT017 - either outcome is right
    else:
        assert (*KINDS, "AuditEvent") == tuple(found.as_json()["routes"])


def test_a_profile_changes_no_plan(mapping_files: dict[str, bytes]) -> None:
    """An edit must not project every patient anew."""
    edited = {**mapping_files, "ehr/epic.toml": b'title = "Other"'}
    assert parse(mapping_files).digest == parse(edited).digest
    assert "Other" == vendor_profiles(edited)["epic"].title
