"""A course's canonical state: short, whole, and still read when it was written by an earlier release."""

from __future__ import annotations

import json
from datetime import date

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields, replace

from service.domain import state
from service.domain.course import (
    Answered,
    ChosenBy,
    Course,
    Finding,
    FindingState,
    FocusSpan,
    PlannedSession,
    ProtocolSpan,
    Sex,
)
from tests.courses import course, states


@pytest.mark.parametrize("known", states().values(), ids=states())
def test_a_course_comes_back_as_it_was_written(known: Course) -> None:
    """In every state that a course can be in."""
    assert known == state.load(state.dump(known))


def test_what_a_course_does_not_say_takes_no_room() -> None:
    """Elements that are as a course begins with them are left out."""
    optional = {each.name for each in fields(Course) if each.default is not NODEFAULT}
    assert not optional & json.loads(state.dump(course(planned=(), well_being=()))).keys()


def test_what_is_said_is_kept() -> None:
    """Whatever has a default comes back too."""
    known = course()
    answered = Answered(date(2026, 3, 3), "Practitioner/t-1", "Task/t")
    told = replace(
        known,
        protocols=(ProtocolSpan("adult-standard", known.opened, ChosenBy.DEFAULT),),
        focus_history=(FocusSpan("grief", True, known.opened, None, None, "QuestionnaireResponse/a"),),  # noqa: FBT003 - the primary one
        planned=(PlannedSession(10, date(2026, 3, 10), "grief", "express-needs", "e-10"),),
        sex=Sex.FEMALE,
        age=34,
        findings=tuple(replace(each, state=FindingState.ANSWERED, answered=answered) for each in known.findings),
    )
    assert told == state.load(state.dump(told))


def test_a_state_without_the_later_elements_is_read() -> None:
    """A finding of an earlier release is an open one."""
    written = json.loads(state.dump(course()))
    optional = {each.name for each in fields(Finding) if each.default is not NODEFAULT}
    assert not optional & written["findings"][0].keys()
    assert FindingState.OPEN is state.load(json.dumps(written)).findings[0].state
