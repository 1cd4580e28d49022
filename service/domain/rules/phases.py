"""The initial phase: complete, or overrun."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from service.domain.facts import Code
from service.domain.forms import COURSE_FIELD
from service.domain.rules.case import Raised, rests_on
from service.domain.spans import FOREVER, Span, both, either

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values
    from service.domain.spans import Spans


def _initial_phase(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Complete when its tasks are documented; overrun when the published number of sessions is held without.

    Each day goes by the protocol that was followed then.
    """
    del protocol
    followed = [mappings.protocols[span.protocol] for span in case.protocols]
    tasks = next((each.initial.tasks for each in reversed(followed) if each.initial.tasks), ())
    documents = {document.task: document for document in case.documented}
    days = [documents[task].on for task in tasks if task in documents]
    complete = max(days) if days and len(days) == len(tasks) else None
    ended = case.ended
    if complete is not None and (ended is None or complete < ended):
        facts = tuple(documents[task].fact for task in tasks)
        yield Raised("initial.complete", complete, {"on": complete.isoformat()}, facts, closed=ended)
    over = _overrun(case, followed)
    if not over:
        return
    until = min(complete or FOREVER, ended or FOREVER)
    for place, span in enumerate(both(over, [Span(date.min, until)])):
        missing = [
            mappings.displays[Code(COURSE_FIELD, task)]
            for task in tasks
            if task not in documents or (span.closed is not None and documents[task].on > span.since)
        ]
        held = [session for session in case.held if session.start.date() < span.until]
        values: Values = {"held": len(held), "missing": ", ".join(missing)}
        key = span.since.isoformat() if place else ""
        yield Raised("initial.overrun", span.since, values, rests_on(held), key=key, closed=span.closed)


def _overrun(case: Case, followed: list[Protocol]) -> Spans:
    """While more sessions were held than the initial phase of the protocol takes, complete or not."""
    found: list[Spans] = []
    ends = [*[span.since for span in case.protocols[1:]], FOREVER]
    for place, (protocol, until) in enumerate(zip(followed, ends, strict=True)):
        number = protocol.initial.overrun_after.count
        if protocol.initial.tasks and len(case.held) >= number:
            reached = case.held[number - 1].start.date()
            since = max(reached, case.protocols[place].since) if place else reached
            if since < until:
                found.append([Span(since, until)])
    return either(*found)


RULES = (_initial_phase,)
