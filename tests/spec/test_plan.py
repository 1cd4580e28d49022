"""The plan: what it asks of a clinician, until when, why, and what it rests on."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from service.domain.course import Answered, Finding, FindingState, Severity
from service.outbound.careplan import render
from tests import courses

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings

SAFETY = Finding(
    id="safety.self-harm-item/QuestionnaireResponse/qr-9",
    rule="safety.self-harm-item",
    version=2,
    severity=Severity.CRITICAL,
    raised=date(2026, 3, 4),
    due=date(2026, 3, 4),
    values=(("instrument", "PHQ-9"), ("on", "2026-03-04"), ("item", 9), ("score", 2)),
    facts=("QuestionnaireResponse/qr-9",),
    source="kroenke-2001",
)
ROLE = f"task/{SAFETY.id}"
FLAG = f"flag/{SAFETY.id}"


def course(finding: Finding = SAFETY) -> Course:
    """Return a course in its middle phase with this finding alone."""
    return replace(courses.course(), findings=(finding,), practitioners=("Practitioner/dr-1",))


def plan(one: Course, mappings: Mappings) -> dict[str, dict[str, Any]]:
    """Return a plan's resources by role."""
    return dict(render(one, mappings).resources)


def test_the_task_says_who_what_by_when_and_why(mappings: Mappings) -> None:
    """A clinician reads it in the chart's own list of tasks."""
    task = plan(course(), mappings)[ROLE]
    assert {"reference": "Practitioner/dr-1"} == task["owner"]
    assert (
        "PHQ-9 item 9 on self-harm was answered 2 on 4 Mar 2026: contact the patient the same day"
        == (task["description"])
    )
    assert {"period": {"end": "2026-03-04"}} == task["restriction"]
    assert ("requested", "proposal", "stat") == (task["status"], task["intent"], task["priority"])
    assert task["focus"] == {"reference": f"CarePlan/{plan(course(), mappings)['careplan']['id']}"}
    assert "safety.self-harm-item" == task["reasonCode"]["coding"][0]["code"]
    evidence = [part["valueReference"] for part in task["extension"][0]["extension"] if part["url"] == "evidence"]
    assert [{"reference": "QuestionnaireResponse/qr-9"}] == evidence


def test_nobody_is_named_where_several_share_the_course(mappings: Mappings) -> None:
    """Nobody is guessed: the task is the treating therapist's."""
    shared = replace(course(), practitioners=("Practitioner/a", "Practitioner/b"))
    task = plan(shared, mappings)[ROLE]
    assert "owner" not in task
    assert [{"text": "Treating therapist"}] == task["performerType"]


@pytest.mark.parametrize(
    ("state", "answered", "closed", "status", "flag"),
    [
        (FindingState.OPEN, None, None, "requested", "active"),
        (
            FindingState.ANSWERED,
            Answered(date(2026, 3, 5), "Practitioner/dr-1", "Task/t-1"),
            None,
            "completed",
            "inactive",
        ),
        (FindingState.ANSWERED, Answered(date(2026, 3, 5), None, "Encounter/crisis"), None, "cancelled", "inactive"),
        (FindingState.CLOSED, None, date(2026, 3, 11), "cancelled", "inactive"),
    ],
)
def test_only_a_clinician_completes_a_task(  # noqa: PLR0917 - a case, what is expected, and the mappings
    state: FindingState,
    answered: Answered | None,
    closed: date | None,
    status: str,
    flag: str,
    mappings: Mappings,
) -> None:
    """What else answers or closes a finding cancels its Task; the Flag is active until then, and no longer."""
    resources = plan(course(replace(SAFETY, state=state, answered=answered, closed=closed)), mappings)
    assert (status, flag) == (resources[ROLE]["status"], resources[FLAG]["status"])
    assert (state is FindingState.OPEN) is ("end" not in resources[FLAG]["period"])


def test_what_asks_for_no_date_is_no_task(mappings: Mappings) -> None:
    """A note is read in the plan, and nobody has to tick it off; only safety has a Flag."""
    note = replace(SAFETY, id="data.duration/Encounter/e-1", rule="data.duration", severity=Severity.INFO, due=None)
    resources = plan(course(note), mappings)
    assert {"CarePlan", "Goal", "Provenance"} == {each["resourceType"] for each in resources.values()}


def test_provenance_names_the_facts_the_rules_and_the_mappings(mappings: Mappings) -> None:
    """With their versions; and the clock is not in it, so that the same course gives the same plan."""
    one = course()
    resources = plan(one, mappings)
    provenance = resources["provenance"]
    assert f"https://ipt-bridge.org/fhir/mappings/{mappings.digest}" in provenance["policy"]
    assert "https://ipt-bridge.org/fhir/rule/safety.self-harm-item|2" in provenance["policy"]
    facts = {entity["what"]["identifier"]["value"] for entity in provenance["entity"]}
    assert {"QuestionnaireResponse/qr-9", *(measure.fact for measure in one.measures)} <= facts
    others = [f"{each['resourceType']}/{each['id']}" for role, each in resources.items() if role != "provenance"]
    assert others == [target["reference"] for target in provenance["target"]]


def test_a_course_of_maintenance_names_the_plan_that_it_follows(mappings: Mappings) -> None:
    """The finished course keeps its plan; the new one says whose place it takes."""
    finished = courses.course()
    following = replace(courses.course(), id="00000000-0000-5000-8000-000000000001", follows=finished.id)
    careplan = plan(following, mappings)["careplan"]
    assert [{"reference": f"CarePlan/{plan(finished, mappings)['careplan']['id']}"}] == careplan["replaces"]
