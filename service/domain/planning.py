"""The sessions that remain: when each is due, and which focus area and goal of the patient it is aimed at.

The number of a session decides its aim, so a missed session takes none away: what was aimed at that day is aimed
at when the session of that number comes. Every other session is aimed at the primary area, the ones between at the
secondary areas in turn; at the primary one alone where there is no other. Of the patient's goals those that belong to
the area come in turn, with those that belong to no area. All of it is a proposal of this project, no published rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.domain.course import Phase, PlannedSession, SessionKind, SessionState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date, timedelta

    from service.domain.course import FocusArea, PatientGoal, Session

# An enum's member costs a call wherever it is named.
_SESSION = SessionKind.SESSION
COUNTED_DOWN = frozenset({Phase.ASSESSMENT_PENDING, Phase.INITIAL, Phase.MIDDLE, Phase.ENDING})
"""Phases in which each session that remains is planned: maintenance goes on, and a closed course has none."""
_AHEAD = frozenset({SessionState.PLANNED, SessionState.IN_PROGRESS})


class Aims(NamedTuple):
    """What sessions may be aimed at."""

    areas: Sequence[FocusArea]
    goals: Sequence[PatientGoal]
    areas_by_goal: Mapping[str, frozenset[str]]
    """The areas that a goal belongs to; one that belongs to none is missing, and fits any."""


def planned(
    sessions: Sequence[Session], numbers: range, opened: date, interval: timedelta, aims: Aims
) -> Iterator[PlannedSession]:
    """Yield the sessions of these numbers: booked ones on their day, the others an interval apart after them.

    The first without a booking comes an interval after the last session that was held, missed or is booked; else
    after the course's opening.
    """
    if not numbers:
        return
    ahead = []
    day = opened
    for session in sessions:
        if session.kind is not _SESSION:
            continue
        day = max(day, session.start.date())
        if session.state in _AHEAD:
            ahead.append(session)
    order = [area.area for area in aims.areas if area.primary]
    others = [area.area for area in aims.areas if not area.primary]
    turns = {area: _fitting(area, aims) for area in (*order, *others)}
    for place, number in enumerate(numbers):
        booking = ahead[place] if place < len(ahead) else None
        if booking is None:
            day += interval
        area, turn = _aim(number, order, others)
        fitting = turns[area] if area is not None else ()
        yield PlannedSession(
            number=number,
            on=day if booking is None else booking.start.date(),
            area=area,
            goal=fitting[turn % len(fitting)] if fitting else None,
            encounter=booking.encounters[0] if booking is not None and booking.encounters else None,
        )


def _aim(number: int, primary: list[str], others: list[str]) -> tuple[str | None, int]:
    """The area of the session of this number, and how many of the sessions before it were aimed at it."""
    if not primary:
        return None, 0
    if not others:
        return primary[0], number - 1
    pair, between = divmod(number - 1, 2)
    if not between:
        return primary[0], pair
    turn, place = divmod(pair, len(others))
    return others[place], turn


def _fitting(area: str, aims: Aims) -> tuple[str, ...]:
    fitting = []
    for goal in aims.goals:
        belongs = aims.areas_by_goal.get(goal.goal)
        if belongs is None or area in belongs:
            fitting.append(goal.goal)
    return tuple(fitting)
