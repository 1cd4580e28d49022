"""Sessions that do not come about."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from service.domain.course import SessionState
from service.domain.rules.case import Raised, rests_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values
    from service.domain.sourced import Threshold


_OPEN_STATES = frozenset({SessionState.PLANNED, SessionState.IN_PROGRESS})


def _stalled(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """No session for weeks and none ahead: dropped out or paused, a clinician knows. The next session closes it."""
    del mappings
    after, ended = protocol.attendance.stalled_after, case.ended
    for session, following in pairwise(case.held):
        if following.start - session.start <= after.days or (ended is not None and session.start.date() >= ended):
            continue
        gap = _gap(session.start, after, rests_on([session, following]))
        if gap.on < following.start.date():
            yield gap._replace(closed=following.start.date())
    since = case.last_activity + after.days
    if case.as_of < since or not case.open or any(session.state in _OPEN_STATES for session in case.sessions):
        return
    yield _gap(case.last_activity, after, rests_on(case.held[-1:]) or _first(case))


def _gap(last: datetime, after: Threshold, facts: tuple[str, ...]) -> Raised:
    day = last.date().isoformat()
    values: Values = {"last": day, "threshold": after.count}
    return Raised("course.stalled", (last + after.days).date(), values, facts, key=day)


def _first(case: Case) -> tuple[str, ...]:
    """What the course began with: its anchor may be an EpisodeOfCare, of which no fact tells."""
    _, reference = min((item.start, item.reference) for items in (case.meetings, case.forms) for item in items)
    return (reference,)


RULES = (_stalled,)
