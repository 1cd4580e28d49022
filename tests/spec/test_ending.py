"""The ending: when it is due, how the course is classed before it, and what is proposed to the clinician.

By the PHQ-9 (ICSI 2016): remission below 5 points; response, half or more of the first total gone; partial
response, a quarter or more; else none. A proposal is none of the engine's decisions: an ending form decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.domain.course import Classification, Decision, FindingState, Phase
from tests.history import THERAPIST, assessment, course_of, ending, found, gad7, phq9, sessions, week

if TYPE_CHECKING:
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings


def treated(first: int, latest: int, *, held: int = 10, planned: int = 12) -> list[Fact]:
    """Return a course with a PHQ-9 in the first and the ninth week."""
    return [assessment(planned=planned), *sessions(held), phq9("p-1", week(0), first), phq9("p-2", week(8), latest)]


def test_the_ending_is_due_when_three_sessions_remain(mappings: Mappings) -> None:
    """Nine of twelve held; with the twelfth the sessions are used up, and that is said instead."""
    assert [] == found(course_of([assessment(), *sessions(8)], week(7.5), mappings), "ending.due")
    (due,) = found(course_of([assessment(), *sessions(11)], week(10.5), mappings), "ending.due")
    assert (week(8).date(), None) == (due.raised, due.closed)
    assert {"held": 11, "planned": 12, "remaining": 1} == dict(due.values)
    course = course_of([assessment(), *sessions(12)], week(11.5), mappings)
    (due,), (used_up,) = found(course, "ending.due"), found(course, "sessions.used-up")
    assert week(11).date() == due.closed == used_up.raised


def test_a_new_agreement_on_more_sessions_closes_what_the_old_number_opened(mappings: Mappings) -> None:
    """Continued from twelve to sixteen: the ending is due again with the thirteenth."""
    facts = [assessment(), *sessions(13), ending("z", week(11.01), "continue", planned=16)]
    course = course_of(facts, week(12.5), mappings)
    assert [(week(8).date(), week(11).date()), (week(12).date(), None)] == [
        (each.raised, each.closed) for each in found(course, "ending.due")
    ]
    # Used up with the twelfth session, and agreed anew the same day.
    assert [] == found(course, "sessions.used-up")


@pytest.mark.parametrize(
    ("first", "latest", "classification", "proposal"),
    [
        (18, 4, Classification.REMISSION, Decision.END),
        (18, 5, Classification.RESPONSE, Decision.MAINTENANCE),
        (18, 9, Classification.RESPONSE, Decision.MAINTENANCE),
        (18, 10, Classification.PARTIAL_RESPONSE, Decision.CONTINUE),
        (20, 15, Classification.PARTIAL_RESPONSE, Decision.CONTINUE),
        (20, 16, Classification.NON_RESPONSE, Decision.END),
        (14, 20, Classification.NON_RESPONSE, Decision.END),
    ],
)
def test_before_the_ending_a_course_is_classed_by_its_measures(
    first: int, latest: int, classification: Classification, proposal: Decision, mappings: Mappings
) -> None:
    """Each with its proposal, and with the measures that it rests on."""
    outcome = course_of(treated(first, latest), week(9.5), mappings).outcome
    assert outcome is not None
    assert (classification, proposal, "phq-9") == (outcome.classification, outcome.proposal, outcome.instrument)
    assert ("QuestionnaireResponse/p-1", "QuestionnaireResponse/p-2") == outcome.facts


def test_no_response_offers_other_treatment(mappings: Mappings) -> None:
    """The therapy failed, not the patient."""
    (classed,) = found(course_of(treated(20, 19), week(9.5), mappings), "ending.classification")
    assert "end and offer other treatment: the therapy failed, not the patient" == dict(classed.values)["proposal"]


def test_no_course_is_classed_before_its_ending_is_due(mappings: Mappings) -> None:
    """In the middle of the treatment there is no outcome yet."""
    course = course_of(treated(18, 4, planned=16), week(9.5), mappings)
    assert (None, []) == (course.outcome, found(course, "ending.classification"))


def test_no_course_is_classed_by_one_measure_or_from_below_the_clinical_range(mappings: Mappings) -> None:
    """Nothing is known of its change, or there was no case to begin with; the GAD-7 has no published outcomes."""
    once = [assessment(), *sessions(10), phq9("p-1", week(0), 18)]
    anxious = [*treated(9, 3), gad7("g-1", week(0), 15), gad7("g-2", week(8), 2)]
    for facts in (once, treated(9, 3), anxious):
        assert course_of(facts, week(9.5), mappings).outcome is None


def test_the_class_follows_the_measures_until_the_end(mappings: Mappings) -> None:
    """What it was before is closed, with the measure that changed it."""
    facts = [*treated(18, 10, held=12), phq9("p-3", week(10), 8)]
    classed = found(course_of(facts, week(11.5), mappings), "ending.classification")
    assert [
        ("Partial response", week(8).date(), week(10).date()),
        ("Response", week(10).date(), None),
    ] == [(dict(each.values)["outcome"], each.raised, each.closed) for each in classed]


def test_an_ending_form_answers_the_proposal(mappings: Mappings) -> None:
    """Whatever it decides: the clinician has seen it."""
    facts = [*treated(18, 4, held=12), ending("z", week(11.01), "end")]
    (classed,) = found(course_of(facts, week(12), mappings), "ending.classification")
    assert FindingState.ANSWERED == classed.state
    answered = classed.answered
    assert answered is not None
    assert (week(11).date(), THERAPIST, "QuestionnaireResponse/z") == (answered.on, answered.by, answered.fact)


def test_used_up_sessions_carry_the_proposal(mappings: Mappings) -> None:
    """What a clinician has to decide, with what speaks for it; without measures, the question alone."""
    (used_up,) = found(course_of(treated(18, 10, held=12), week(11.5), mappings), "sessions.used-up")
    assert "; by the measures: continue by a new, explicit agreement" == dict(used_up.values)["proposal"]
    (used_up,) = found(course_of([assessment(), *sessions(12)], week(11.5), mappings), "sessions.used-up")
    assert "" == dict(used_up.values)["proposal"]


def test_a_measure_moves_no_phase_and_ends_no_course(mappings: Mappings) -> None:
    """Remission is a statement; the course goes on until a clinician ends it."""
    course = course_of(treated(18, 0, held=12), week(11.5), mappings)
    assert (Phase.ENDING, None) == (course.phase, course.closed)


def test_a_course_that_ends_early_has_an_outcome_too(mappings: Mappings) -> None:
    """Seven sessions remained when the treatment was stopped."""
    facts = [*treated(20, 15, held=9, planned=16), ending("z", week(9), "end")]
    outcome = course_of(facts, week(12), mappings).outcome
    assert outcome is not None
    assert (Classification.PARTIAL_RESPONSE, week(9).date()) == (outcome.classification, outcome.on)


def test_nothing_that_comes_after_the_end_changes_the_outcome(mappings: Mappings) -> None:
    """A measure of a later time, or a session, belongs to what came after."""
    facts = [*treated(18, 4, held=12), ending("z", week(11.01), "end")]
    ended = course_of(facts, week(30), mappings)
    later = course_of([*facts, phq9("p-9", week(14), 20), *sessions(15)], week(30), mappings)
    assert ended.outcome is not None
    assert ended.outcome == later.outcome


def test_a_correction_of_what_came_before_the_end_does_change_it(mappings: Mappings) -> None:
    """The outcome rests on the facts as they are known."""
    facts = [*treated(18, 4, held=12), ending("z", week(11.01), "end")]
    outcome = course_of([*facts, phq9("p-3", week(11), 12)], week(30), mappings).outcome
    assert outcome is not None
    assert Classification.PARTIAL_RESPONSE == outcome.classification
