"""The first loop: records in, facts merged, courses projected, all in one transaction a batch.

gather (`read`) → decide (`decisions`, pure) → apply (`Transaction.write`); the offset is committed after.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import randrange
from typing import TYPE_CHECKING

import structlog

from service.batches import Batch, Taken, kept, log_defect, park_answer, set_aside
from service.domain.evidence import interpret
from service.domain.facts import Fact, FactKey, PatientKey, PatientReading, merge
from service.inbound.reading import RecordReading, marker_of, read_change, read_record
from service.inbound.records import HISTORY, Reason, Unreadable
from service.projector import Changes, Projector
from service.store.errors import is_transient
from service.store.values import Parked
from service.tally import NO_EVENT, OTHER, UNKNOWN, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from service.batches import Answer
    from service.domain.mappings import Mappings
    from service.inbound.envelopes import Notice
    from service.inbound.records import Limits, Record, SourceContext
    from service.inbound.relevance import Relevance
    from service.meter import Meter
    from service.projector import Projected
    from service.store import Store
    from service.store.transaction import Transaction
    from service.store.values import Destination, Edition, Merged
    from service.vitals import Vitals

log = structlog.get_logger(__name__)

UNPROCESSABLE = "unprocessable"
"""Reason code of a record that was readable, and on which projecting or storing fails for good."""
DUE_AT_ONCE = 500
"""Patients that a sweep projects in one transaction."""
PUT_OFF_S = 60.0
"""When patients that were put off fall due, should the worker be gone that put them off (seconds)."""
STOPPED = frozenset({"error", "off"})
"""What a Subscription's status is when it sends no events."""
MOST_STOPPED = 1000
"""Subscriptions of which it is remembered; a feed has a handful."""
TELL_S = 1.0
"""What is counted of the sources is stored with a batch so often at the most (seconds)."""
READ_AT_ONCE = 64
"""Records read in one go, some 2 ms: then the database's answers to the batch before get their turn."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A source as the intake reads it."""

    context: SourceContext
    relevance: Relevance
    mappings: Mappings


class Intake:
    """Processes batches of records against one store."""

    def __init__(
        self,
        store: Store,
        feeds: Mapping[str, Feed],
        destinations: Sequence[Destination],
        limits: Limits,
        vitals: Vitals,
    ) -> None:
        """`feeds` by topic; the clock is read once for each transaction."""
        self._store = store
        self._feeds = feeds
        self._feed_of = {feed.context.id: feed for feed in feeds.values()}
        self._mappings = {source: feed.mappings for source, feed in self._feed_of.items()}
        self._limits = limits
        self._metrics = vitals.metrics
        self._now = vitals.now
        self._projector = Projector(self._mappings, destinations)
        self._put_off: dict[PatientKey, Changes] = {}
        self.stored: Counter[str] = Counter()
        """Since it was made: records by outcome, and `courses` that got another revision."""
        self._stopped: dict[tuple[str, str], str] = {}
        self._followed: set[tuple[str, str]] = set()
        self.meter: Meter | None = None
        """Holds a sample of what is read against the full FHIR models."""
        self._untold = Tally()
        self._tell_after = vitals.now()

    async def read(self, records: Sequence[Record], batch: Batch | None = None) -> Batch:
        """Return a batch, `batch` or an empty one, with what these records hold added to it.

        Never raises for what a record holds; others run in between.
        """
        batch = Batch() if batch is None else batch
        for start in range(0, len(records), READ_AT_ONCE):
            for record in records[start : start + READ_AT_ONCE]:
                self._read(record, batch)
            if self.meter is not None:
                self.meter.sample(records[start : start + READ_AT_ONCE], batch.told)
            await asyncio.sleep(0)
        return batch

    async def process(self, batch: Batch, *, put_off: bool = False) -> bool:
        """Store what a batch says and return whether any course changed.

        With `put_off` the patients are projected later, by `catch_up`: many events of a backlog then cost one
        projection. The database knows it: should this worker end before, the sweeper does it.

        A transient error is raised, and nothing of the batch is stored. A batch that fails for good is
        halved until the record that it fails on stands alone and is parked.
        """
        try:
            changed = await self._store_batch(batch, put_off=put_off)
        except Exception as error:
            if is_transient(error):
                raise
            self._metrics.batches("bisected").inc()
            records = batch.records
            if len(records) > 1:
                middle = len(records) // 2
                first = await self.process(await self.read(records[:middle]), put_off=put_off)
                return await self.process(await self.read(records[middle:]), put_off=put_off) or first
            log.exception("a record can't be processed and is parked", reason=UNPROCESSABLE, exc_info=error)
            await self._park_whole(records[0])
            return False
        self._count(batch)
        return changed

    async def tell(self) -> None:
        """Store what was counted of batches that had nothing else to store. A transient error is raised."""
        if self._untold:
            async with self._telling(Tally()) as whole, self._store.transaction() as transaction:
                await _tell(transaction, whole, self._now())

    @asynccontextmanager
    async def _telling(self, told: Tally) -> AsyncIterator[Tally]:
        """Give what is to be told and what waits for a transaction; that waits on if the transaction fails."""
        untold, self._untold = self._untold, Tally()
        whole = Tally()
        whole.add(untold)
        whole.add(told)
        try:
            yield whole
        except BaseException:
            self._untold.add(untold)
            raise

    @property
    def put_off(self) -> int:
        """How many patients are put off."""
        return len(self._put_off)

    async def catch_up(self) -> bool:
        """Project the patients that were put off; return whether there were any. A transient error is raised."""
        found = bool(self._put_off)
        # Workers that put the same patients off start at different ones: they seldom wait for each other's locks,
        # and what one has projected the other passes over.
        waiting = sorted(self._put_off)
        start = randrange(len(waiting)) if waiting else 0  # noqa: S311 - spreads load, guards nothing
        waiting = waiting[start:] + waiting[:start]
        for first in range(0, len(waiting), DUE_AT_ONCE):
            some = {patient: self._put_off[patient] for patient in waiting[first : first + DUE_AT_ONCE]}
            try:
                await self._project_all(some, put_off=True)
            except Exception as error:
                if is_transient(error):
                    raise
                for patient, changes in some.items():
                    await self._projected_alone(patient, changes)
            for patient in some:
                del self._put_off[patient]
        return found

    async def learn(self, facts: Sequence[Fact]) -> bool:
        """Store facts that no record tells of; return whether any course is another. A transient error is raised."""
        async with self._store.transaction() as transaction:
            editions, changes, effects = await self._merge(transaction, facts, put_off=False)
            projected = await self._projector.project(transaction, editions, changes, self._now())
        for (source, effect), count in effects.items():
            self._metrics.facts(source, effect).inc(count)
        self._after(projected)
        return projected.courses.total() > 0

    async def sweep(self) -> int:
        """Project the patients that time alone has changed; return how many they were."""
        swept = 0
        failed: set[PatientKey] = set()
        while due := await self._due(failed):
            try:
                await self._project_all({patient: {} for patient in due})
            except Exception as error:
                if is_transient(error):
                    raise
                for patient in due:
                    if not await self._projected_alone(patient, {}):
                        failed.add(patient)
            swept += len(due)
        self._metrics.sweeps.inc()
        self._metrics.due_patients.inc(swept)
        return swept

    async def _due(self, failed: set[PatientKey]) -> list[PatientKey]:
        due = await self._store.due_patients(self._now(), DUE_AT_ONCE + len(failed))
        return [patient for patient in due if patient not in failed]

    async def _project_all(self, changes: Mapping[PatientKey, Changes], *, put_off: bool = False) -> None:
        """Project these patients; of those `put_off`, the ones that no other worker has projected meanwhile."""
        async with self._store.transaction() as transaction:
            editions = await transaction.lock(changes)
            if put_off:
                changes = {key: each for key, each in changes.items() if editions[key].is_put_off}
            projected = await self._projector.project(transaction, editions, changes, self._now())
        self._after(projected)

    async def _projected_alone(self, patient: PatientKey, changes: Changes) -> bool:
        """Project one patient, so that one whose projection fails does not hold up the others."""
        try:
            await self._project_all({patient: changes})
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("a patient can't be projected; `ipt-bridge verify` shows it", exc_info=error)
            return False
        return True

    def _read(self, record: Record, batch: Batch) -> None:
        feed = self._feeds[record.topic]
        source = feed.context.id
        batch.records.append(record)
        batch.bytes += len(record.value or b"")
        try:
            reading = read_record(record, feed.context, feed.relevance, self._limits)
        except Exception as error:  # noqa: BLE001 - no defect of a reader stops a feed, or loses what it fails on
            log_defect(error)
            batch.parked.append(Parked(source, UNPROCESSABLE, None, kept(record)))
            batch.outcomes[source, "parked"] += 1
            batch.told.counts[source, UNKNOWN, "parked"] += 1
            batch.latest[source] = record.timestamp
            return
        if reading.notices:
            self._listen(source, reading.notices, record.timestamp, batch.told)
        if reading.skipped:
            batch.told.counts[source, OTHER, "irrelevant"] += len(reading.skipped)
        outcome = "irrelevant"
        if reading.facts:
            batch.facts += reading.facts
            outcome = "relevant"
        if reading.irrelevant:
            batch.not_ours += reading.irrelevant
        if reading.unreadable or reading.fetch or reading.subjects:
            outcome = set_aside(reading, kept(record), feed.context, batch)
        batch.outcomes[source, outcome] += 1
        batch.latest[source] = record.timestamp

    def context_of(self, topic: str) -> SourceContext | None:
        """Return how records of a topic are read; None where none of it are read any longer."""
        feed = self._feeds.get(topic)
        return None if feed is None else feed.context

    async def take_in(self, answers: Sequence[Answer]) -> Taken:
        """Store what EHRs have answered, as `process` does with records; nothing of it waits any longer.

        A transient error is raised, and nothing is stored. Answers that fail for good are halved until the one that
        they fail on stands alone and is parked.
        """
        batch = Batch()
        for answer in answers:
            self._read_answer(answer, batch)
        try:
            changed = await self._store_batch(batch, put_off=False)
        except Exception as error:
            if is_transient(error):
                raise
            if len(answers) > 1:
                middle = len(answers) // 2
                first, second = await self.take_in(answers[:middle]), await self.take_in(answers[middle:])
                return Taken(first.changed or second.changed, first.parked | second.parked)
            log.exception("what was fetched can't be processed and is parked", reason=UNPROCESSABLE, exc_info=error)
            batch, changed = Batch(), False
            park_answer(answers[0].claimed, UNPROCESSABLE, None, batch)
            await self._store_batch(batch, put_off=False)
        self._count(batch)
        parked = {(each.record, each.entry) for each in batch.parked}
        claimed = [each.claimed.awaited for each in answers]
        return Taken(changed, frozenset(each.key for each in claimed if (each.record, each.entry) in parked))

    def _read_answer(self, answer: Answer, batch: Batch) -> None:
        claimed = answer.claimed
        if answer.change is None:
            batch.settled.append(claimed)
            return
        feed = self._feed_of[claimed.awaited.key.source]
        reading = RecordReading()
        place, time = claimed.awaited.entry, claimed.awaited.record.timestamp
        try:
            read_change(answer.change, place, time, feed.context, feed.relevance, self._limits, reading)
        except Exception as error:  # noqa: BLE001 - as for a record
            log_defect(error)
            park_answer(claimed, UNPROCESSABLE, None, batch)
            return
        # What would have to be asked for once more has been asked for: it is for a person.
        left = [Unreadable(Reason.UNRESOLVED_SUBJECT, change.path) for _, change, _ in reading.subjects]
        left += [Unreadable(Reason.REFERENCE_ONLY, change.path) for _, change in reading.fetch]
        for unreadable in (*(problem for _, problem in reading.unreadable), *left):
            park_answer(claimed, unreadable.code, unreadable.path, batch)
            return
        batch.facts += reading.facts
        batch.not_ours += reading.irrelevant
        batch.settled.append(claimed)
        is_history = claimed.awaited.record.topic.startswith(HISTORY)
        batch.told.latest[claimed.awaited.key.source] = NO_EVENT if is_history else time

    def _listen(self, source: str, notices: Iterable[Notice], time: datetime, told: Tally) -> None:
        """Follow the numbers of its events; log once where the EHR says that a subscription has stopped.

        Else no events look like nothing happening.
        """
        for notice in notices:
            told.follow(source, notice, time, self._followed)
            key = source, notice.subscription
            before = self._stopped.pop(key, None)
            if notice.status in STOPPED:
                if before is None:
                    log.warning(
                        "a subscription has stopped; look at it in the EHR", source=source, status=notice.status
                    )
                if len(self._stopped) < MOST_STOPPED:
                    self._stopped[key] = notice.status
            elif before is not None:
                log.info("a subscription goes again", source=source, status=notice.status)

    async def _store_batch(self, batch: Batch, *, put_off: bool) -> bool:
        told = _told(batch)
        if not (batch.facts or batch.not_ours or batch.parked or batch.awaited or batch.settled or told.numbers):
            self._untold.add(told)
            return False
        projected = None
        later: dict[PatientKey, Changes] = {}
        async with AsyncExitStack() as stack:
            # Numbers of events are never lost; counts of a second may be, rather than a statement for each record.
            is_told = bool(told.numbers) or self._now() >= self._tell_after
            whole = await stack.enter_async_context(self._telling(told)) if is_told else Tally()
            transaction = await stack.enter_async_context(self._store.transaction())
            now = self._now()
            facts = batch.facts + await self._markers(transaction, batch)
            editions, changes, effects = await self._merge(transaction, facts, put_off=put_off)
            if put_off:
                later = changes
                # Those that are put off already fall due no later.
                new = [key for key in changes if not editions[key].is_put_off]
                await transaction.put_off(new, now + timedelta(seconds=PUT_OFF_S))
            else:
                projected = await self._projector.project(transaction, editions, changes, now)
            await transaction.park(batch.parked, now)
            await transaction.await_(batch.awaited, now)
            await transaction.settle(batch.settled, now)
            if is_told:
                await _tell(transaction, whole, now)
        if is_told:
            self._tell_after = now + timedelta(seconds=TELL_S)
        else:
            self._untold.add(told)
        for (source, effect), count in effects.items():
            self._metrics.facts(source, effect).inc(count)
        for patient, changed in later.items():
            self._put_off.setdefault(patient, {}).update(changed)
        if projected is None:
            return False
        self._after(projected)
        return projected.courses.total() > 0

    async def _markers(self, transaction: Transaction, batch: Batch) -> list[Fact]:
        """Changes that are not ours become markers where they could hide something of ours."""
        if not batch.not_ours:
            return []
        keys = {fact.key for fact in batch.facts}
        patients = {patient for fact in batch.facts if (patient := _patient(fact)) is not None}
        keys |= (await transaction.known({each.key for each in batch.not_ours})).keys()
        named = {each.patient for each in batch.not_ours if each.patient is not None}
        patients |= await transaction.known_patients(named - patients)
        return [
            marker_of(each, self._feed_of[each.key.source].context.time_zone)
            for each in batch.not_ours
            # A Patient who is no longer merged, before one who was comes late: the feed of Patients is a small one.
            if each.key in keys or each.key.resource_type == "Patient" or each.patient in patients
        ]

    async def _merge(
        self, transaction: Transaction, facts: Iterable[Fact], *, put_off: bool
    ) -> tuple[dict[PatientKey, Edition], dict[PatientKey, Changes], Counter[tuple[str, str]]]:
        """Keep the newer facts; return the editions in which patients are locked, what changes for them, and effects.

        Those are numbers of facts by source and effect.
        """
        newest: dict[FactKey, Fact] = {}
        for fact in facts:
            newest[fact.key] = merge(newest.get(fact.key), fact)
        patients = {key for fact in newest.values() if (key := _patient(fact)) is not None}
        unnamed = [key for key, fact in newest.items() if fact.patient_id is None]
        patients |= {key for key in (await transaction.known(unnamed)).values() if key is not None}
        editions = await transaction.lock(patients)
        merged = await transaction.merge(newest.values())
        changes = self._changes(merged, None if put_off else newest)
        editions |= await transaction.lock(changes.keys() - editions.keys())
        for each in merged:
            if each.key.resource_type == "Patient" and each.patient is not None:
                reading = newest[each.key].reading
                others = reading.others if isinstance(reading, PatientReading) else ()
                both = {each.patient, *(each.patient._replace(patient_id=other) for other in others)}
                editions |= await transaction.join(both)
        return editions, changes, _effects(newest, merged)

    def _changes(self, merged: Iterable[Merged], newest: Mapping[FactKey, Fact] | None) -> dict[PatientKey, Changes]:
        """What the facts that were merged change, by the patients who are to be projected again.

        Without `newest` what they mean is left open.
        """
        changes: dict[PatientKey, Changes] = {}
        for each in merged:
            if each.moved_from is not None:
                changes.setdefault(each.moved_from, {})[each.key] = None if newest is None else ()
            if each.patient is not None:
                meaning = None if newest is None else interpret(newest[each.key], self._mappings[each.key.source])
                changes.setdefault(each.patient, {})[each.key] = meaning
        return changes

    def _after(self, projected: Projected) -> None:
        """Note what a committed transaction projected."""
        self._projector.remember(projected)
        self.stored["courses"] += projected.courses.total()
        for source, count in projected.courses.items():
            self._metrics.courses_changed(source).inc(count)
        self._metrics.projections.inc(len(projected.known))

    async def _park_whole(self, record: Record) -> None:
        source = self._feeds[record.topic].context.id
        told = Tally(Counter({(source, UNKNOWN, "parked"): 1}), {source: record.timestamp})
        async with self._telling(told) as whole, self._store.transaction() as transaction:
            now = self._now()
            await transaction.park([Parked(source, UNPROCESSABLE, None, kept(record))], now)
            await _tell(transaction, whole, now)
        self.stored["parked"] += 1
        self._metrics.records(source, "parked").inc()
        self._metrics.parked(source, UNPROCESSABLE).inc()

    def _count(self, batch: Batch) -> None:
        """Put what a stored batch held into the metrics."""
        for (source, outcome), count in batch.outcomes.items():
            self.stored[outcome] += count
            self._metrics.records(source, outcome).inc(count)
        for parked in batch.parked:
            self._metrics.parked(parked.source, parked.reason).inc()
        for source, at in () if _is_history(batch) else batch.latest.items():
            self._metrics.last_event_timestamp(source).set(at.timestamp())


def _is_history(batch: Batch) -> bool:
    """Return whether a batch was searched for or loaded: when its records are of says nothing of the stream."""
    return bool(batch.records) and batch.records[0].topic.startswith(HISTORY)


def _told(batch: Batch) -> Tally:
    """Return what the store is to be told of a batch."""
    told = Tally(latest=dict.fromkeys(batch.latest, NO_EVENT) if _is_history(batch) else dict(batch.latest))
    told.add(batch.told)
    told.count_read(batch.facts, batch.not_ours)
    return told


async def _tell(transaction: Transaction, told: Tally, now: datetime) -> None:
    await transaction.tell(told.feed_counts(), told.deviations, told.numbers, now)


def _effects(facts: Iterable[FactKey], merged: Collection[Merged]) -> Counter[tuple[str, str]]:
    """Count facts by source and effect."""
    effects = Counter([(key.source, "known") for key in facts])
    for each in merged:
        effects[each.key.source, "merged"] += 1
        effects[each.key.source, "known"] -= 1
    return effects


def _patient(fact: Fact) -> PatientKey | None:
    return None if fact.patient_id is None else PatientKey(fact.key.source, fact.patient_id)
