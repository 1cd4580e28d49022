"""What becomes of a resource that both we and a clinician have written to."""

from __future__ import annotations

import copy
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from service.domain.course import Finding, Severity
from service.outbound.careplan import render
from service.outbound.merging import canonical, merge, retired
from service.outbound.owned import entries
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

NOTE = {"authorReference": {"reference": "Practitioner/t-1"}, "text": "Rang; will come on Friday"}


@pytest.fixture
def ours(mappings: Mappings) -> dict[str, Any]:
    """Return our CarePlan."""
    return render(courses.course(conditions=("Condition/c-1",)), mappings).resources[0][1]


@pytest.fixture
def goal(mappings: Mappings) -> dict[str, Any]:
    """Return our Goal for the PHQ-9."""
    return dict(render(courses.course(), mappings).resources)["goal/phq-9"]


def test_what_nobody_else_touched_is_all_ours(ours: dict[str, Any]) -> None:
    """The server's own version and time are not a clinician's edit."""
    remote = copy.deepcopy(ours)
    remote["meta"] |= {"versionId": "3", "lastUpdated": "2026-03-03T10:00:00Z"}
    merged = merge(ours, remote, sent=entries(ours), asked="active")
    assert not merged.foreign
    assert ours == merged.resource


def test_a_clinicians_elements_and_entries_survive_and_ours_are_current(
    ours: dict[str, Any], mappings: Mappings
) -> None:
    """Notes, activities, conditions, categories, identifiers and labels that others added."""
    remote = copy.deepcopy(ours)
    theirs: dict[str, Any] = {
        "note": [NOTE],
        "careTeam": [{"reference": "CareTeam/t"}],
        "activity": [{"detail": {"status": "not-started", "description": "Walk every day"}}],
        "addresses": [{"reference": "Condition/c-9"}],
        "category": [{"text": "Clinic's own"}],
        "identifier": [{"system": "urn:ehr", "value": "7"}],
        "extension": [{"url": "urn:ehr:flag", "valueBoolean": True}],
        "goal": [{"reference": "Goal/theirs"}],
    }
    for name, value in theirs.items():
        remote[name] = [*value, *remote.get(name, [])]
    remote["meta"]["security"] = [{"system": "urn:labels", "code": "PSY"}]
    now = render(courses.course(held=10), mappings).resources[0][1]

    merged = merge(now, remote, sent=entries(ours), asked="active")

    assert merged.foreign
    for name, value in theirs.items():
        assert [*now.get(name, []), *value] == merged.resource[name]
    assert [{"system": "urn:labels", "code": "PSY"}] == merged.resource["meta"]["security"]
    assert now["description"] == merged.resource["description"]


PROTECTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}


@pytest.mark.parametrize(
    ("name", "value"), [("security", [PROTECTED]), ("tag", [PROTECTED]), ("source", "urn:another-source")]
)
def test_what_only_the_meta_says_is_told_too(ours: dict[str, Any], name: str, value: object) -> None:
    """A label that a course gains reaches a server that holds all else already; once it is there, nothing is told."""
    labelled = {**ours, "meta": {**ours["meta"], name: value}}
    merged = merge(labelled, ours, sent=entries(ours), asked="active")
    assert merged.tells_more
    assert not merge(labelled, merged.resource, sent=entries(ours), asked="active").tells_more


def test_a_server_that_adds_to_labels_and_source_is_told_nothing_again(ours: dict[str, Any]) -> None:
    """Its own labels, the id of the request after the source, and no profiles."""
    meta = {name: value for name, value in ours["meta"].items() if name != "profile"}
    meta |= {"source": "urn:s#4711", "security": [*meta.get("security", []), PROTECTED]}
    mine = {**ours, "meta": {**ours["meta"], "source": "urn:s"}}
    assert not merge(mine, {**mine, "meta": meta}, sent=entries(ours), asked="active").tells_more


def test_an_entry_of_ours_that_is_gone_does_not_stay_as_if_a_clinicians(
    ours: dict[str, Any], mappings: Mappings
) -> None:
    """The condition was ours, and our plan no longer has it."""
    now = render(courses.course(), mappings).resources[0][1]
    merged = merge(now, ours, sent=entries(ours), asked="active")
    assert "addresses" not in merged.resource
    assert not merged.foreign


def test_a_clinicians_note_on_one_of_our_sessions_survives(ours: dict[str, Any]) -> None:
    """And our own note on it is not doubled."""
    remote = copy.deepcopy(ours)
    remote["activity"][3]["progress"].append(NOTE)
    merged = merge(ours, remote, sent=entries(ours), asked="active")
    assert [*ours["activity"][3]["progress"], NOTE] == merged.resource["activity"][3]["progress"]
    assert len(ours["activity"]) == len(merged.resource["activity"])


def test_a_reference_that_the_server_made_absolute_is_still_ours(ours: dict[str, Any]) -> None:
    """Some servers answer so."""
    remote = copy.deepcopy(ours)
    remote["goal"] = [{"reference": f"https://ehr.example/fhir/{g['reference']}"} for g in remote["goal"]]
    assert ours["goal"] == merge(ours, remote, sent=entries(ours), asked="active").resource["goal"]


@pytest.mark.parametrize(
    ("asked", "remote", "wanted", "stays"),
    [
        ("active", "active", "completed", None),
        ("active", "completed", "active", "completed"),
        ("active", "revoked", "active", "revoked"),
        ("active", "entered-in-error", "active", "entered-in-error"),
        ("active", "on-hold", "active", "on-hold"),
        ("active", "on-hold", "completed", None),
        ("active", "revoked", "completed", "revoked"),
        ("completed", "completed", "active", None),
        (None, "revoked", "active", "revoked"),
        ("active", "completed", "entered-in-error", None),
        ("active", "unknown", "active", None),
        ("active", "completed", "completed", None),
    ],
)
def test_a_status_that_a_clinician_set_stays(
    asked: str | None, remote: str, wanted: str, stays: str | None, ours: dict[str, Any]
) -> None:
    """Unless it is the one that we asked for before, or the records are withdrawn."""
    merged = merge({**ours, "status": wanted}, {**ours, "status": remote}, sent=entries(ours), asked=asked)
    assert (stays or wanted, stays) == (merged.resource["status"], merged.respected)


@pytest.mark.parametrize("kind", ["CarePlan", "Goal"])
def test_what_a_clinician_ended_stays_ended_though_we_ended_it_too(
    kind: str, ours: dict[str, Any], goal: dict[str, Any]
) -> None:
    """They revoke it, then we want the same, then a late record would reopen it; they alone may."""
    mine, element, over = {"CarePlan": (ours, "status", "revoked"), "Goal": (goal, "lifecycleStatus", "cancelled")}[
        kind
    ]
    ended = {**mine, element: over}
    revoked_by_them = {**ended, "description": {"text": "As it was"} if kind == "Goal" else "As it was"}
    both = merge(ended, revoked_by_them, sent=entries(mine), asked="active")
    assert (over, None, over, True) == (both.resource[element], both.respected, both.theirs, both.foreign)
    again = merge(ended, ended, sent=entries(mine), asked=over, theirs=both.theirs)
    late = merge(mine, ended, sent=entries(mine), asked=over, theirs=again.theirs)
    assert (over, over, over) == (late.resource[element], late.respected, late.theirs)
    reopened = merge(ended, {**mine, element: "active"}, sent=entries(mine), asked="active", theirs=over)
    assert (over, "") == (reopened.resource[element], reopened.theirs)
    lost_answer = merge(ended, ended, sent=entries(mine), asked="active")
    assert "" == lost_answer.theirs
    assert "active" == merge(mine, ended, sent=entries(mine), asked=over).resource[element]


SAFETY = Finding(
    "safety.self-harm-item/x",
    "safety.self-harm-item",
    1,
    Severity.CRITICAL,
    date(2026, 3, 4),
    date(2026, 3, 4),
    (),
    ("QuestionnaireResponse/x",),
    "kroenke-2001",
)


@pytest.mark.parametrize(
    ("role", "asked", "remote", "wanted", "stays"),
    [
        ("task", "requested", "completed", "requested", "completed"),
        ("task", "requested", "completed", "cancelled", "completed"),
        ("task", None, "completed", "requested", "completed"),
        ("task", "requested", "in-progress", "requested", "in-progress"),
        ("task", "requested", "accepted", "requested", "accepted"),
        ("task", "requested", "in-progress", "cancelled", None),
        ("task", "cancelled", "cancelled", "requested", None),
        ("task", "requested", "completed", "entered-in-error", None),
        ("flag", "active", "inactive", "active", "inactive"),
        ("flag", "inactive", "inactive", "active", None),
        ("flag", "active", "active", "inactive", None),
    ],
)
def test_what_a_clinician_did_with_a_task_or_flag_stays(
    mappings: Mappings, role: str, *, asked: str | None, remote: str, wanted: str, stays: str | None
) -> None:
    """Completed, it is never asked for again; taken up, it is theirs; given to another, it stays theirs."""
    course = replace(courses.course(), findings=(SAFETY,), practitioners=("Practitioner/t-1",))
    ours = dict(render(course, mappings).resources)[f"{role}/{SAFETY.id}"]
    theirs = {**ours, "status": remote, "owner": {"reference": "Practitioner/t-2"}, "note": [NOTE]}
    merged = merge({**ours, "status": wanted}, theirs, sent=entries(ours), asked=asked)
    assert (stays or wanted, stays) == (merged.resource["status"], merged.respected)
    assert (theirs["owner"], [NOTE]) == (merged.resource["owner"], merged.resource["note"])


def test_a_clinicians_target_stays_beside_ours(goal: dict[str, Any]) -> None:
    """Sleep, beside the PHQ-9."""
    target = {"measure": {"coding": [{"system": "http://loinc.org", "code": "93832-4"}]}, "detailInteger": 7}
    merged = merge(goal, {**goal, "target": [target, *goal["target"]]}, sent=entries(goal), asked="active")
    assert [*goal["target"], target] == merged.resource["target"]


def test_an_achievement_that_we_no_longer_state_is_taken_back(goal: dict[str, Any]) -> None:
    """An element of ours that our resource lacks goes from the server too."""
    less = {name: value for name, value in goal.items() if name != "achievementStatus"}
    assert "achievementStatus" not in merge(less, goal, sent=entries(goal), asked="active").resource


def test_a_goal_that_the_plan_no_longer_has_is_cancelled(goal: dict[str, Any]) -> None:
    """With all that the server holds of it."""
    found = retired({**goal, "note": [NOTE]}, "cancelled")
    assert found is not None
    assert canonical({**goal, "note": [NOTE], "lifecycleStatus": "cancelled"}) == canonical(found)


@pytest.mark.parametrize("role", [f"task/{SAFETY.id}", f"flag/{SAFETY.id}", "goal/phq-9"])
def test_what_is_entered_in_error_says_nothing_of_what_was_found(mappings: Mappings, role: str) -> None:
    """No text, no reason, no score; it can still be named, and what a clinician added stays."""
    resources = dict(render(replace(courses.course(), findings=(SAFETY,)), mappings).resources)
    ours = resources[role]
    found = retired({**ours, "note": [NOTE]}, "entered-in-error", entries(ours))
    assert found is not None
    assert [NOTE] == found["note"]
    assert (ours["id"], ours["identifier"]) == (found["id"], found["identifier"])
    element = "description" if role.startswith("goal") else "code"
    assert {"text": "Entered in error"} == found[element]
    assert "Entered in error" in found["text"]["div"]
    assert not found.keys() & {"extension", "reasonCode", "achievementStatus", "target", "period", "authoredOn"}
    assert retired(found, "entered-in-error", entries(ours)) is None


@pytest.mark.parametrize(
    ("remote", "status", "changes"),
    [
        ("completed", "cancelled", False),
        ("cancelled", "cancelled", False),
        ("completed", "entered-in-error", True),
    ],
)
def test_a_goal_at_its_end_is_left_alone_unless_withdrawn(
    remote: str, status: str, goal: dict[str, Any], *, changes: bool
) -> None:
    """A clinician completed it: that is its end."""
    assert changes is (retired({**goal, "lifecycleStatus": remote}, status) is not None)
