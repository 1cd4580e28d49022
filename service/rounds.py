"""The slow look: what clinicians completed at a destination, where no delivery comes by and no topic tells of it."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from service.rest.errors import Transient
from service.store.errors import is_transient

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from service.deliveries import TakeIn
    from service.outbound.ehr import EhrDestination
    from service.store import Store
    from service.store.values import Asking
    from service.vitals import Vitals

log = structlog.get_logger(__name__)

PORTION = 20
"""Courses whose open Tasks are looked at before the next pause (courses)."""
PAUSE_S = 1.0
"""Pause between two portions: plans are delivered meanwhile (seconds)."""
MOST_FAILED = 3
"""Courses in a row whose Tasks can't be looked at: so many, and the rest waits for the next look (courses)."""
OVERLAP = timedelta(minutes=5)
"""So much further back a search goes than the last look: clocks differ, and a search index lags behind."""


class Rounds:
    """Looks at the open Tasks of one destination, again and again. One that can't be read holds up no other.

    Several workers may do so at once: what is told twice counts once. Nothing is looked at while the destination is
    paused: the look goes on after that.
    """

    def __init__(self, store: Store, place: EhrDestination, take_in: TakeIn, vitals: Vitals, *, every_s: float) -> None:
        """`take_in` takes completed Tasks as the stream's events are taken; `every_s` in seconds."""
        self._store = store
        self._place = place
        self._take_in = take_in
        self._vitals = vitals
        self._every_s = every_s
        self._since: datetime | None = None
        """When the last whole look began."""
        self._began: datetime | None = None
        """When the look began that is not at its end yet."""
        self._after = ""
        """The last course that it came to."""
        self._again: set[str] = set()
        """Courses that could not be looked at: the next time all their Tasks are read."""

    async def run(self, stop: asyncio.Event) -> None:
        """Look every so often until `stop` is set; for the first time somewhen within that time."""
        wait = self._every_s * random.random()  # noqa: S311 - spreads the workers
        while not await _stopped(stop, wait):
            await self.look(stop)
            wait = self._every_s

    async def look(self, stop: asyncio.Event) -> None:
        """Take in what was completed since the last whole look.

        Where the server, or the database, is in trouble, or the destination paused, the next one goes on where this
        one ended.
        """
        if self._began is None:
            self._began = self._vitals.now()
        try:
            if await self._looked(stop):
                self._since, self._began, self._after = self._began, None, ""
        except Transient as error:
            name = self._place.name
            log.warning("open Tasks can't be looked at; trying again later", destination=name, code=error.code)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("the database is away; open Tasks are looked at later", exc_info=error)

    async def _looked(self, stop: asyncio.Event) -> bool:
        """Return whether all were looked at."""
        since = None if self._since is None else self._since - OVERLAP
        asking = await self._store.deliveries.asking(self._place.name, self._after, PORTION)
        among = await self._place.completed_since(since) if asking else None
        failed = 0
        while asking:
            for each in asking:
                failed = 0 if await self._course(each, among) else failed + 1
                self._after = each.course_id
                if failed == MOST_FAILED:
                    return False
            if await _stopped(stop, PAUSE_S if among is None else 0.0):
                return False
            asking = await self._store.deliveries.asking(self._place.name, self._after, PORTION)
        return asking is not None

    async def _course(self, asking: Asking, among: Collection[str] | None) -> bool:
        """Return whether a course could be looked at."""
        if asking.course_id in self._again:
            among = None
        well = False
        try:
            looked = await self._place.completed(asking.patient, asking.remote, among)
            if looked.done:
                await self._take_in(asking.patient.source, looked.done)
            well = looked.trouble is None
        except Exception as error:
            # Whatever one course has that can't be read: the others are looked at, and a person sees it.
            if is_transient(error):
                raise
            name = self._place.name
            log.exception("open Tasks can't be looked at", destination=name, course=asking.course_id, exc_info=error)
        if well:
            self._again.discard(asking.course_id)
        else:
            self._again.add(asking.course_id)
        return well


async def _stopped(stop: asyncio.Event, wait_s: float) -> bool:
    """Return whether it is to stop, within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await stop.wait()
    return stop.is_set()
