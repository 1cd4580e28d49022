"""Phases: initial, middle, ending; by documents and by sessions remaining, never by a score."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from service.decisions import decide, revise
from service.domain.course import Phase
from service.domain.projection import project
from tests.history import PATIENT, assessment, course_of, ending, found, sessions, week

if TYPE_CHECKING:
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings

FULL = ("diagnosis-documented", "interpersonal-inventory", "agreement")


def phases(held: int, planned: int, protocol: str, mappings: Mappings) -> list[Phase | None]:
    """Return the phase of each session of a course whose initial tasks are documented in its first session."""
    facts = [assessment(protocol=protocol, planned=planned), *sessions(held)]
    return [session.phase for session in course_of(facts, week(held), mappings).sessions]


@pytest.mark.parametrize(
    ("protocol", "planned", "ending_sessions"), [("adult-standard", 12, 3), ("adolescent", 12, 4), ("brief", 8, 1)]
)
def test_the_ending_takes_the_last_sessions_of_the_protocol(
    protocol: str, planned: int, ending_sessions: int, mappings: Mappings
) -> None:
    """Adult 3 of 12, adolescent 4 of 12, brief 1 of 8."""
    middle = planned - ending_sessions - 1
    expected = [Phase.INITIAL, *[Phase.MIDDLE] * middle, *[Phase.ENDING] * ending_sessions]
    assert expected == phases(planned, planned, protocol, mappings)


@pytest.mark.parametrize(("protocol", "after"), [("adult-standard", 4), ("adolescent", 4), ("brief", 2)])
def test_an_initial_phase_that_lasts_too_long_asks_for_a_review(protocol: str, after: int, mappings: Mappings) -> None:
    """By the protocol's number of sessions; the phase stays initial."""
    form = assessment(protocol=protocol, ticked=["diagnosis-documented"], planned=None)
    assert [] == found(course_of([form, *sessions(after - 1)], week(after), mappings), "initial.overrun")
    course = course_of([form, *sessions(after)], week(after), mappings)
    assert (1, Phase.INITIAL) == (len(found(course, "initial.overrun")), course.phase)


def test_a_continuation_leaves_the_phases_of_sessions_held_before(mappings: Mappings) -> None:
    """From 12 to 16: sessions 10 to 12 were the ending, and stay so; the thirteenth is a middle one again."""
    form = ending("z", week(11) + timedelta(hours=1), "continue", planned=16)
    course = course_of([assessment(), *sessions(14), form], week(14), mappings)
    expected = [*[Phase.ENDING] * 3, Phase.MIDDLE, Phase.ENDING]
    assert expected == [session.phase for session in course.sessions[9:]]
    assert 16 == course.planned_sessions


def reason(before: list[Fact], after: list[Fact], mappings: Mappings) -> str | None:
    """Return why the history says that the phase went back, as the facts become others."""
    first = decide(project(PATIENT, before, week(13), mappings), (), ("first",), mappings)
    second = revise(project(PATIENT, after, week(13), mappings), first.courses, ("second",), mappings)
    assert second is not None
    (update,) = second.update.courses
    return update.reason


def test_the_history_says_why_a_phase_went_back(mappings: Mappings) -> None:
    """A correction, a continuation, another protocol, an end taken back: each in its words."""
    held = [assessment(), *sessions(12)]
    going_on = ending("z", week(11) + timedelta(hours=1), "continue", planned=16)
    assert reason(held, [*held, going_on], mappings) == "another number of sessions was agreed"
    withdrawn = [assessment(ticked=FULL[:2]), *sessions(12)]
    assert "corrected" in str(reason(held, withdrawn, mappings))
    ended = [*held, ending("z", week(11), "end")]
    assert "the end no longer stands" in str(reason(ended, held, mappings))
    brief = [assessment(planned=None, protocol="brief"), *sessions(8)]
    changed = [*brief, assessment("again", week(7), planned=12, protocol="adult-standard")]
    assert "another protocol was chosen" == reason(brief, changed, mappings)


def test_a_phase_that_goes_on_needs_no_reason(mappings: Mappings) -> None:
    """From middle to ending."""
    assert reason([assessment(), *sessions(9)], [assessment(), *sessions(10)], mappings) is None
