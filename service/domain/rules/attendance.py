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
    starts = [session.start for session in case.held]
    for place, (last, following) in enumerate(pairwise(starts)):
        if following - last <= after.days or (ended is not None and last.date() >= ended):
            continue
        gap = _gap(last, after, rests_on(case.held[place : place + 2]))
        if gap.on < following.date():
            yield gap._replace(closed=following.date())
    since = case.last_activity + after.days
    if case.as_of < since or not case.open or any(session.state in _OPEN_STATES for session in case.sessions):
        return
    yield _gap(case.last_activity, after, rests_on(case.held[-1:]) or (case.began,))


def _gap(last: datetime, after: Threshold, facts: tuple[str, ...]) -> Raised:
    day = last.date().isoformat()
    values: Values = {"last": day, "threshold": after.count}
    return Raised("course.stalled", (last + after.days).date(), values, facts, key=day)


def _dropped_out(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """So long without a session that the patient may have dropped out; no course is closed by it."""
    del mappings
    after = protocol.attendance.dropped_out_after
    since = case.last_activity + after.days
    if case.as_of < since or not case.open or any(session.state in _OPEN_STATES for session in case.sessions):
        return
    last = case.last_activity.date().isoformat()
    values: Values = {
        "last": last,
        "threshold": after.count,
        "held": len(case.held),
        "planned": case.planned_sessions,
        "means": _meaning(len(case.held), protocol),
    }
    facts = rests_on(case.held[-1:]) or (case.began,)
    yield Raised("course.dropout", since.date(), values, facts, key=last)


def _meaning(held: int, protocol: Protocol) -> str:
    """What an end at this point would be called: van Dijk 2022; NHS Talking Therapies; by the trials' count."""
    attendance = protocol.attendance
    if held < attendance.attended_from.count:
        return f"fewer than {attendance.attended_from.count} sessions, no course of treatment yet"
    if held < attendance.unplanned_before.count:
        return f"an end before session {attendance.unplanned_before.count} would be an early, unplanned one"
    if held < attendance.completed_from.count:
        return f"fewer than the {attendance.completed_from.count} sessions of a completed course"
    return f"with {attendance.completed_from.count} sessions or more a completed course"


def _after_end(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """The end stands, and so does the outcome; a clinician knows what the session was."""
    del mappings, protocol
    if case.ending is None or case.ended is None:
        return
    for session in case.sessions:
        if session.after_end:
            on = session.start.date()
            facts = (*rests_on([session]), case.ending.fact)
            values: Values = {"on": on.isoformat(), "ended": case.ended.isoformat()}
            yield Raised("course.session-after-end", on, values, facts, key=facts[0])


RULES = (_stalled, _dropped_out, _after_end)
