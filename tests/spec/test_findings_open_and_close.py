"""The life of a finding: it opens when its condition first holds, may be answered, and closes when it holds no longer.

All of it is told by the facts: a history that is read late tells what the same history told as it was lived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.domain.course import FindingState
from service.domain.projection import project
from tests.history import (
    MONDAY,
    PATIENT,
    PHQ_9,
    THERAPIST,
    assessment,
    coded,
    course_of,
    crisis,
    encounter,
    ending,
    found,
    phq9,
    response,
    sessions,
    task,
    week,
)

if TYPE_CHECKING:
    from service.domain.course import Finding
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings

ALARM = phq9("p-1", week(1), 12, item9=2)
STORY = [assessment(), *sessions(2), ALARM]


def alarm(facts: list[Fact], mappings: Mappings, at: float = 5) -> Finding:
    """Return the one safety finding, as it stands in a week."""
    (safety,) = found(course_of(facts, week(at), mappings), "safety.self-harm-item")
    return safety


def test_a_safety_answer_stays_open_until_somebody_answers_it(mappings: Mappings) -> None:
    """A later questionnaire without it, a session, the end of the course: none of these is an answer."""
    later = [*STORY, phq9("p-2", week(3), 4), *sessions(6), ending("z", week(6), "end")]
    assert (FindingState.OPEN, week(1).date(), week(1).date()) == (
        alarm(later, mappings, 40).state,
        alarm(later, mappings, 40).raised,
        alarm(later, mappings, 40).due,
    )


def test_a_crisis_contact_since_answers_it(mappings: Mappings) -> None:
    """With its day, its practitioner and its encounter."""
    safety = alarm([*STORY, crisis("c-1", week(1.1))], mappings)
    assert FindingState.ANSWERED == safety.state
    assert safety.answered is not None
    assert (week(1.1).date(), THERAPIST, "Encounter/c-1") == (
        safety.answered.on,
        safety.answered.by,
        safety.answered.fact,
    )


@pytest.mark.parametrize("status", ["planned", "cancelled"])
def test_a_crisis_contact_that_was_not_held_answers_nothing(status: str, mappings: Mappings) -> None:
    """Nor does one that came before."""
    held = crisis("c-1", week(1.1))
    missed = encounter("c-1", week(1.1), status=status, types=held.reading.types)  # type: ignore[union-attr]  # an encounter's reading
    assert FindingState.OPEN == alarm([*STORY, missed], mappings).state
    assert FindingState.OPEN == alarm([*STORY, crisis("c-1", week(0.9))], mappings).state


def test_a_completed_task_answers_it(mappings: Mappings) -> None:
    """The clinician's own word, by the Task that the plan put into the chart."""
    course = course_of(STORY, week(5), mappings)
    safety = alarm([*STORY, task(course.id, alarm(STORY, mappings).id, week(1.2))], mappings)
    assert FindingState.ANSWERED == safety.state
    assert safety.answered is not None
    assert (week(1.2).date(), THERAPIST) == (safety.answered.on, safety.answered.by)
    assert safety.answered.fact.startswith("Task/")


def test_one_task_answers_one_finding(mappings: Mappings) -> None:
    """A second answer of the same kind needs its own."""
    again = [*STORY, phq9("p-2", week(2), 12, item9=1)]
    course = course_of(again, week(5), mappings)
    first, _ = found(course, "safety.self-harm-item")
    states = [
        each.state
        for each in found(
            course_of([*again, task(course.id, first.id, week(3))], week(5), mappings), "safety.self-harm-item"
        )
    ]
    assert [FindingState.ANSWERED, FindingState.OPEN] == states


@pytest.mark.parametrize("status", ["requested", "in-progress", "rejected", "cancelled", "entered-in-error"])
def test_a_task_that_is_not_completed_answers_nothing(status: str, mappings: Mappings) -> None:
    """Declined is not dealt with."""
    course = course_of(STORY, week(5), mappings)
    asked = task(course.id, alarm(STORY, mappings).id, week(2), status=status)
    assert FindingState.OPEN == alarm([*STORY, asked], mappings).state


def test_an_answer_counts_from_its_time_on(mappings: Mappings) -> None:
    """A Task that is dated ahead waits, and the projection says for when."""
    course = course_of(STORY, week(5), mappings)
    facts = [*STORY, task(course.id, alarm(STORY, mappings).id, week(2))]
    assert week(2) == project(PATIENT, facts, week(1.9), mappings).next_due
    assert FindingState.OPEN == alarm(facts, mappings, 1.9).state
    assert FindingState.ANSWERED == alarm(facts, mappings, 2).state


def test_an_answer_survives_that_history_comes_late_and_renames_the_course(mappings: Mappings) -> None:
    """An earlier session moves the anchor, and with it the course's id; the clinician's answer still counts."""
    course = course_of(sessions(2), week(5), mappings)
    lived = [*sessions(2), ALARM]
    answered = [*lived, task(course.id, alarm(lived, mappings).id, week(2))]
    late = [*answered, encounter("e-0", week(-1))]
    assert course.id != course_of(late, week(5), mappings).id
    assert FindingState.ANSWERED == alarm(late, mappings).state


def test_when_the_answer_is_taken_back_the_finding_is_open_again(mappings: Mappings) -> None:
    """The crisis contact was entered in error."""
    mistaken = encounter("c-1", week(1.1), status="entered-in-error")
    assert FindingState.OPEN == alarm([*STORY, mistaken], mappings).state


def test_a_left_out_answer_closes_with_the_next_one(mappings: Mappings) -> None:
    """It was asked again."""
    left_out = response("p-1", "http://loinc.org/q/44249-1", week(1), coded(PHQ_9, [1, 1, 1, 1, 1, 1, 1, 1, None]))
    facts = [assessment(), *sessions(3), left_out]
    (missing,) = found(course_of(facts, week(5), mappings), "safety.item-unanswered")
    assert (FindingState.OPEN, None) == (missing.state, missing.closed)
    (missing,) = found(course_of([*facts, phq9("p-2", week(2), 8)], week(5), mappings), "safety.item-unanswered")
    assert (FindingState.CLOSED, week(2).date()) == (missing.state, missing.closed)


def test_an_overrun_initial_phase_closes_when_its_tasks_are_documented(mappings: Mappings) -> None:
    """It opened with the fourth session and names what was missing then."""
    early = assessment("a-1", ticked=["diagnosis-documented", "interpersonal-inventory"])
    course = course_of([*sessions(6), early, assessment("a-2", week(5))], week(6), mappings)
    (overrun,) = found(course, "initial.overrun")
    assert (week(3).date(), week(5).date()) == (overrun.raised, overrun.closed)
    assert "Agreement with the patient" == dict(overrun.values)["missing"]
    assert [week(5).date()] == [each.raised for each in found(course, "initial.complete")]


def test_a_gap_between_sessions_closes_with_the_session_that_ends_it(mappings: Mappings) -> None:
    """Five weeks without a session: a finding after four, over with the next."""
    facts = [assessment(), *sessions(2), encounter("e-9", week(6))]
    (gap,) = found(course_of(facts, week(6.5), mappings), "course.stalled")
    assert (week(5).date(), week(6).date(), FindingState.CLOSED) == (gap.raised, gap.closed, gap.state)


def test_who_comes_back_had_not_dropped_out(mappings: Mappings) -> None:
    """Ten weeks without a session looked like it after eight."""
    facts = [assessment(), *sessions(2), encounter("e-9", week(11))]
    before = course_of(facts[:-1], week(10), mappings)
    assert [(week(9).date(), None)] == [(each.raised, each.closed) for each in found(before, "course.dropout")]
    (gap,) = found(course_of(facts, week(11.5), mappings), "course.dropout")
    assert (week(9).date(), week(11).date(), FindingState.CLOSED) == (gap.raised, gap.closed, gap.state)


def test_an_answered_finding_that_no_longer_holds_is_closed_and_keeps_its_answer(mappings: Mappings) -> None:
    """A review that was done, and an improvement since."""
    slow = [assessment(), *sessions(6), phq9("p-1", MONDAY, 18), phq9("p-2", week(3), 17)]
    course = course_of(slow, week(3.5), mappings)
    (look,) = found(course, "review.soft")
    facts = [*slow, task(course.id, look.id, week(3.6)), phq9("p-3", week(5), 9)]
    (look,) = found(course_of(facts, week(5.5), mappings), "review.soft")
    assert (FindingState.CLOSED, week(5).date()) == (look.state, look.closed)
    assert look.answered is not None
    assert week(3.6).date() == look.answered.on


def test_what_closed_can_still_be_read_but_asks_for_nothing(mappings: Mappings) -> None:
    """It stays in the course, so that its Task can end in place."""
    facts = [assessment(), *sessions(12), ending("z", week(12), "end")]
    course = course_of(facts, week(13), mappings)
    assert {FindingState.CLOSED} == {each.state for each in course.findings}
    assert {"initial.complete", "ending.due", "sessions.used-up"} == {each.rule for each in course.findings}
