"""Focus areas: one primary, others beside it, what became of them, and what a diagnosis may suggest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import FocusArea, FocusSpan
from service.outbound.careplan import render
from tests.history import IPT, assessment, choice, course_of, encounter, found, session_form, sessions, week

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

from service.domain.facts import Code

DEATH_IN_FAMILY = Code("http://hl7.org/fhir/sid/icd-10-cm", "Z63.4")
DEPRESSION = Code("http://hl7.org/fhir/sid/icd-10-cm", "F32.1")


def test_what_the_focus_was_before_is_kept(mappings: Mappings) -> None:
    """A dispute that ended in separation, so that the transition became the primary focus."""
    facts = [
        *sessions(6),
        assessment("a-1", week(1), focus="role-dispute", stage="impasse"),
        session_form("s-3", week(2), choice("dispute-stage", "dispute-stage", "dissolution"), of="e-3"),
        assessment("a-2", week(4), focus="role-transition", secondary=["role-dispute"]),
    ]
    course = course_of(facts, week(6), mappings)
    days = [week(number).date() for number in range(7)]
    first, third, second = (f"QuestionnaireResponse/{name}" for name in ("a-1", "s-3", "a-2"))
    assert (
        FocusSpan("role-dispute", True, days[1], days[2], "impasse", first),  # noqa: FBT003 - the primary one
        FocusSpan("role-dispute", True, days[2], days[4], "dissolution", third),  # noqa: FBT003 - the primary one
        FocusSpan("role-transition", True, days[4], None, None, second),  # noqa: FBT003 - the primary one
        FocusSpan("role-dispute", False, days[4], None, "dissolution", second),  # noqa: FBT003 - a secondary one
    ) == course.focus_history
    assert [("role-transition", True), ("role-dispute", False)] == [(a.area, a.primary) for a in course.focus_areas]


def test_the_areas_that_hold_are_the_history_without_an_end(mappings: Mappings) -> None:
    """The two never tell different stories."""
    facts = [*sessions(3), assessment(focus="grief", secondary=["role-transition"])]
    course = course_of(facts, week(3), mappings)
    current = [span for span in course.focus_history if span.until is None]
    assert [FocusArea(s.area, s.primary, s.since, s.stage, s.fact) for s in current] == list(course.focus_areas)


def test_a_diagnosis_suggests_an_area_and_never_sets_it(mappings: Mappings) -> None:
    """For information, while no form names a primary area."""
    course = course_of([encounter("e-1", week(0), reasons=[DEATH_IN_FAMILY])], week(1), mappings)
    (told,) = found(course, "focus.suggested")
    assert {"area": "Grief and loss", "reason": "Disappearance and death of family member"} == dict(told.values)
    assert ("info", ("Encounter/e-1",)) == (told.severity, told.facts)
    assert () == course.focus_areas


def test_a_suggestion_is_closed_once_a_primary_area_is_documented(mappings: Mappings) -> None:
    """Whichever it is: the clinician has chosen."""
    facts = [
        encounter("e-1", week(0), reasons=[DEATH_IN_FAMILY]),
        assessment(authored=week(1), focus="role-transition"),
    ]
    (told,) = found(course_of(facts, week(2), mappings), "focus.suggested")
    assert week(1).date() == told.closed


def test_nothing_is_suggested_after_the_focus_is_documented_or_by_another_diagnosis(mappings: Mappings) -> None:
    """A depression has no focus area of its own."""
    late = [assessment(), *sessions(1), encounter("e-9", week(1), types=[IPT], reasons=[DEATH_IN_FAMILY])]
    other = [encounter("e-1", week(0), reasons=[DEPRESSION])]
    assert [] == [
        each for facts in (late, other) for each in found(course_of(facts, week(2), mappings), "focus.suggested")
    ]


def test_the_goal_of_an_area_tells_therapist_tasks_patient_goals_and_strategies_used(mappings: Mappings) -> None:
    """As the plan's reader sees them, with what the area was before."""
    used = session_form(
        "s-2",
        week(1),
        choice("worked-on", "focus-area", "role-dispute"),
        choice("technique", "technique", "communication-analysis"),
        of="e-2",
    )
    facts = [*sessions(2), assessment(focus="role-dispute", stage="impasse"), used]
    goal = dict(render(course_of(facts, week(2), mappings), mappings).resources)["goal/focus/role-dispute"]
    told = goal["text"]["div"]
    assert "Therapist: stage the dispute: renegotiation, impasse or dissolution; communication analysis." in told
    assert "Patient: identify the dispute; choose a plan; change communication or expectations" in told
    assert "Strategies used: communication analysis 1×." in told
