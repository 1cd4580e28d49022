"""Treatment planning: each session that remains is aimed at an area and a goal, and moves when one is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from service.outbound.careplan import render
from tests.history import assessment, course_of, encounter, ending, sessions, week

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings


def aims(course: Course) -> list[tuple[int, str | None, str | None]]:
    """Return number, area and goal of the sessions that remain."""
    return [(each.number, each.area, each.goal) for each in course.planned]


def test_the_sessions_that_remain_are_a_week_apart_and_end_on_the_projected_day(mappings: Mappings) -> None:
    """Ten of twelve held: two remain."""
    course = course_of([assessment(), *sessions(10)], week(9.5), mappings)
    assert [(11, week(10).date()), (12, week(11).date())] == [(each.number, each.on) for each in course.planned]
    assert week(11).date() == course.projected_end


def test_each_is_aimed_at_an_area_and_at_a_goal_that_belongs_to_it(mappings: Mappings) -> None:
    """The primary area every other session; goals in turn; one that belongs to no area fits any."""
    goals = ["mourn-loss", "express-needs", "better-sleep"]
    facts = [assessment(focus="grief", secondary=["communication-patterns"], goals=goals), *sessions(8)]
    expected = [
        (9, "grief", "mourn-loss"),
        (10, "communication-patterns", "express-needs"),
        (11, "grief", "better-sleep"),
        (12, "communication-patterns", "better-sleep"),
    ]
    assert expected == aims(course_of(facts, week(7.5), mappings))


def test_a_missed_session_moves_the_others_and_takes_no_aim_away(mappings: Mappings) -> None:
    """What was aimed at that day is aimed at a week later."""
    facts = [assessment(goals=["accept-new-role", "build-new-skills"]), *sessions(9)]
    before = course_of(facts, week(8.5), mappings)
    after = course_of([*facts, encounter("missed", week(9), status="cancelled")], week(9.5), mappings)
    assert aims(before) == aims(after)
    assert [week(10).date(), week(11).date(), week(12).date()] == [each.on for each in after.planned]
    assert (week(11).date(), week(12).date()) == (before.projected_end, after.projected_end)


def test_a_booked_session_keeps_its_day(mappings: Mappings) -> None:
    """And the next one without a booking comes an interval after it."""
    booking = encounter("booked", week(11), status="planned")
    course = course_of([assessment(), *sessions(10), booking], week(9.5), mappings)
    expected = [("booked", week(11).date()), (None, week(12).date())]
    assert expected == [(each.encounter, each.on) for each in course.planned]


def test_nothing_is_planned_once_the_course_has_ended(mappings: Mappings) -> None:
    """Even if sessions remained."""
    course = course_of([assessment(), *sessions(8), ending("z", week(7), "end")], week(9), mappings)
    assert ((), None) == (course.planned, course.projected_end)


@given(held=st.integers(0, 12), missed=st.integers(0, 3))
def test_held_and_remaining_sessions_are_the_planned_number_whatever_was_missed(
    held: int, missed: int, mappings: Mappings
) -> None:
    """Their days rise."""
    gaps = [encounter(f"m-{place}", week(held + place), status="cancelled") for place in range(missed)]
    course = course_of([assessment(), *sessions(held), *gaps], week(held + missed), mappings)
    assert list(range(held + 1, 13)) == [each.number for each in course.planned]
    days = [each.on for each in course.planned]
    assert sorted(set(days)) == days


def test_the_plan_shows_them_as_activities_with_their_goals(mappings: Mappings) -> None:
    """Not started, and not booked."""
    course = course_of([assessment(goals=["accept-new-role"]), *sessions(11)], week(10.5), mappings)
    resources = dict(render(course, mappings).resources)
    (ahead,) = [
        each["detail"] for each in resources["careplan"]["activity"] if each["detail"]["status"] == "not-started"
    ]
    named = [f"Goal/{resources[role]['id']}" for role in ("goal/focus/role-transition", "goal/patient/accept-new-role")]
    assert named == [goal["reference"] for goal in ahead["goal"]]
    assert "Session 12, not booked, aimed at role transition: accept the new role" == ahead["description"]
    assert {"start": week(11).date().isoformat()} == ahead["scheduledPeriod"]
