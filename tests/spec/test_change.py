"""Reliable change and recovery: what a course may say of its measures, and since when.

A PHQ-9 of 10 or a GAD-7 of 8 is a case; 6 points of PHQ-9 or 4 of GAD-7 are a reliable change (NHS Talking
Therapies). Improved means: one measure reliably better than the first, and none reliably worse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.domain.course import FindingState
from tests.history import PHQ_9, assessment, coded, course_of, found, gad7, phq9, response, sessions, week

if TYPE_CHECKING:
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings


def phq9s(*totals: int) -> list[Fact]:
    """Return weekly PHQ-9s, the first in week 0."""
    return [phq9(f"p-{number}", week(number), total) for number, total in enumerate(totals)]


def gad7s(*totals: int) -> list[Fact]:
    """Return weekly GAD-7s, the first in week 0."""
    return [gad7(f"g-{number}", week(number), total) for number, total in enumerate(totals)]


@pytest.mark.parametrize(("latest", "improved"), [(13, False), (12, True)])
def test_six_points_of_phq_9_are_a_reliable_improvement(latest: int, *, improved: bool, mappings: Mappings) -> None:
    """Five are not."""
    course = course_of([assessment(), *sessions(2), *phq9s(18, latest)], week(2), mappings)
    assert improved == bool(found(course, "change.improvement"))


@pytest.mark.parametrize(("latest", "worse"), [(11, False), (12, True)])
def test_four_points_of_gad_7_are_a_reliable_deterioration(latest: int, *, worse: bool, mappings: Mappings) -> None:
    """Three are not. A clinician looks the same day."""
    course = course_of([assessment(), *sessions(2), *gad7s(8, latest)], week(2), mappings)
    assert [week(1).date()] * worse == [each.due for each in found(course, "change.deterioration")]


def test_improvement_dates_from_the_measure_that_first_showed_it(mappings: Mappings) -> None:
    """Later measures confirm it; they don't make it younger."""
    course = course_of([assessment(), *sessions(4), *phq9s(18, 12, 11, 9)], week(4), mappings)
    (improved,) = found(course, "change.improvement")
    assert (week(1).date(), None) == (improved.raised, improved.closed)
    assert {"first": 18, "latest": 9} == {name: value for name, value in improved.values if name in {"first", "latest"}}
    assert ("QuestionnaireResponse/p-0", "QuestionnaireResponse/p-1", "QuestionnaireResponse/p-3") == improved.facts
    assert week(1).date() == course.changes[0].reliable_since


def test_an_improvement_that_is_lost_closes_and_a_new_one_is_another(mappings: Mappings) -> None:
    """Each has its own days; what the course says now is the latest."""
    course = course_of([assessment(), *sessions(4), *phq9s(18, 12, 14, 11)], week(4), mappings)
    assert [
        (week(1).date(), week(2).date(), FindingState.CLOSED),
        (week(3).date(), None, FindingState.OPEN),
    ] == [(each.raised, each.closed, each.state) for each in found(course, "change.improvement")]
    assert week(3).date() == course.changes[0].reliable_since


def test_no_improvement_is_claimed_while_another_measure_is_reliably_worse(mappings: Mappings) -> None:
    """Depression better, anxiety worse: only the deterioration is said, until the anxiety falls again."""
    course = course_of([assessment(), *sessions(4), *phq9s(18, 12, 12, 12), *gad7s(8, 8, 12, 8)], week(4), mappings)
    assert [(week(1).date(), week(2).date()), (week(3).date(), None)] == [
        (each.raised, each.closed) for each in found(course, "change.improvement")
    ]
    assert [(week(2).date(), week(3).date())] == [
        (each.raised, each.closed) for each in found(course, "change.deterioration")
    ]


def test_two_measures_of_one_day_are_judged_by_the_last(mappings: Mappings) -> None:
    """A slip that is corrected the same day opens nothing."""
    facts = [phq9("p-0", week(0), 18), phq9("p-1", week(1), 12), phq9("p-2", week(1.01), 16)]
    assert [] == found(course_of([assessment(), *sessions(2), *facts], week(2), mappings), "change.improvement")


def test_reliable_recovery_needs_a_case_at_the_start_none_now_and_a_reliable_improvement(mappings: Mappings) -> None:
    """Both measures were cases; recovery comes with the second one below its cut-off."""
    course = course_of([assessment(), *sessions(4), *phq9s(16, 12, 9, 8), *gad7s(10, 9, 8, 5)], week(4), mappings)
    (recovered,) = found(course, "change.reliable-recovery")
    assert week(3).date() == recovered.raised
    assert {"totals": "PHQ-9 16 → 8 (case from 10), GAD-7 10 → 5 (case from 8)"} == dict(recovered.values)
    assert [] == found(course, "change.recovery")


def test_recovery_without_a_reliable_improvement_says_so(mappings: Mappings) -> None:
    """From 12 to 9 points is out of the clinical range by three points only."""
    course = course_of([assessment(), *sessions(2), *phq9s(12, 9)], week(2), mappings)
    assert [week(1).date()] == [each.raised for each in found(course, "change.recovery")]
    assert [] == found(course, "change.reliable-recovery")


def test_nobody_recovers_who_was_no_case(mappings: Mappings) -> None:
    """Nine points at the start are below the cut-off already."""
    course = course_of([assessment(), *sessions(2), *phq9s(9, 2)], week(2), mappings)
    assert [] == [*found(course, "change.recovery"), *found(course, "change.reliable-recovery")]


def test_a_measure_that_rises_into_the_clinical_range_ends_the_recovery(mappings: Mappings) -> None:
    """Whichever measure it is."""
    course = course_of([assessment(), *sessions(3), *phq9s(16, 8, 8), *gad7s(7, 7, 8)], week(3), mappings)
    (recovered,) = found(course, "change.reliable-recovery")
    assert (week(1).date(), week(2).date()) == (recovered.raised, recovered.closed)


def test_an_unfinished_questionnaire_shows_no_change(mappings: Mappings) -> None:
    """A missing answer is not zero: the measure has no total."""
    gap = response("p-9", "http://loinc.org/q/44249-1", week(1), coded(PHQ_9, [0, 0, 0, 0, 0, 0, 0, None, 0]))
    course = course_of([assessment(), *sessions(2), *phq9s(18), gap], week(2), mappings)
    assert [] == found(course, "change.improvement")
