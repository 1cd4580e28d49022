"""Sources, as a person reads them at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from service.outbound.wording import day
from service.store.values import GapClosed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from rich.console import Console, RenderableType

    from service.commands.sources import SourceState
    from service.store import EventGap

_DAY_H = 24
_CLOSED = {
    "arrived": "came late",
    "searched": "searched for",  # as earlier releases wrote it
    "searched-without-deletes": "searched for without deletes",
    "settled": "closed by hand",
}


def show(console: Console, states: Sequence[SourceState]) -> None:
    """Print each source: what comes, what is missing, what is wrong."""
    for place, state in enumerate(states):
        if place:
            console.print()
        console.print(Text(f"source {state.source.id}", "bold"), Text(", ".join(t.name for t in state.source.topics)))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        for label, told in _rows(state):
            table.add_row(label, told)
        console.print(table, highlight=False)


def _rows(state: SourceState) -> Iterator[tuple[str, RenderableType]]:
    latest = state.overview.latest
    yield "last event", Text("none yet" if latest is None else _instant(latest))
    yield "lag", Text(_lag(state))
    yield "changes", _changes(state)
    yield "gaps", _gaps(state)
    yield "conformance", _conformance(state)
    waiting = ", ".join(f"{count} {reason}" for reason, count in state.overview.parked.items())
    yield "parked", Text(f"{waiting}: ipt-bridge parked list" if waiting else "nothing")


def _lag(state: SourceState) -> str:
    if state.lag is None:
        return "unknown: Kafka does not answer (ipt-bridge check)"
    told = ", ".join(f"{topic} {count}" for topic, count in state.lag.items())
    return f"{sum(state.lag.values())} records ({told})"


def _changes(state: SourceState) -> RenderableType:
    if not state.rates:
        return Text("none yet")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("kind", "outcome"):
        table.add_column(heading)
    for heading in ("last 24 h", "an hour", "ever"):
        table.add_column(heading, justify="right")
    for each in state.rates:
        table.add_row(each.kind, each.outcome, str(each.day), f"{each.day / _DAY_H:.1f}", str(each.total))
    return table


def _gaps(state: SourceState) -> RenderableType:
    lines = [_gap(each, searched=state.source.fhir_base is not None) for each in state.overview.gaps] or ["none open"]
    closed = [f"{count} {_CLOSED[how]}" for how, count in sorted(state.overview.gaps_closed.items())]
    if closed:
        lines.append(f"closed: {', '.join(closed)}")
    if GapClosed.SEARCHED in state.overview.gaps_closed:
        lines.append("a search tells of no deletes; `ipt-bridge backfill search --history` brings them")
    return Text("\n".join(lines))


def _gap(gap: EventGap, *, searched: bool) -> str:
    numbers = str(gap.first) if gap.missing == 1 else f"{gap.first} to {gap.last}"
    todo = f"searches: {gap.attempts}" if searched else "set fhir_base to have them searched for"
    return (
        f"{gap.subscription}: event {numbers} missing, between {_instant(gap.after)} and {_instant(gap.before)}; {todo}"
    )


def _conformance(state: SourceState) -> RenderableType:
    if not state.held:
        return Text("not looked at (inbound.conformance)")
    told = f"{state.deviating} of {state.held} resources deviate from FHIR {state.source.fhir_version}"
    lines = [f"  {count}  {path}" for path, count in state.deviations]
    return Text("\n".join([told + (", at" if lines else ""), *lines]))


def _instant(moment: datetime) -> str:
    return f"{day(moment.date())} {moment:%H:%M:%S} UTC"
