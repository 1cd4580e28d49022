"""The third loop: for each source, what changes have only named is fetched from its EHR, and patients searched for.

What waits stands in the store, so that it outlives the worker, and the intake of what comes whole goes on
meanwhile. An answer goes the way of every change: `Intake.take_in` reads it and stores it, or parks it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import structlog

from service.batches import Answer, log_defect, record_of
from service.inbound.changes import Change
from service.inbound.fetched import about, absent, fetched, kept, looked_at, path_of, search_of
from service.inbound.records import Reason, Unreadable
from service.rest.backoff import Backoff
from service.rest.breaker import Breaker, State
from service.rest.client import Absent
from service.rest.errors import Permanent, Transient
from service.store.errors import is_transient
from service.store.values import Later

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from service.domain.facts import FactKey
    from service.inbound.records import Limits
    from service.intake import Feed, Intake
    from service.rest.client import FhirClient
    from service.settings import Fetching
    from service.store import Store
    from service.store.values import ClaimedAwaited
    from service.vitals import Vitals

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

LOOK_S = 1.0
"""How often to look for what waits (seconds)."""
ROUNDS = 8
"""So many resources are claimed for each request that may be under way: few transactions, short leases."""
MOST_VERSIONS = 10_000
"""Resources whose version is remembered: some 2 MB."""
LOOKS = 3
"""So often a resource is asked for before it counts as deleted because it is not found: a replica may lag behind."""
NOT_FOUND = "not-found"
RETRY_S = 2.0
"""Wait before answers are stored again that the database did not take (seconds)."""


class Versions:
    """Which versions of resources were fetched last, so that none is fetched twice for two changes that name it."""

    def __init__(self, most: int = MOST_VERSIONS) -> None:
        self._most = most
        self._versions: dict[FactKey, str] = {}

    def holds(self, key: FactKey, version: str | None) -> bool:
        """Return whether this very version was fetched; never where no version is named."""
        return version is not None and self._versions.get(key) == version

    def note(self, key: FactKey, version: str) -> None:
        """Remember what was fetched, and forget what was fetched longest ago."""
        self._versions.pop(key, None)
        self._versions[key] = version
        if len(self._versions) > self._most:
            del self._versions[next(iter(self._versions))]


class Fetcher:
    """Asks the EHR of one source for what waits, again and again."""

    def __init__(  # noqa: PLR0913 - what it brings together
        self,
        store: Store,
        intake: Intake,
        feed: Feed,
        client: FhirClient,
        *,
        settings: Fetching,
        limits: Limits,
        vitals: Vitals,
        on_change: Callable[[], None],
    ) -> None:
        """`client` is one of the source's FHIR base; `on_change` is called after each turn that changed a course."""
        self._store = store
        self._intake = intake
        self._feed = feed
        self._source = feed.context.id
        self._client = client
        self._limits = limits
        self._vitals = vitals
        self._metrics = vitals.metrics
        self._on_change = on_change
        self._at_once = settings.concurrency
        self._places = asyncio.Semaphore(settings.concurrency)
        self._lease = timedelta(seconds=settings.lease_s)
        self._backoff = Backoff(settings.backoff_s, settings.backoff_max_s)
        self._breaker = Breaker(settings.failures, self._backoff)
        self._versions = Versions()

    async def run(self, stop: asyncio.Event) -> None:
        """Fetch until `stop` is set; what is under way then is finished first."""
        while not stop.is_set():
            self._vitals.turn("fetching")
            busy = False
            try:
                busy = await self.turn(stop)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("the database is away; fetching waits", source=self._source, exc_info=error)
            if not busy:
                await _pause(stop, LOOK_S)
        self._vitals.health.ended("fetching")

    async def turn(self, stop: asyncio.Event) -> bool:
        """Ask for what is due; return whether more may be."""
        now = self._vitals.now()
        state = self._breaker.state(now)
        if state is State.OPEN:
            return False
        most = 1 if state is State.HALF_OPEN else ROUNDS * self._at_once
        claimed = await self._store.awaiting.claim(self._source, now, most, self._lease)
        found = await asyncio.gather(*(self._ask(each, stop) for each in claimed))
        later = [each for each in found if isinstance(each, Later)]
        answers = [each for each in found if isinstance(each, Answer)]
        if later:
            await self._insisting(lambda: self._store.awaiting.postpone(later), stop)
        if answers:
            await self._store_answers(answers, stop)
        return len(claimed) == most

    async def _store_answers(self, answers: Sequence[Answer], stop: asyncio.Event) -> None:
        taken = await self._insisting(lambda: self._intake.take_in(answers), stop)
        if taken is None:
            return
        for answer in answers:
            if answer.version is not None and answer.claimed.awaited.key not in taken.parked:
                self._versions.note(answer.claimed.awaited.key, answer.version)
        if taken.changed:
            self._on_change()

    async def _insisting(self, work: Callable[[], Awaitable[_T]], stop: asyncio.Event) -> _T | None:
        """Return what `work` returns, tried again while the database is away; None if told to stop meanwhile.

        What it was about is asked for anew then, once its lease is over.
        """
        while True:
            self._vitals.turn("fetching")
            try:
                return await work()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("the database did not take what was fetched", source=self._source, exc_info=error)
            await _pause(stop, RETRY_S)
            if stop.is_set():
                return None

    async def _ask(self, claimed: ClaimedAwaited, stop: asyncio.Event) -> Answer | Later:
        """Return what the EHR says, or when it is to be asked again."""
        if self._is_known(claimed):
            self._metrics.fetches(self._source, "known").inc()
            return Answer(claimed, None)
        async with self._places:
            self._vitals.turn("fetching")
            now = self._vitals.now()
            if stop.is_set() or not self._breaker.allow(now):
                return Later(claimed, self._breaker.next_at(now), None)
            try:
                answer = await self._answer(claimed)
            except Transient as error:
                return self._failed(claimed, error)
            except Permanent as error:
                reason = Reason.FETCH_FORBIDDEN if error.code == "forbidden" else Reason.FETCH_REFUSED
                answer = Answer(claimed, Unreadable(reason))
            except Exception as error:  # noqa: BLE001 - a defect that one resource meets must not end the others
                log_defect(error)
                answer = Answer(claimed, Unreadable(Reason.FETCH_REFUSED))
        self._breaker.succeeded(self._vitals.now())
        if isinstance(answer, Later):
            self._metrics.fetches(self._source, "retried").inc()
            return answer
        outcome = "parked" if isinstance(answer.change, Unreadable) else "fetched"
        if isinstance(answer.change, Change) and answer.change.resource is None:
            outcome = "gone"
        self._metrics.fetches(self._source, outcome).inc()
        return answer

    async def _answer(self, claimed: ClaimedAwaited) -> Answer | Later:
        """Return a change with the resource and the patient that it needs. Raises Transient and Permanent."""
        awaited = claimed.awaited
        change = await self._resource(claimed)
        if isinstance(change, Later):
            return change
        if isinstance(change, Unreadable):
            return Answer(claimed, change)
        record = record_of(awaited.record)
        context = self._feed.context
        try:
            reading = looked_at(change, record.timestamp, context, self._feed.relevance, self._limits)
        except Exception:  # noqa: BLE001 - a defect of a reader: the intake meets it too, and parks what it fails on
            return Answer(claimed, change)
        version = None
        if awaited.subject is None and not (reading.unreadable or reading.subjects):
            version = _version(change)
        if reading.subjects:
            ((_, _, token),) = reading.subjects
            found = await self._client.search_unlogged("Patient", search_of(token))
            return Answer(claimed, about(change, found, self._limits))
        return Answer(claimed, change, version)

    async def _resource(self, claimed: ClaimedAwaited) -> Change | Unreadable | Later:
        awaited = claimed.awaited
        if awaited.subject is not None:
            context = self._intake.context_of(awaited.record.topic) or self._feed.context
            return kept(record_of(awaited.record), awaited.entry, context, self._limits)
        path = path_of(awaited.key)
        if path is None:
            return Unreadable(Reason.NO_ID)
        body = await self._client.get(path)
        if body is Absent.NOT_FOUND and (claimed.attempts < LOOKS - 1 or claimed.outcome != NOT_FOUND):
            wait = self._backoff.wait(claimed.attempts + 1, None, 1.0)
            return Later(claimed, self._vitals.now() + wait, NOT_FOUND)
        if isinstance(body, Absent):
            return absent(awaited.key, awaited.version, awaited.last_updated, is_said=body is Absent.GONE)
        return fetched(awaited.key, body, awaited.version, awaited.last_updated, self._limits)

    def _failed(self, claimed: ClaimedAwaited, error: Transient) -> Later:
        """Let it wait, and the others too where the server fails whatever it is asked."""
        now = self._vitals.now()
        wait = self._backoff.wait(claimed.attempts + 1, error.retry_after, random.random())  # noqa: S311 - spreads load
        subject = claimed.awaited.key.reference
        opened = self._breaker.failed(
            now,
            error.retry_after,
            random.random(),  # noqa: S311 - as above
            subject,
            asks_all=error.asks_all,
        )
        self._metrics.fetches(self._source, "retried").inc()
        if opened:
            log.warning(
                "an EHR gives nothing; it is left alone for a while",
                source=self._source,
                code=error.code,
                wait_s=round((self._breaker.next_at(now) - now).total_seconds(), 1),
            )
        else:
            log.info("a resource could not be fetched; trying again", source=self._source, code=error.code)
        return Later(claimed, now + wait, error.code)

    def _is_known(self, claimed: ClaimedAwaited) -> bool:
        """Whether the very version that was named is read already: from the EHR, or whole from the stream."""
        awaited = claimed.awaited
        if awaited.subject is not None or awaited.version is None:
            return False
        if self._versions.holds(awaited.key, awaited.version):
            return True
        return claimed.known_version is not None and str(claimed.known_version) == awaited.version


def _version(change: Change) -> str | None:
    meta = change.resource.get("meta") if change.resource is not None else None
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return version if isinstance(version, str) else None


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
