"""What a clinician does to a plan in an EHR: told in the course, and never what decides it."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from service.domain.course import FindingState, Phase, Severity
from service.domain.facts import merge
from service.domain.projection import project
from service.domain.state import dump
from service.outbound.explain import explain
from service.outbound.wording import sentence
from tests.history import PATIENT, act, assessment, course_of, ending, found, sessions, week

if TYPE_CHECKING:
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings

STORY = [assessment(), *sessions(4)]
LATER = week(10)


def test_a_plan_ended_in_the_ehr_is_told_and_closes_nothing(mappings: Mappings) -> None:
    """For information, from the day of that version on, with the fact that tells of it; the phase stays."""
    before = course_of(STORY, LATER, mappings)
    course = course_of([*STORY, act("careplan", "revoked", week(5), course=before.id)], LATER, mappings)
    (told,) = found(course, "ehr.plan-ended")
    assert (Severity.INFO, FindingState.OPEN, week(5).date(), ("CarePlan/ehr.careplan",), None) == (
        told.severity,
        told.state,
        told.raised,
        told.facts,
        told.due,
    )
    assert (before.phase, None) == (course.phase, course.closed)
    assert Phase.CLOSED is not course.phase
    expected = "the plan was ended (revoked) in the EHR on 9 Feb 2026, by the record there (ehr), and stays so"
    assert sentence(told, mappings).startswith(expected)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("completed", "ended (completed)"),
        ("on-hold", "put on hold"),
        ("entered-in-error", "marked as entered in error"),
    ],
)
def test_each_way_to_end_a_plan_is_named(status: str, said: str, mappings: Mappings) -> None:
    """The clinician who reads it knows what was done."""
    (told,) = found(course_of([*STORY, act("careplan", status, week(5))], LATER, mappings), "ehr.plan-ended")
    assert said == dict(told.values)["did"]


@pytest.mark.parametrize(
    ("role", "about"),
    [("goal/phq-9", "PHQ-9"), ("goal/focus/grief", "Grief and loss"), ("goal/unheard-of", "unheard-of")],
)
def test_a_rejected_goal_is_told_by_what_it_is_about(role: str, about: str, mappings: Mappings) -> None:
    """An instrument, a focus area; a role that nobody knows any longer by itself."""
    (told,) = found(course_of([*STORY, act(role, "rejected", week(5))], LATER, mappings), "ehr.goal-ended")
    assert ("rejected", about) == (dict(told.values)["did"], dict(told.values)["goal"])


def test_it_shows_where_a_course_is_explained(mappings: Mappings) -> None:
    """As every finding does, with the fact it rests on."""
    course = course_of([*STORY, act("careplan", "completed", week(5))], LATER, mappings)
    assert "Plan ended in the EHR" in repr(explain(course, mappings))
    assert "CarePlan/ehr.careplan" in repr(explain(course, mappings))


def test_a_plan_taken_up_again_has_nothing_to_tell(mappings: Mappings) -> None:
    """The newer version counts, in whatever order the two arrive, and however often."""
    ended, again = act("careplan", "revoked", week(5)), act("careplan", "active", week(6), version=2)
    for one, other in permutations([ended, again]):
        newest = merge(merge(one, other), one)
        assert [] == found(course_of([*STORY, newest], LATER, mappings), "ehr.plan-ended")


def test_the_order_of_facts_does_not_matter(mappings: Mappings) -> None:
    """Two destinations' acts among the rest."""
    acts = [act("careplan", "revoked", week(5)), act("goal/phq-9", "rejected", week(5))]
    facts: list[Fact] = [*STORY, *acts]
    assert dump(course_of(facts, LATER, mappings)) == dump(course_of(facts[::-1], LATER, mappings))


def test_the_ending_form_closes_what_is_told(mappings: Mappings) -> None:
    """Then plan and EHR agree; what is done to a plan whose course is closed is nothing new."""
    facts = [*STORY, ending("z", week(7), "end")]
    (told,) = found(course_of([*facts, act("careplan", "revoked", week(5))], LATER, mappings), "ehr.plan-ended")
    assert (FindingState.CLOSED, week(7).date()) == (told.state, told.closed)
    after = course_of([*facts, act("careplan", "completed", week(8))], LATER, mappings)
    assert [] == found(after, "ehr.plan-ended")


def test_acts_alone_make_no_course(mappings: Mappings) -> None:
    """A course begins with a session or a form."""
    assert () == project(PATIENT, [act("careplan", "revoked", week(5))], LATER, mappings).courses


def test_an_act_ahead_counts_from_its_instant_on(mappings: Mappings) -> None:
    """Clocks of servers differ: the course says when it is next to be projected."""
    facts = [*STORY, act("careplan", "revoked", week(5))]
    early = project(PATIENT, facts, week(4.5), mappings)
    assert [] == found(early.courses[0], "ehr.plan-ended")
    assert early.next_due is not None
    assert early.next_due <= week(5)


@pytest.mark.parametrize(
    ("role", "edited", "what", "elements"),
    [
        ("careplan", ("CarePlan.activity", "CarePlan.title"), "the plan", "its title (CarePlan.title)"),
        ("goal/phq-9", ("Goal.target",), "the goal about PHQ-9", "its target (Goal.target)"),
        ("task/review.firm", ("Task.priority",), "the task about Firm review", "its priority (Task.priority)"),
        ("flag/safety.self-harm-item/x", ("Flag.code",), "the flag about ", "what it is about (Flag.code)"),
        ("goal/phq-9", ("Goal.unheardOf",), "the goal about PHQ-9", "Goal.unheardOf"),
    ],
)
def test_an_element_that_is_left_as_edited_is_told_by_what_it_says(
    role: str, edited: tuple[str, ...], what: str, elements: str, mappings: Mappings
) -> None:
    """For information, with the fact that tells of it; nothing of what was written there."""
    edit = act(role, "", week(5), edited=edited)
    course = course_of([*STORY, edit], LATER, mappings)
    (told,) = found(course, "ehr.edited")
    assert (Severity.INFO, FindingState.OPEN, week(5).date(), (edit.key.reference,)) == (
        told.severity,
        told.state,
        told.raised,
        told.facts,
    )
    said = sentence(told, mappings)
    assert said.startswith(f"in {what}")
    assert elements in said
    assert edit.key.reference in repr(explain(course, mappings))


def test_an_edit_that_is_ours_again_has_nothing_to_tell(mappings: Mappings) -> None:
    """In whatever order the two arrive; an end that is told beside it stays, as of the day on which it came."""
    ended = act("careplan", "revoked", week(4))
    edited = act("careplan", "", week(5), edited=("CarePlan.title",))
    again = act("careplan", "", week(6), version=2, edited=())
    before = course_of([*STORY, ended, edited], LATER, mappings)
    assert ([week(4).date()], [week(5).date()]) == (
        [each.raised for each in found(before, "ehr.plan-ended")],
        [each.raised for each in found(before, "ehr.edited")],
    )
    for one, other in permutations([edited, again]):
        course = course_of([*STORY, ended, merge(one, other)], LATER, mappings)
        assert [] == found(course, "ehr.edited")
        assert [week(4).date()] == [each.raised for each in found(course, "ehr.plan-ended")]


def test_an_edit_is_closed_with_the_course(mappings: Mappings) -> None:
    """What is changed in a plan whose course is closed is nothing new."""
    facts = [*STORY, ending("z", week(7), "end")]
    before = course_of([*facts, act("careplan", "", week(5), edited=("CarePlan.title",))], LATER, mappings)
    (told,) = found(before, "ehr.edited")
    assert (FindingState.CLOSED, week(7).date()) == (told.state, told.closed)
    after = course_of([*facts, act("careplan", "", week(8), edited=("CarePlan.title",))], LATER, mappings)
    assert [] == found(after, "ehr.edited")
