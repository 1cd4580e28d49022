"""The watch over event numbers: gaps that stay open are told, and what they hide is searched for where it can be."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from service.backfill.portions import Refusal
from service.rest.errors import Permanent, Transient
from service.store.errors import is_transient
from service.store.values import GapClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from service.backfill.catching_up import CaughtUp
    from service.backfill.portions import Position
    from service.store import EventGap, Store
    from service.store.backfills import Backfills
    from service.vitals import Vitals

    class Find(Protocol):
        """`catch_up`, with all it needs but the time."""

        def __call__(
            self,
            *,
            since: datetime,
            until: datetime,
            position: Position,
            stored: Callable[[CaughtUp, Position], Awaitable[None]],
        ) -> Awaitable[CaughtUp]:
            """Store what changed in that time, from a position on; `stored` hears of each page."""
            ...

    CatchUp = Callable[[EventGap], Awaitable[None]]

log = structlog.get_logger(__name__)

LOOK_S = 15.0
"""Wait between two looks at the event numbers (seconds)."""
LEASE = timedelta(minutes=10)
"""How long one worker keeps a search to itself; the next attempt where it ended in the middle."""
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
"""Waits between searches that fail: doubled up to this."""
MARGIN = timedelta(minutes=5)
"""Searched after a gap, too: clocks differ."""


def searching(
    find: Find, backfills: Backfills, types: Sequence[str], wake: Callable[[], None], now: Callable[[], datetime]
) -> CatchUp:
    """Return how to find what a gap hides: `find` what the source's FHIR server says has changed in that time.

    Whatever comes of it besides is known already, and changes nothing; `wake` is called if a course changed. How far
    it came is kept, as for a backfill of these `types`: one that takes longer than a lease goes on from there.
    """

    async def search(gap: EventGap) -> None:
        job = await backfills.begin(f"gap-{gap.id}-{'-'.join(types)}", gap.source, "gap", now())
        lacked = job.counts.get("lacking", 0)

        async def stored(brought: CaughtUp, position: Position) -> None:
            nonlocal job
            if brought.changed:
                wake()
            job = replace(job, position=position, counts={"lacking": lacked + brought.lacking})
            await backfills.keep(job, now())

        until = gap.before + MARGIN
        await find(since=gap.after, until=until, position=dict(job.position), stored=stored)
        await backfills.keep(job, now(), done=True)
        if job.counts.get("lacking"):
            raise Transient("incomplete", "The server has resources that it does not give.")

    return search


class GapWatch:
    """Watches the gaps of all sources; of several workers one notices each, and one searches."""

    def __init__(self, store: Store, open_for: timedelta, catch_up: Mapping[str, CatchUp], vitals: Vitals) -> None:
        """`catch_up` by source, of those whose FHIR server can be searched; raises Transient, Permanent, Refusal."""
        self._store = store
        self._open_for = open_for
        self._catch_up = catch_up
        self._vitals = vitals
        self._metrics = vitals.metrics
        self._told: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look, and search for each source by itself, again and again until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self.look, stop))
            for source in self._catch_up:
                group.create_task(self._again(partial(self._search_all, source, stop), stop))

    async def _search_all(self, source: str, stop: asyncio.Event) -> None:
        while not stop.is_set() and await self.search(source):
            pass

    async def _again(self, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await work()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("the database is away; gaps in event numbers are looked for later", exc_info=error)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)

    async def look(self) -> None:
        """Notice the gaps that have stayed open, and count those that are."""
        # While a backlog is read, one partition may be hours behind another: nothing is missing yet.
        if not self._vitals.backlog.catching_up:
            for gap in await self._store.sources.notice_gaps(self._open_for, self._vitals.now()):
                self._metrics.missed_events(gap.source).inc(gap.missing)
                log.warning(
                    "events of a subscription have not come; they are searched for"
                    if gap.source in self._catch_up
                    else "events of a subscription have not come; set the source's fhir_base, or backfill them",
                    source=gap.source,
                    missing=gap.missing,
                )
        found = await self._store.sources.open_gaps()
        for source in self._told | found.keys():
            self._metrics.event_gaps(source).set(found.get(source, 0))
        self._told |= found.keys()

    async def search(self, source: str) -> bool:
        """Search for what one gap of a source hides, if there is one; return whether there was."""
        gap = await self._store.sources.claim_gap([source], LEASE, self._vitals.now())
        if gap is None:
            return False
        try:
            async with asyncio.timeout(LEASE.total_seconds()):
                await self._catch_up[source](gap)
        except (Transient, Permanent, Refusal, TimeoutError) as error:
            # One that took as long as it may is not failing: it goes on.
            doubled = 0 if isinstance(error, TimeoutError) else min(gap.attempts - 1, 10)
            wait = min(FIRST_WAIT * 2**doubled, LONGEST_WAIT)
            await self._store.sources.postpone_gap(gap, self._vitals.now() + wait)
            log.warning(
                "events that have not come could not be searched for; trying again later",
                source=gap.source,
                error=type(error).__name__,
                wait_s=wait.total_seconds(),
            )
            return True
        await self._store.sources.close_gap(gap, GapClosed.SEARCHED, self._vitals.now())
        log.info("events that had not come were searched for", source=gap.source, missing=gap.missing)
        return True
