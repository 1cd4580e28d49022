"""The initial phase: complete, or overrun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.facts import Code
from service.domain.forms import COURSE_FIELD
from service.domain.rules.case import Raised, rests_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values


def _initial_phase(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Complete when its tasks are documented; overrun when the published number of sessions is held without."""
    if not protocol.initial.tasks:
        return
    documents = {document.task: document for document in case.documented}
    complete, ended = case.initial_complete, case.ended
    if complete is not None and (ended is None or complete < ended):
        facts = tuple(documents[task].fact for task in protocol.initial.tasks)
        yield Raised("initial.complete", complete, {"on": complete.isoformat()}, facts, closed=ended)
    overrun = protocol.initial.overrun_after.count
    if len(case.held) < overrun:
        return
    on = case.held[overrun - 1].start.date()
    closed = min([day for day in (complete, ended) if day is not None], default=None)
    if closed is not None and closed <= on:
        return
    missing = [
        mappings.displays[Code(COURSE_FIELD, task)]
        for task in protocol.initial.tasks
        if task not in documents or (closed is not None and documents[task].on > on)
    ]
    held = [session for session in case.held if closed is None or session.start.date() < closed]
    values: Values = {"held": len(held), "missing": ", ".join(missing)}
    yield Raised("initial.overrun", on, values, rests_on(held), closed=closed)


RULES = (_initial_phase,)
