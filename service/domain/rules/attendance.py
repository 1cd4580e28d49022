"""Sessions that do not come about."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from service.domain.course import SessionState
from service.domain.rules.case import Raised, rests_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values
    from service.domain.sourced import Threshold


_OPEN_STATES = frozenset({SessionState.PLANNED, SessionState.IN_PROGRESS})


class _Gap(NamedTuple):
    """A time without a session that is longer than a threshold."""

    last: datetime
    """When the last session before it was held, or the course was opened."""
    on: date
    """When the threshold was reached."""
    held: int
    """How many sessions were held before."""
    facts: tuple[str, ...]
    closed: date | None


def _gaps(case: Case, after: Threshold) -> Iterator[_Gap]:
    """The gaps between sessions, each closed by the session that ends it; the last one open, if none is ahead."""
    ended = case.ended
    starts = [session.start for session in case.held]
    for held, (last, following) in enumerate(pairwise(starts), 1):
        if following - last <= after.days or (ended is not None and last.date() >= ended):
            continue
        on, closed = (last + after.days).date(), following.date()
        if on < closed:
            yield _Gap(last, on, held, rests_on(case.held[held - 1 : held + 1]), closed)
    since = case.last_activity + after.days
    if case.as_of < since or not case.open or any(session.state in _OPEN_STATES for session in case.sessions):
        return
    facts = rests_on(case.held[-1:]) or (case.began,)
    yield _Gap(case.last_activity, since.date(), len(case.held), facts, None)


def _stalled(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """No session for weeks and none ahead: dropped out or paused, a clinician knows."""
    del mappings
    after = protocol.attendance.stalled_after
    for gap in _gaps(case, after):
        last = gap.last.date().isoformat()
        values: Values = {"last": last, "threshold": after.count}
        yield Raised("course.stalled", gap.on, values, gap.facts, key=last, closed=gap.closed)


def _dropped_out(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """So long without a session that the patient may have dropped out; no course is closed by it."""
    del mappings
    after = protocol.attendance.dropped_out_after
    for gap in _gaps(case, after):
        last = gap.last.date().isoformat()
        values: Values = {
            "last": last,
            "threshold": after.count,
            "held": gap.held,
            "planned": case.planned_sessions,
            "means": _meaning(gap.held, protocol),
        }
        yield Raised("course.dropout", gap.on, values, gap.facts, key=last, closed=gap.closed)


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
