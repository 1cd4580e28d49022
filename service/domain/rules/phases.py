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
    documents = {document.task: document for document in case.documented}
    if case.initial_complete is not None:
        facts = tuple(documents[task].fact for task in protocol.initial.tasks)
        if case.open:
            yield Raised("initial.complete", case.initial_complete, {"on": case.initial_complete.isoformat()}, facts)
        return
    overrun = protocol.initial.overrun_after.count
    if case.open and len(case.held) >= overrun:
        missing = [
            mappings.displays[Code(COURSE_FIELD, task)] for task in protocol.initial.tasks if task not in documents
        ]
        values: Values = {"held": len(case.held), "missing": ", ".join(missing)}
        yield Raised("initial.overrun", case.held[overrun - 1].start.date(), values, rests_on(case.held))


RULES = (_initial_phase,)
