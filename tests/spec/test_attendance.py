"""Sessions that do not come about, a treatment that stops, and sessions after its end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from service.domain.course import Decision, Phase
from service.domain.projection import project
from service.outbound.careplan import render
from tests.history import (
    PATIENT,
    assessment,
    course_of,
    encounter,
    ending,
    found,
    phq9,
    session_form,
    sessions,
    week,
)

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

MOMENT = timedelta(seconds=1)


@pytest.mark.parametrize(("protocol", "weeks"), [("adult-standard", 4), ("brief", 4), ("maintenance", 12)])
def test_a_course_without_sessions_is_stalled_by_its_protocol(protocol: str, weeks: int, mappings: Mappings) -> None:
    """After four weeks; in maintenance, where sessions lie further apart, after twelve."""
    facts = [assessment(protocol=protocol), *sessions(3)]
    assert [] == found(course_of(facts, week(2 + weeks) - MOMENT, mappings), "course.stalled")
    assert 1 == len(found(course_of(facts, week(2 + weeks), mappings), "course.stalled"))


def test_after_eight_weeks_the_patient_may_have_dropped_out(mappings: Mappings) -> None:
    """Time alone brings it, at the instant that the projection announced; the course stays open."""
    facts = [assessment(), *sessions(3)]
    before = project(PATIENT, facts, week(10) - MOMENT, mappings)
    assert week(10) == before.next_due
    assert [] == found(before.courses[0], "course.dropout")
    course = course_of(facts, week(10), mappings)
    assert (1, None) == (len(found(course, "course.dropout")), course.closed)


def test_a_booking_ahead_is_no_dropout(mappings: Mappings) -> None:
    """Somebody expects the patient."""
    facts = [assessment(), *sessions(3), encounter("next", week(12), status="planned")]
    assert [] == found(course_of(facts, week(11), mappings), "course.dropout")


@pytest.mark.parametrize(
    ("held", "means"),
    [
        (1, "fewer than 2 sessions, no course of treatment yet"),
        (3, "an end before session 4 would be an early, unplanned one"),
        (5, "fewer than the 12 sessions of a completed course"),
        (12, "with 12 sessions or more a completed course"),
    ],
)
def test_a_dropout_says_what_an_end_at_that_point_would_be(held: int, means: str, mappings: Mappings) -> None:
    """Fewer than two sessions (NHS), before the fourth (van Dijk 2022), or by the trials' count."""
    course = course_of([assessment(planned=16), *sessions(held)], week(held + 8), mappings)
    (dropout,) = found(course, "course.dropout")
    assert means == dict(dropout.values)["means"]


def test_a_documented_stop_closes_the_course(mappings: Mappings) -> None:
    """Without a decision: that the treatment stopped, and why, is enough."""
    course = course_of(
        [assessment(), *sessions(5), ending("z", week(5), None, stopped="moved-away")], week(6), mappings
    )
    assert (Phase.CLOSED, week(5).date()) == (course.phase, course.closed)
    assert course.ending is not None
    assert (Decision.END, "moved-away") == (course.ending.decision, course.ending.stopped_because)


def test_an_ending_form_that_decides_nothing_ends_nothing(mappings: Mappings) -> None:
    """The course goes on."""
    course = course_of([assessment(), *sessions(5), ending("z", week(5), None)], week(6), mappings)
    assert (Phase.MIDDLE, None) == (course.phase, course.ending)


def test_a_session_after_the_end_is_shown_and_not_counted(mappings: Mappings) -> None:
    """Held two weeks later: twelve sessions stay twelve, and a finding asks."""
    facts = [assessment(), *sessions(12), ending("z", week(11), "end"), encounter("late", week(13))]
    course = course_of(facts, week(14), mappings)
    late = course.sessions[-1]
    assert (12, True, None, None) == (course.held, late.after_end, late.number, late.phase)
    (told,) = found(course, "course.session-after-end")
    assert ("Encounter/late", "QuestionnaireResponse/z") == told.facts
    assert week(11).date() == course.closed


def test_what_is_written_after_the_end_changes_no_outcome(mappings: Mappings) -> None:
    """Neither a measure, nor a session's form, nor another ending form that says the same."""
    facts = [assessment(), *sessions(12), phq9("p-1", week(0), 20), phq9("p-2", week(11), 4)]
    facts.append(ending("z", week(11) + timedelta(hours=1), "end"))
    before = course_of(facts, week(20), mappings)
    later = [
        encounter("late", week(13)),
        session_form("late-form", week(13), of="late"),
        phq9("p-3", week(13), 22),
        ending("again", week(14), "end"),
    ]
    after = course_of([*facts, *later], week(20), mappings)
    assert (before.held, before.closed, before.outcome) == (after.held, after.closed, after.outcome)
    assert (before.changes, before.ending, before.documented) == (after.changes, after.ending, after.documented)
    assert (4, 12) == (after.changes[0].latest, after.held)


def test_a_later_decision_to_go_on_opens_the_course_again(mappings: Mappings) -> None:
    """A clinician says so: sessions since then count."""
    facts = [assessment(), *sessions(12), ending("z", week(11), "end"), encounter("more", week(14))]
    on = ending("on", week(13), "continue", planned=16)
    course = course_of([*facts, on], week(15), mappings)
    assert (None, 13, 16) == (course.closed, course.held, course.planned_sessions)


def test_the_plan_says_of_a_session_after_the_end_that_it_is_not_counted(mappings: Mappings) -> None:
    """Among its activities, without a number."""
    facts = [assessment(), *sessions(12), ending("z", week(11), "end"), encounter("late", week(13))]
    plan = dict(render(course_of(facts, week(14), mappings), mappings).resources)["careplan"]
    described = [activity["detail"]["description"] for activity in plan["activity"]]
    assert any(words.startswith("Session, after the end of the course: not counted") for words in described)
