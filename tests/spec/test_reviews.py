"""Reviews of progress: an early look, and a review.

By session 4 or week 4, whichever comes first, less than 20 % improvement asks for a look; by session 8 or week 8,
less than 25 % or no reliable improvement asks for a review of focus, frequency and medication (ICSI 2016: for
psychotherapy 8 to 10 weeks). Some respond late: a look is a prompt, never a verdict.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from service.domain.course import FindingState
from service.domain.projection import project
from tests.history import PATIENT, assessment, course_of, encounter, ending, found, gad7, phq9, phq9m, sessions, week

if TYPE_CHECKING:
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings

MOMENT = timedelta(seconds=1)


def fortnightly(count: int) -> list[Fact]:
    """Return held sessions, one every other week."""
    return [encounter(f"e-{number}", week(2 * number)) for number in range(count)]


@pytest.mark.parametrize(("latest", "asked"), [(17, True), (16, False)])
def test_less_than_a_fifth_by_session_four_asks_for_a_look(latest: int, *, asked: bool, mappings: Mappings) -> None:
    """Twenty points at the start, seventeen now: 15 %; sixteen would be 20 %."""
    facts = [assessment(), *sessions(4), phq9("p-1", week(0), 20), phq9("p-2", week(3), latest)]
    looks = found(course_of(facts, week(3.5), mappings), "review.soft")
    assert [(week(3).date(), "session 4")] * asked == [(each.raised, dict(each.values)["by"]) for each in looks]


def test_the_look_falls_due_in_week_four_when_sessions_are_few(mappings: Mappings) -> None:
    """Two sessions in four weeks: time alone brings it, at the instant that the projection announced."""
    facts = [assessment(), *fortnightly(2), phq9("p-1", week(0), 20), phq9("p-2", week(2), 18)]
    before = project(PATIENT, facts, week(4) - MOMENT, mappings)
    assert week(4) == before.next_due
    assert [] == found(before.courses[0], "review.soft")
    (look,) = found(course_of(facts, week(4), mappings), "review.soft")
    assert (week(4).date(), "week 4") == (look.raised, dict(look.values)["by"])


def test_the_look_keeps_its_day_as_sessions_and_weeks_go_by(mappings: Mappings) -> None:
    """Raised once, in week 4; the fourth session three weeks later does not raise it again."""
    facts = [assessment(), *fortnightly(4), phq9("p-1", week(0), 20), phq9("p-2", week(6), 18)]
    assert [week(4).date()] == [each.raised for each in found(course_of(facts, week(7), mappings), "review.soft")]


def test_the_look_closes_when_a_measure_shows_enough_improvement(mappings: Mappings) -> None:
    """On that measure's day; a total that wavers afterwards asks for no second look."""
    facts = [assessment(), *sessions(7), phq9("p-1", week(0), 20)]
    facts += [phq9("p-2", week(3), 18), phq9("p-3", week(4), 14), phq9("p-4", week(5), 18)]
    (look,) = found(course_of(facts, week(6.5), mappings), "review.soft")
    assert (week(3).date(), week(4).date(), FindingState.CLOSED) == (look.raised, look.closed, look.state)


def test_the_review_takes_the_place_of_the_look(mappings: Mappings) -> None:
    """By session eight, due within a week."""
    facts = [assessment(), *sessions(8), phq9("p-1", week(0), 17), phq9("p-2", week(7), 16)]
    course = course_of(facts, week(7.5), mappings)
    (look,), (review,) = found(course, "review.soft"), found(course, "review.firm")
    assert week(7).date() == look.closed == review.raised
    assert (week(8).date(), FindingState.OPEN, "session 8") == (review.due, review.state, dict(review.values)["by"])
    assert {"QuestionnaireResponse/p-1", "QuestionnaireResponse/p-2", "Encounter/e-8"} <= set(review.facts)


def test_the_review_falls_due_in_week_eight_whatever_was_held(mappings: Mappings) -> None:
    """Five sessions in eight weeks."""
    facts = [assessment(), *fortnightly(5), phq9("p-1", week(0), 17), phq9("p-2", week(6), 16)]
    assert [] == found(course_of(facts, week(8) - MOMENT, mappings), "review.firm")
    (review,) = found(course_of(facts, week(8), mappings), "review.firm")
    assert (week(8).date(), "week 8") == (review.raised, dict(review.values)["by"])


@pytest.mark.parametrize(("first", "latest", "asked"), [(12, 7, True), (26, 20, True), (24, 18, False)])
def test_the_review_asks_for_reliable_improvement_and_a_quarter(
    first: int, latest: int, *, asked: bool, mappings: Mappings
) -> None:
    """Five of twelve points are many and not reliable; six of twenty-six are reliable and few."""
    facts = [assessment(), *sessions(8), phq9("p-1", week(0), first), phq9("p-2", week(7), latest)]
    assert asked == bool(found(course_of(facts, week(7.5), mappings), "review.firm"))


@pytest.mark.parametrize(("latest", "asked"), [(16, True), (15, False)])
def test_a_measure_without_a_published_reliable_change_is_reviewed_by_the_quarter_alone(
    latest: int, *, asked: bool, mappings: Mappings
) -> None:
    """PHQ-9M of an adolescent: from twenty points, fifteen are a quarter fewer."""
    facts = [assessment(protocol="adolescent"), *sessions(8), phq9m("p-1", week(0), 20), phq9m("p-2", week(7), latest)]
    reviews = found(course_of(facts, week(7.5), mappings), "review.firm")
    assert ["PHQ-9M"] * asked == [dict(each.values)["instrument"] for each in reviews]


def test_the_review_closes_with_the_improvement_and_opens_anew_if_it_is_lost(mappings: Mappings) -> None:
    """Unlike the look: so late in a course, a loss calls for another review."""
    facts = [assessment(planned=16), *sessions(11), phq9("p-1", week(0), 18)]
    facts += [phq9("p-2", week(7), 17), phq9("p-3", week(8), 10), phq9("p-4", week(9), 16)]
    reviews = found(course_of(facts, week(10.5), mappings), "review.firm")
    assert [(week(7).date(), week(8).date()), (week(9).date(), None)] == [
        (each.raised, each.closed) for each in reviews
    ]


def test_depression_speaks_before_anxiety_and_only_a_case_is_reviewed(mappings: Mappings) -> None:
    """The first measure of the protocol that was in the clinical range at the start."""
    both = [assessment(), *sessions(8), phq9("p-1", week(0), 17), gad7("g-1", week(0), 15)]
    (review,) = found(course_of(both, week(7.5), mappings), "review.firm")
    assert "PHQ-9" == dict(review.values)["instrument"]
    mild = [assessment(), *sessions(8), phq9("p-1", week(0), 9), gad7("g-1", week(0), 15)]
    (review,) = found(course_of(mild, week(7.5), mappings), "review.firm")
    assert "GAD-7" == dict(review.values)["instrument"]
    well = [assessment(), *sessions(8), phq9("p-1", week(0), 9), gad7("g-1", week(0), 7)]
    assert [] == found(course_of(well, week(7.5), mappings), "review.firm")


def test_the_end_of_the_course_ends_its_reviews(mappings: Mappings) -> None:
    """What was open closes on that day, and none falls due afterwards."""
    facts = [assessment(), *sessions(5), phq9("p-1", week(0), 17), ending("z", week(5), "end")]
    course = course_of(facts, week(20), mappings)
    assert [week(5).date()] == [each.closed for each in found(course, "review.soft")]
    assert [] == found(course, "review.firm")
