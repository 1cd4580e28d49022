"""Catching up: what the stream missed, searched for at the EHR and stored like any other batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.backfill.searching import Query, searched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from service.backfill.portions import Position
    from service.inbound.records import SourceContext
    from service.intake import Intake
    from service.rest.client import FhirClient


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What a search brought."""

    found: int
    """Resources."""
    lacking: int
    """Resources that the server says it has, and does not give."""
    changed: bool
    """Whether any course is another than before."""


async def catch_up(  # noqa: PLR0913 - where, what, and since when
    client: FhirClient,
    intake: Intake,
    source: SourceContext,
    types: Sequence[str],
    *,
    since: datetime,
    until: datetime | None = None,
    may_lack: frozenset[str] = frozenset(),
    position: Position | None = None,
    stored: Callable[[CaughtUp, Position], Awaitable[None]] | None = None,
    now: Callable[[], datetime],
) -> CaughtUp:
    """Store what changed at the source's FHIR server from `since` on, a page at a time; return what it was.

    It goes on from a position that an earlier one gave to `stored`, which hears after each page what is stored by then.
    The search begins a few minutes earlier: doing it again, or too widely, is harmless. A search tells of no
    deletes. Raises Transient while the server is away, what `Intake.process` raises while the database is, and
    Permanent or Refusal where the server will not have it, once all else is stored; those of `may_lack` it may refuse.
    """
    found = lacking = 0
    changed = False
    async for portion in searched(client, Query(tuple(types), since, until, may_lack=may_lack), source, now, position):
        found += len(portion.records)
        lacking += portion.lacking
        if portion.records:
            changed = await intake.process(await intake.read(portion.records)) or changed
        if stored is not None:
            await stored(CaughtUp(found, lacking, changed), portion.position)
    return CaughtUp(found, lacking, changed)
