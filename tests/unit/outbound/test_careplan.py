"""The plan of a course: what a clinician's EHR is told."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from service.domain import state
from service.domain.course import Decision, FocusArea, Phase, SessionState
from service.domain.facts import Code
from service.outbound.careplan import bundle, render, retract
from service.outbound.elements import instant
from service.outbound.models import InvalidPlan
from tests import courses

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.sandbox.validator import Validator

OURS = "https://ipt-bridge.org/fhir"
LABEL = Code("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "R")
each_state = pytest.mark.parametrize("course", courses.states().values(), ids=courses.states())


def careplan(course: Course, mappings: Mappings) -> dict[str, Any]:
    """Return the CarePlan of a course."""
    return render(course, mappings).resources[0][1]


def goals(course: Course, mappings: Mappings) -> dict[str, dict[str, Any]]:
    """Return the Goals of a course by role."""
    return {role: body for role, body in render(course, mappings).resources if body["resourceType"] == "Goal"}


@each_state
def test_plan_is_valid_with_our_definitions_and_no_others(
    course: Course, mappings: Mappings, validator: Validator
) -> None:
    """The resources alone, and the Bundle that a topic carries."""
    for plan in (render(course, mappings), retract(course, mappings)):
        for body in (bundle(plan), *(orjson.dumps(resource) for _, resource in plan.resources)):
            assert [] == [issue for issue in validator.validate(body) if issue.is_error]


@each_state
def test_a_stored_course_gives_the_same_bytes(course: Course, mappings: Mappings) -> None:
    """A plan is rendered from the course as it was stored, maybe long after."""
    assert bundle(render(course, mappings)) == bundle(render(state.load(state.dump(course)), mappings))


@each_state
def test_carries_what_us_core_asks_of_a_careplan_and_its_goals(course: Course, mappings: Mappings) -> None:
    """US Core 6.1 to 8.0: mandatory elements, and those that must be supported."""
    plan = careplan(course, mappings)
    assert {"text", "status", "intent", "category", "subject"} <= plan.keys()
    assert "additional" == plan["text"]["status"]
    assert "assess-plan" in [coding["code"] for category in plan["category"] for coding in category["coding"]]
    for goal in goals(course, mappings).values():
        assert {"lifecycleStatus", "description", "subject", "startDate"} <= goal.keys()


def test_every_resource_has_the_courses_identifier_and_security_labels(mappings: Mappings) -> None:
    """A label of one fact holds for all that is told of the course."""
    course = courses.course(labels=(LABEL,))
    for role, resource in render(course, mappings).resources:
        value = course.id if role == "careplan" else f"{course.id}/{role}"
        if resource["resourceType"] != "Provenance":  # it can have none
            assert [{"system": f"{OURS}/course", "value": value}] == resource["identifier"]
        assert [{"system": LABEL.system, "code": LABEL.code}] == resource["meta"]["security"]


def test_practitioner_is_named_as_the_ehr_names_them(mappings: Mappings) -> None:
    """By reference, or by the identifier that is all it gives."""
    named = ("Practitioner/a", "Practitioner?identifier=urn:npi|17", "Practitioner?identifier=|x")

    assert [
        {"reference": "Practitioner/a"},
        {"identifier": {"system": "urn:npi", "value": "17"}},
        {"identifier": {"value": "x"}},
    ] == careplan(courses.course(practitioners=named), mappings)["contributor"]


def test_names_every_goal_that_goes_with_it(mappings: Mappings) -> None:
    """In the same order."""
    course = courses.course()
    expected = [f"Goal/{goal['id']}" for goal in goals(course, mappings).values()]
    assert expected == [reference["reference"] for reference in careplan(course, mappings)["goal"]]


@pytest.mark.parametrize(
    ("phase", "decision", "status"),
    [
        (Phase.INITIAL, None, "active"),
        (Phase.MAINTENANCE, Decision.MAINTENANCE, "active"),
        (Phase.CLOSED, Decision.END, "completed"),
        (Phase.CLOSED, None, "revoked"),
    ],
)
def test_status_follows_the_phase_and_how_it_ended(
    phase: Phase, decision: Decision | None, status: str, mappings: Mappings
) -> None:
    """Maintenance is still a plan; a course without a documented ending was not completed."""
    ended = courses.ending(decision) if decision else None
    assert status == careplan(courses.course(phase=phase, ending=ended), mappings)["status"]


@pytest.mark.parametrize(
    ("what", "status", "reason"),
    [
        (SessionState.PLANNED, "scheduled", None),
        (SessionState.IN_PROGRESS, "in-progress", None),
        (SessionState.CANCELLED, "cancelled", "cancelled"),
        (SessionState.NO_SHOW, "cancelled", "no-show"),
        (SessionState.UNRECORDED, "unknown", "unrecorded"),
    ],
)
def test_a_session_that_was_not_held_says_why(
    what: SessionState, status: str, reason: str | None, mappings: Mappings
) -> None:
    """FHIR has no status for a patient who did not come."""
    course = courses.course(sessions=(courses.not_held(1, what),))
    detail = careplan(course, mappings)["activity"][0]["detail"]
    assert status == detail["status"]
    assert reason == (detail["statusReason"]["coding"][0]["code"] if reason else detail.get("statusReason"))
    assert "extension" not in detail


def test_a_held_session_tells_its_number_time_sources_and_work(mappings: Mappings) -> None:
    """Everything that a form coded, and the records that it comes from."""
    activity = careplan(courses.course(), mappings)["activity"][3]
    detail = activity["detail"]
    assert "completed" == detail["status"]
    assert "Session 4, middle phase, 50 minutes" == detail["description"]
    assert ["443730003", "session"] == [coding["code"] for coding in detail["code"]["coding"]]
    assert {"start": "2026-01-27T09:00:00+00:00", "end": "2026-01-27T09:50:00+00:00"} == detail["scheduledPeriod"]
    assert {f"{OURS}/StructureDefinition/session-number": 4} == {
        extension["url"]: extension["valuePositiveInt"]
        for extension in detail["extension"]
        if "valuePositiveInt" in extension
    }
    assert ["Encounter/e-4", "QuestionnaireResponse/f-4"] == [r["reference"] for r in activity["outcomeReference"]]
    expected = "Worked on: interpersonal dispute. Techniques: communication analysis."
    assert expected == activity["progress"][0]["text"]


def test_a_session_on_the_focus_area_works_toward_its_goal(mappings: Mappings) -> None:
    """So that an EHR shows the session under the goal."""
    course = courses.course()
    goal = goals(course, mappings)["goal/focus/role-dispute"]
    detail = careplan(course, mappings)["activity"][3]["detail"]
    assert [{"reference": f"Goal/{goal['id']}"}] == detail["goal"]


def test_a_session_without_documentation_has_no_progress_note(mappings: Mappings) -> None:
    """Nothing coded, nothing said."""
    assert "progress" not in careplan(courses.course(), mappings)["activity"][0]


@pytest.mark.parametrize(
    ("first", "latest", "reliable", "weeks", "achievement"),
    [
        (17, 17, 0, 0, "in-progress"),
        (17, 15, 0, 8, "no-change"),
        (17, 11, -1, 8, "improving"),
        (12, 19, 1, 8, "worsening"),
        (17, 9, -1, 8, "achieved"),
        (12, 9, 0, 8, "achieved"),
    ],
)
def test_symptom_goal_follows_the_measure(  # noqa: PLR0917 - one example has these numbers
    first: int, latest: int, reliable: int, weeks: int, achievement: str, mappings: Mappings
) -> None:
    """Against the case threshold of the instrument: 10 for PHQ-9."""
    course = courses.course(
        measures=(courses.measure("phq-9", 0, first), courses.measure("phq-9", weeks, latest)),
        changes=(courses.change("phq-9", first, latest, weeks=weeks, reliable=reliable),),
    )
    goal = goals(course, mappings)["goal/phq-9"]
    assert achievement == goal["achievementStatus"]["coding"][0]["code"]
    assert "active" == goal["lifecycleStatus"]
    target = goal["target"][0]
    assert "44261-6" == target["measure"]["coding"][0]["code"]
    assert (10, "<", "{score}") == tuple(target["detailQuantity"][name] for name in ("value", "comparator", "code"))
    assert "2026-03-24" == target["dueDate"]


def test_a_symptom_goal_that_was_not_reached_says_so_when_the_course_is_closed(mappings: Mappings) -> None:
    """GAD-7 12 at the end is a case still."""
    found = goals(courses.states()["closed"], mappings)
    assert "not-achieved" == found["goal/gad-7"]["achievementStatus"]["coding"][0]["code"]
    assert {"completed"} == {goal["lifecycleStatus"] for goal in found.values()}


def test_a_patient_who_never_was_a_case_has_no_symptom_goal(mappings: Mappings) -> None:
    """A target below the threshold would be reached from the start."""
    mild = courses.course(measures=(courses.measure("phq-9", 0, 7),), changes=(courses.change("phq-9", 7, 5),))
    expected = ["goal/focus/role-dispute", "goal/focus/communication-patterns", "goal/patient/express-needs"]
    assert expected == list(goals(mild, mappings))


def test_another_focus_area_is_another_goal(mappings: Mappings) -> None:
    """Not the old one reworded: the old one was pursued until then."""
    course = courses.course()
    changed = courses.course(focus_areas=tuple(reversed(course.focus_areas)))
    other = courses.course(
        focus_areas=(FocusArea("grief", True, date(2026, 2, 3), None, "QuestionnaireResponse/b"),),  # noqa: FBT003 - the primary one
    )
    ids = [
        {goal["id"] for role, goal in goals(each, mappings).items() if role.startswith("goal/focus/")}
        for each in (course, changed, other)
    ]
    assert ids[0] == ids[1]
    assert not ids[0] & ids[2]


def test_a_finding_carries_its_rule_sentence_and_evidence(mappings: Mappings) -> None:
    """So that it can be followed back to the records."""
    url = f"{OURS}/StructureDefinition/finding"
    found = next(e for e in careplan(courses.course(), mappings)["extension"] if e["url"] == url)
    said = {part["url"]: part for part in found["extension"] if part["url"] != "evidence"}
    assert "review.firm" == said["rule"]["valueCodeableConcept"]["coding"][0]["code"]
    assert ("2026-02-24", "2026-03-03") == (said["raised"]["valueDate"], said["due"]["valueDate"])
    assert said["sentence"]["valueString"].startswith("PHQ-9 17 → 17, no reliable improvement")
    evidence = [p["valueReference"]["reference"] for p in found["extension"] if p["url"] == "evidence"]
    assert ["Encounter/e-8", "QuestionnaireResponse/phq-9-0", "QuestionnaireResponse/phq-9-8"] == evidence


def test_a_withdrawn_course_is_entered_in_error_and_tells_nothing_of_it(mappings: Mappings) -> None:
    """The records it rested on are gone; sessions, scores and findings go with them."""
    plan, *others = [resource for _, resource in retract(courses.course(), mappings).resources]
    assert "entered-in-error" == plan["status"]
    assert not plan.keys() & {"activity", "extension", "description", "contributor"}
    assert "PHQ-9" not in plan["text"]["div"]
    assert {"entered-in-error"} == {each.get("lifecycleStatus", each.get("status")) for each in others}
    asked = [each for each in others if each["resourceType"] in {"Task", "Flag"}]
    assert asked
    assert not [each for each in asked if each.keys() & {"extension", "description", "reasonCode", "period"}]
    assert {"Entered in error"} == {each["code"]["text"] for each in asked}
    assert careplan(courses.course(), mappings)["id"] == plan["id"]


def test_the_bundle_holds_the_careplan_first_under_ids_of_its_own(mappings: Mappings) -> None:
    """A consumer of the topic finds everything in one record."""
    plan = render(courses.course(), mappings)
    sent = orjson.loads(bundle(plan))
    assert ("collection", plan.course_id) == (sent["type"], sent["identifier"]["value"])
    assert [resource for _, resource in plan.resources] == [entry["resource"] for entry in sent["entry"]]
    assert [f"urn:uuid:{resource['id']}" for _, resource in plan.resources] == [e["fullUrl"] for e in sent["entry"]]


def test_what_is_not_valid_fhir_is_named_by_its_path_alone(mappings: Mappings) -> None:
    """A label's code that is no FHIR code; its value stays out of the message."""
    with pytest.raises(InvalidPlan) as caught:
        render(courses.course(labels=(Code("urn:x", " secret "),)), mappings)
    assert "The CarePlan of a course is not valid FHIR at meta.security.0.code. Look at its source data." == str(
        caught.value
    )


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (timezone(timedelta(hours=-5)), "2026-01-06T09:00:00-05:00"),
        (timezone(timedelta(minutes=53, seconds=28)), "2026-01-06T08:06:32+00:00"),
        (None, "2026-01-06T09:00:00+00:00"),
    ],
)
def test_a_time_keeps_its_offset_where_fhir_can_write_it(offset: timezone | None, expected: str) -> None:
    """Historic offsets of some zones have seconds, which FHIR has not."""
    assert expected == instant(datetime(2026, 1, 6, 9, 0, 0, 123456, offset))
