"""What a rule looks at, and what it raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.domain.course import Phase
from service.domain.outcome import NONE as NO_TURNOUT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from service.domain.course import (
        Answered,
        Change,
        Documented,
        Ending,
        FocusArea,
        Measure,
        ProtocolSpan,
        Session,
        Sex,
    )
    from service.domain.evidence import Form, Meeting, PlanAct
    from service.domain.outcome import Turnout
    from service.domain.phases import Plan
    from service.domain.progress import Series
    from service.domain.sessions import Sittings

_CLOSED = Phase.CLOSED  # an enum's member costs a call wherever it is named

Values = dict[str, str | int | float]
"""Named values of a finding."""


class Case(NamedTuple):
    """What the rules look at: the course as far as it is known before its findings."""

    anchor: str
    opened: date
    phase: Phase
    planned_sessions: int
    documented: tuple[Documented, ...]
    measures: tuple[Measure, ...]
    changes: tuple[Change, ...]
    series: Mapping[str, Series]
    """The measures behind the changes, by instrument."""
    sessions: tuple[Session, ...]
    held: list[Session]
    """The held sessions, by number."""
    joined: Sittings
    meetings: list[Meeting]
    forms: list[Form]
    """The evidence itself, for what the record above does not keep."""
    initial_complete: date | None
    focus_areas: tuple[FocusArea, ...]
    ending: Ending | None
    protocols: tuple[ProtocolSpan, ...]
    plans: tuple[Plan, ...]
    began: str
    """Reference of the fact that it began with: its anchor may name none."""
    sex: Sex | None
    age: int | None
    last_activity: datetime
    answers: Mapping[str, Answered]
    """How clinicians answered the course's findings, by the finding's id."""
    as_of: datetime
    acts: tuple[PlanAct, ...] = ()
    """What clinicians did to the course's plan at its destinations, by time."""
    turnout: Turnout = NO_TURNOUT
    """What was left of it at each time, and how it was classed then."""

    @property
    def open(self) -> bool:
        """Whether the course still runs toward its ending."""
        return self.phase is not _CLOSED

    @property
    def ended(self) -> date | None:
        """The day on which it ended; None while it runs."""
        return None if self.open or self.ending is None else self.ending.on


class Raised(NamedTuple):
    """A finding before its rule's version, severity and source are put to it."""

    rule: str
    on: date
    values: Values
    facts: tuple[str, ...]
    due: date | None = None
    key: str = ""
    """Tells findings of one rule in one course apart."""
    closed: date | None = None
    """When what gave rise to it was first seen to hold no longer."""
    answered: Answered | None = None
    """How what a clinician did since has answered it, where another fact tells."""


def rests_on(sessions: list[Session]) -> tuple[str, ...]:
    """Return a reference for each session, by which a finding rests on it."""
    return tuple(
        f"Encounter/{session.encounters[0]}" if session.encounters else f"QuestionnaireResponse/{session.forms[0]}"
        for session in sessions
    )


def short(number: float) -> int | float:
    """Return the number as a person writes it: whole where it is."""
    return int(number) if number.is_integer() else number
