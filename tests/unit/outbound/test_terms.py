"""What a server's statement amounts to, and the shape that a plan takes there. The statements are made up."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace

from service.domain.course import Answered, Finding, FindingState, Severity
from service.domain.mapping_files import vendor_profiles
from service.domain.vendors import KnownFormats, KnownHeaders, VendorProfile
from service.outbound.careplan import render, retract
from service.outbound.negotiation import GENERIC, Way, negotiate
from service.outbound.shapes import shaped
from service.outbound.terms import EVERYTHING, Taken, Terms, Versions, terms_of
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

ALL = ("read", "search-type", "create", "update")
PLAN = ("CarePlan", "Goal", "Task", "Flag", "Provenance")
TAKEN = Taken(ours=False, update=True, versions=Versions.NAMED)
REVIEW = Finding(
    id="review.firm/x",
    rule="review.firm",
    version=1,
    severity=Severity.WARNING,
    raised=date(2026, 3, 3),
    due=date(2026, 3, 10),
    values=courses.course().findings[0].values,
    facts=("QuestionnaireResponse/x",),
    source="icsi-2016",
)


@pytest.fixture(scope="module")
def profiles(mapping_files: dict[str, bytes]) -> dict[str, VendorProfile]:
    """Every profile of `mappings/ehr/`."""
    return vendor_profiles(mapping_files)


def resource(kind: str, *interactions: str, **elements: object) -> dict[str, Any]:
    """Return what a server states of a type."""
    return {"type": kind, "interaction": [{"code": each} for each in interactions], **elements}


def terms(
    profiles: dict[str, VendorProfile],
    *resources: dict[str, Any],
    scores: bool = False,
    name: str = "",
    system: str = "",
) -> Terms:
    """Return the terms of a server that states these resources."""
    document = {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "software": {"name": name},
        "rest": [{"mode": "server", "resource": list(resources), "interaction": [{"code": system}]}],
    }
    return terms_of(negotiate(orjson.dumps(document), None, profiles), scores=scores)


def all_of(*interactions: str, **elements: object) -> list[dict[str, Any]]:
    """Return the same for every type that a plan consists of."""
    return [resource(kind, *interactions, **elements) for kind in PLAN]


def test_what_takes_everything_is_what_a_destination_without_a_statement_is_held_to_be(
    profiles: dict[str, VendorProfile],
) -> None:
    """One transaction of all, then updates under If-Match."""
    stated = all_of(*ALL, updateCreate=True, versioning="versioned-update")
    found = terms(profiles, *stated, system="transaction")
    assert (EVERYTHING.plan, EVERYTHING.together) == (found.plan, found.together)
    kept = {kind: (each.ours, each.update, each.versions) for kind, each in found.taken.items()}
    assert {kind: (each.ours, each.update, each.versions) for kind, each in EVERYTHING.taken.items()} == kept


@pytest.mark.parametrize(
    ("stated", "versions"),
    [
        ({}, Versions.NAMED),
        ({"versioning": "versioned"}, Versions.NAMED),
        ({"versioning": "versioned-update"}, Versions.CHECKED),
        ({"versioning": "no-version"}, Versions.NONE),
    ],
)
def test_if_match_is_relied_on_only_where_it_is_stated(
    stated: dict[str, object], versions: Versions, profiles: dict[str, VendorProfile]
) -> None:
    """Else what is there is read before each update."""
    assert versions is terms(profiles, *all_of(*ALL, **stated)).taken["CarePlan"].versions


def test_goals_that_are_only_created_are_contained(profiles: dict[str, VendorProfile]) -> None:
    """A goal that can't be kept current by itself is kept current within the plan."""
    stated = [each for each in all_of(*ALL, updateCreate=True) if each["type"] != "Goal"]
    found = terms(profiles, *stated, resource("Goal", "read", "create"), system="transaction")
    assert found.contained_goals
    assert "Goal" not in found.taken
    assert "Goal" not in found.together


def test_goals_under_the_servers_ids_keep_the_plan_out_of_a_transaction(profiles: dict[str, VendorProfile]) -> None:
    """They have to be there before the plan can name them."""
    stated = [each for each in all_of(*ALL, updateCreate=True) if each["type"] != "Goal"]
    found = terms(profiles, *stated, resource("Goal", *ALL, updateCreate=False), system="transaction")
    assert frozenset() == found.together
    assert not found.taken["Goal"].ours


def test_a_provenance_that_is_only_created_is_added(profiles: dict[str, VendorProfile]) -> None:
    """Beside the transaction of all others."""
    stated = [each for each in all_of(*ALL, updateCreate=True) if each["type"] != "Provenance"]
    found = terms(profiles, *stated, resource("Provenance", "create"), system="transaction")
    assert {"CarePlan", "Goal", "Task", "Flag"} == found.together
    assert not found.taken["Provenance"].update


@pytest.mark.parametrize(
    ("scores", "observation", "kinds"),
    [
        (False, ALL, {"DocumentReference"}),
        (True, ALL, {"DocumentReference", "Observation"}),
        (True, ("read", "create"), {"DocumentReference"}),
    ],
)
def test_scores_are_sent_where_they_are_wanted_and_can_be_corrected(
    scores: bool,  # noqa: FBT001 - pytest hands it over
    observation: tuple[str, ...],
    kinds: set[str],
    profiles: dict[str, VendorProfile],
) -> None:
    """A score that stays wrong is worse than none."""
    stated = (resource("DocumentReference", *ALL), resource("Observation", *observation))
    assert kinds == set(terms(profiles, *stated, scores=scores).taken)


def test_a_profiles_codes_and_headers_are_terms(profiles: dict[str, VendorProfile]) -> None:
    """They hold for every request."""
    needed = KnownHeaders(value={"X-Needed": "yes"}, source="made up")
    epic = profiles["epic"].model_copy(update={"headers": needed})
    found = terms({**profiles, "epic": epic}, resource("DocumentReference", *ALL), name="Epic")
    assert {"4130", "4131", "4134"} == found.never_retried
    assert (("X-Needed", "yes"),) == found.headers


def test_a_server_that_lists_no_parameters_is_searched_by_identifier(profiles: dict[str, VendorProfile]) -> None:
    """Where it can be searched at all."""
    assert {"identifier"} == terms(profiles, *all_of(*ALL)).taken["CarePlan"].searched_by
    assert frozenset() == terms(profiles, *all_of("read", "create", "update")).taken["CarePlan"].searched_by


def test_a_plan_that_is_taken_as_it_is_stays_as_it_is(mappings: Mappings) -> None:
    """Not even copied."""
    plan = render(courses.course(), mappings)
    assert list(plan.resources) == shaped(plan, EVERYTHING)
    assert all(one[1] is other[1] for one, other in zip(plan.resources, shaped(plan, EVERYTHING), strict=True))


def test_reviews_become_activities_while_they_are_to_be_done(mappings: Mappings) -> None:
    """And once a clinician has done them; what was settled otherwise would only be noise."""
    done = replace(REVIEW, state=FindingState.ANSWERED, answered=Answered(date(2026, 3, 5), None, "Task/t"))
    settled = replace(REVIEW, state=FindingState.CLOSED, closed=date(2026, 3, 5))
    only = Terms(plan=Way.SERVER_ID, taken={"CarePlan": TAKEN, "Goal": TAKEN})
    told = []
    for finding in (REVIEW, done, settled):
        plan = render(courses.course(findings=(finding,)), mappings)
        careplan = dict(shaped(plan, only))["careplan"]
        told.append([each["detail"]["status"] for each in careplan["activity"] if each["detail"]["kind"] == "Task"])
    assert [["not-started"], ["completed"], []] == told


def test_a_provenance_names_only_what_is_written(mappings: Mappings) -> None:
    """Tasks and Flags that the server does not take are nothing that it could know."""
    plan = render(courses.course(), mappings)
    only = Terms(plan=Way.SERVER_ID, taken=dict.fromkeys(("CarePlan", "Goal", "Provenance"), TAKEN))
    resources = dict(shaped(plan, only))
    targets = {each["reference"].partition("/")[0] for each in resources["provenance"]["target"]}
    assert {"CarePlan", "Goal"} == targets


def test_contained_goals_carry_no_meta_and_are_all_referred_to(mappings: Mappings) -> None:
    """As FHIR has it of what is contained."""
    plan = render(courses.course(), mappings)
    only = Terms(plan=Way.CREATE_UPDATE, taken={"CarePlan": TAKEN}, contained_goals=True)
    ((_, careplan),) = shaped(plan, only)
    assert careplan["contained"]
    assert not any(goal.keys() & {"meta", "text"} for goal in careplan["contained"])
    assert [f"#{goal['id']}" for goal in careplan["contained"]] == [goal["reference"] for goal in careplan["goal"]]
    assert b"Goal/" not in orjson.dumps(careplan)


def test_a_note_of_a_withdrawn_plan_says_nothing_else(mappings: Mappings) -> None:
    """Neither scores nor sessions nor goals."""
    course = courses.course()
    only = Terms(plan=Way.DOCUMENT, taken=dict.fromkeys(("DocumentReference", "Observation", "Provenance"), TAKEN))
    ((role, note),) = shaped(retract(course, mappings), only)
    assert ("note", "entered-in-error") == (role, note["status"])
    assert ["note", *["score"] * 4, "provenance"] == [
        each.partition("/")[0] for each, _ in shaped(render(course, mappings), only)
    ]


@pytest.mark.parametrize("way", [Way.TRANSACTION, Way.SERVER_ID, Way.DOCUMENT])
def test_nothing_that_leaves_has_a_modifier_extension(way: Way, mappings: Mappings) -> None:
    """Some EHRs refuse them; so no route needs one."""
    taken = dict.fromkeys(("CarePlan", "DocumentReference", "Observation", "Communication", "Provenance"), TAKEN)
    everything = EVERYTHING if way is Way.TRANSACTION else Terms(plan=way, taken=taken, contained_goals=True)
    for plan in (render(courses.course(), mappings), retract(courses.course(), mappings)):
        resources = shaped(plan, everything)
        assert resources
        assert b"modifierExtension" not in orjson.dumps(resources)


@pytest.mark.parametrize(
    ("taken", "wish", "expected"),
    [
        (None, None, "text/html"),
        (("text/html", "application/pdf"), None, "text/html"),
        (("application/pdf",), None, "application/pdf"),
        (("text/rtf",), None, "text/html"),
        (("text/html",), "application/pdf", "application/pdf"),
        (("application/pdf",), "text/html", "text/html"),
    ],
)
def test_notes_are_html_unless_a_server_takes_only_pdf_or_a_person_says_so(
    taken: tuple[str, ...] | None, wish: str | None, expected: str
) -> None:
    """No statement says what attachments may be: the vendor's profile does."""
    formats = None if taken is None else KnownFormats(value=taken, source="made up")
    profiles = {GENERIC: VendorProfile(title="Any", note_formats=formats)}
    document = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"mode": "server"}]}
    found = negotiate(orjson.dumps(document), None, profiles)
    assert expected == terms_of(found, scores=False, note_format=wish).note_format
    assert (formats is None) is (found.deviations == ())
