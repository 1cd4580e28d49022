"""What a rule looks at, and what it raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.domain.course import Phase

if TYPE_CHECKING:
    from datetime import date, datetime

    from service.domain.course import Change, Documented, Ending, FocusArea, Measure, Session, Sex
    from service.domain.evidence import Form, Meeting
    from service.domain.sessions import Sittings

Values = dict[str, str | int | float]
"""Named values of a finding."""

_OVER = frozenset({Phase.CLOSED, Phase.MAINTENANCE})


class Case(NamedTuple):
    """What the rules look at: the course as far as it is known before its findings."""

    anchor: str
    opened: date
    phase: Phase
    planned_sessions: int
    documented: tuple[Documented, ...]
    measures: tuple[Measure, ...]
    changes: tuple[Change, ...]
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
    sex: Sex | None
    age: int | None
    last_activity: datetime
    as_of: datetime

    @property
    def open(self) -> bool:
        """Whether the course still runs toward its ending."""
        return self.phase not in _OVER


class Raised(NamedTuple):
    """A finding before its rule's version, severity and source are put to it."""

    rule: str
    on: date
    values: Values
    facts: tuple[str, ...]
    due: date | None = None
    key: str = ""
    """Tells findings of one rule in one course apart."""


def rests_on(sessions: list[Session]) -> tuple[str, ...]:
    """Return a reference for each session, by which a finding rests on it."""
    return tuple(
        f"Encounter/{session.encounters[0]}" if session.encounters else f"QuestionnaireResponse/{session.forms[0]}"
        for session in sessions
    )


def short(number: float) -> int | float:
    """Return the number as a person writes it: whole where it is."""
    return int(number) if number.is_integer() else number
