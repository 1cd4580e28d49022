"""The ending of a course, by the sessions that remain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.rules.case import Raised, rests_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values


def _ending(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """The ending goes by sessions remaining; when all are held, a clinician decides what comes next."""
    del mappings
    sessions, planned = case.held, case.planned_sessions
    if not case.open or not sessions:
        return
    remaining = planned - len(sessions)
    counted: Values = {"held": len(sessions), "planned": planned}
    if remaining <= 0:
        last_planned = sessions[planned - 1]
        yield Raised("sessions.used-up", last_planned.start.date(), counted, rests_on(sessions))
    elif remaining <= protocol.ending.count:
        reached = max(planned - protocol.ending.count, 1)
        values = counted | {"remaining": remaining}
        yield Raised("ending.due", sessions[reached - 1].start.date(), values, rests_on(sessions))


RULES = (_ending,)
