"""What counts as a session, and how it was held."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from service.domain.codes import SNOMED_CT
from service.domain.course import FindingState, SessionKind, SessionState
from service.domain.facts import Code
from tests.history import IPT, MONDAY, assessment, course_of, encounter, found, session_form, sessions, week

if TYPE_CHECKING:
    from service.domain.facts import Code as Coded
    from service.domain.mappings import Mappings

GROUP = Code(SNOMED_CT, "76168009")
TELEMEDICINE = Code(SNOMED_CT, "448337001")
CRISIS = Code("http://www.ama-assn.org/go/cpt", "90839")


def test_encounter_and_form_of_one_session_count_once(mappings: Mappings) -> None:
    """Whether the form names the encounter or only the day."""
    forms = [session_form("f-1", week(0), of="e-1"), session_form("f-2", week(1) + timedelta(hours=2))]
    course = course_of([*sessions(2), *forms], week(2), mappings)
    assert (2, [("f-1",), ("f-2",)]) == (course.held, [session.forms for session in course.sessions])


def test_a_session_without_a_form_and_a_form_without_an_encounter_are_both_kept(mappings: Mappings) -> None:
    """Each is a session, and shows what is missing."""
    course = course_of([encounter("e-1", week(0)), session_form("f-2", week(1))], week(2), mappings)
    assert [(("e-1",), ()), ((), ("f-2",))] == [(session.encounters, session.forms) for session in course.sessions]
    assert 2 == course.held


def test_two_encounters_of_a_day_are_one_session(mappings: Mappings) -> None:
    """Said as a finding, for the record to be put right."""
    facts = [encounter("e-1", MONDAY), encounter("e-2", MONDAY + timedelta(hours=2))]
    course = course_of(facts, week(1), mappings)
    assert (1, 1) == (course.held, len(found(course, "data.same-day")))


def test_a_rescheduled_session_counts_where_it_was_held(mappings: Mappings) -> None:
    """The cancelled booking stays in view."""
    facts = [encounter("e-1", MONDAY, status="cancelled"), encounter("e-2", MONDAY + timedelta(days=2))]
    course = course_of(facts, week(1), mappings)
    assert [SessionState.CANCELLED, SessionState.HELD] == [session.state for session in course.sessions]
    assert 1 == course.held


def test_a_crisis_contact_is_shown_and_not_counted(mappings: Mappings) -> None:
    """It is no session of the protocol."""
    course = course_of([*sessions(1), encounter("c", week(0.5), types=[CRISIS])], week(1), mappings)
    assert (1, SessionKind.CRISIS, None) == (course.held, course.sessions[1].kind, course.sessions[1].number)


@pytest.mark.parametrize(
    ("types", "telehealth", "group"),
    [([IPT], False, False), ([IPT, TELEMEDICINE], True, False), ([IPT, GROUP], False, True)],
)
def test_how_a_session_was_held_is_kept(
    types: list[Coded], *, telehealth: bool, group: bool, mappings: Mappings
) -> None:
    """Alone or in a group, in person or from afar."""
    (session,) = course_of([encounter("e-1", MONDAY, types=types)], week(1), mappings).sessions
    assert (telehealth, group) == (session.telehealth, session.group)


@pytest.mark.parametrize(("minutes", "kept"), [(50, 50), (24 * 60, 24 * 60), (24 * 60 + 1, None)])
def test_a_duration_beyond_a_day_is_a_slip_of_the_record(minutes: int, kept: int | None, mappings: Mappings) -> None:
    """The session counts; its duration does not."""
    course = course_of([encounter("e-1", MONDAY, minutes=minutes)], week(1), mappings)
    assert (1, kept) == (course.held, course.sessions[0].minutes)
    assert (kept is None) == bool(found(course, "data.duration"))


@pytest.mark.parametrize(("planned", "asked"), [(11, True), (12, False), (16, False), (17, True)])
def test_a_number_of_sessions_that_the_protocol_does_not_have_is_told(
    planned: int, *, asked: bool, mappings: Mappings
) -> None:
    """Adult standard has 12 to 16; what was agreed still counts."""
    course = course_of([assessment(planned=planned), *sessions(1)], week(1), mappings)
    assert planned == course.planned_sessions
    assert asked == bool(found(course, "sessions.planned-out-of-range"))


def test_a_number_that_the_protocol_does_not_have_is_history_once_another_takes_its_place(mappings: Mappings) -> None:
    """Told on the day on which it was planned, and closed on the day on which it no longer is."""
    facts = [assessment(planned=17), *sessions(6), assessment("again", week(5), planned=14)]
    (lived,) = found(course_of(facts, week(4), mappings), "sessions.planned-out-of-range")
    (late,) = found(course_of(facts, week(6), mappings), "sessions.planned-out-of-range")
    assert replace(lived, state=FindingState.CLOSED, closed=week(5).date()) == late


def test_another_number_of_sessions_is_told(mappings: Mappings) -> None:
    """The number is fixed at the outset; from 12 to 14 is a change, with both forms."""
    facts = [assessment(), *sessions(6), assessment("again", week(5), planned=14)]
    course = course_of(facts, week(6), mappings)
    (told,) = found(course, "sessions.planned-changed")
    assert {"from": 12, "to": 14, "on": week(5).date().isoformat()} == dict(told.values)
