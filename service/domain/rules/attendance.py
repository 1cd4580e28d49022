"""Sessions that do not come about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import SessionState
from service.domain.rules.case import Raised, rests_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values


_OPEN_STATES = frozenset({SessionState.PLANNED, SessionState.IN_PROGRESS})


def _stalled(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """No session for weeks and none ahead: dropped out or paused, a clinician knows."""
    del mappings
    since = case.last_activity + protocol.attendance.stalled_after.days
    if case.as_of < since or not case.open or any(session.state in _OPEN_STATES for session in case.sessions):
        return
    last = case.last_activity.date()
    values: Values = {
        "last": last.isoformat(),
        "threshold": protocol.attendance.stalled_after.count,
    }
    facts = rests_on(case.held[-1:]) or (case.anchor,)
    yield Raised("course.stalled", since.date(), values, facts, key=last.isoformat())


RULES = (_stalled,)
