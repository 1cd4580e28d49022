"""The first loop: records in, facts merged, courses projected, all in one transaction a batch.

gather (`read`) → decide (`decide`, pure) → apply (`Transaction.write`); the offset is committed after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson
import structlog

from service.domain import state
from service.domain.facts import Fact, FactKey, PatientKey
from service.domain.projection import project
from service.inbound.reading import read_record
from service.inbound.records import Reason
from service.store.errors import is_transient
from service.store.values import CourseUpdate, GoneCourse, KeptRecord, Parked, PatientUpdate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.domain.course import Course, Projection
    from service.domain.mappings import Mappings
    from service.inbound.reading import Irrelevant
    from service.inbound.records import Limits, Record, SourceContext
    from service.inbound.relevance import Relevance
    from service.store import Store
    from service.store.transaction import Transaction
    from service.store.values import Destination, Merged, StoredCourse
    from service.vitals import Vitals

log = structlog.get_logger(__name__)

UNPROCESSABLE = "unprocessable"
"""Reason code of a record that was readable, and on which projecting or storing fails for good."""
DUE_AT_ONCE = 200
"""Patients that one sweep projects in one transaction."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A source as the intake reads it."""

    context: SourceContext
    relevance: Relevance
    mappings: Mappings


@dataclass(slots=True)
class Gathered:
    """What the records of a batch hold."""

    facts: list[Fact] = field(default_factory=list)
    not_ours: list[Irrelevant] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)


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
        self._by_source = {feed.context.id: feed for feed in feeds.values()}
        self._destinations = destinations
        self._limits = limits
        self._metrics = vitals.metrics
        self._now = vitals.now

    async def process(self, records: Sequence[Record]) -> bool:
        """Store what these records say and return whether any course changed.

        A transient error is raised, and nothing of the batch is stored. A batch that fails for good is
        halved until the record that it fails on stands alone and is parked.
        """
        try:
            return await self._store_batch(records)
        except Exception as error:
            if is_transient(error):
                raise
            self._metrics.batches("bisected").inc()
            if len(records) > 1:
                middle = len(records) // 2
                first = await self.process(records[:middle])
                return await self.process(records[middle:]) or first
            log.exception("a record can't be processed and is parked", reason=UNPROCESSABLE, exc_info=error)
            await self._park_whole(records[0])
            return False

    async def sweep(self) -> int:
        """Project the patients that time alone has changed; return how many they were."""
        swept = 0
        failed: set[PatientKey] = set()
        while due := await self._due(failed):
            try:
                await self._project_due(due)
            except Exception as error:
                if is_transient(error):
                    raise
                for patient in due:
                    if not await self._projected_alone(patient):
                        failed.add(patient)
            swept += len(due)
        self._metrics.sweeps.inc()
        self._metrics.due_patients.inc(swept)
        return swept

    async def _due(self, failed: set[PatientKey]) -> list[PatientKey]:
        due = await self._store.due_patients(self._now(), DUE_AT_ONCE + len(failed))
        return [patient for patient in due if patient not in failed]

    async def _project_due(self, due: Sequence[PatientKey]) -> None:
        async with self._store.transaction() as transaction:
            await transaction.lock(due)
            await self._project(transaction, due, {})

    async def _projected_alone(self, patient: PatientKey) -> bool:
        """Project one patient, so that one whose projection fails does not hold up the others."""
        try:
            await self._project_due([patient])
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("a patient that fell due can't be projected; `ipt-bridge verify` names it", exc_info=error)
            return False
        return True

    async def _store_batch(self, records: Sequence[Record]) -> bool:
        gathered = self._gather(records)
        if not (gathered.facts or gathered.not_ours or gathered.parked):
            return False
        async with self._store.transaction() as transaction:
            facts = gathered.facts + await self._markers(transaction, gathered)
            changed = await self._merge(transaction, facts)
            await transaction.park(gathered.parked, self._now())
        for parked in gathered.parked:
            self._metrics.parked(parked.source, parked.reason).inc()
        return changed

    def _gather(self, records: Sequence[Record]) -> Gathered:
        gathered = Gathered()
        for record in records:
            feed = self._feeds[record.topic]
            source = feed.context.id
            reading = read_record(record, feed.context, feed.relevance, self._limits)
            gathered.facts += reading.facts
            gathered.not_ours += reading.irrelevant
            for entry, unreadable in reading.unreadable:
                gathered.parked.append(Parked(source, unreadable.code, unreadable.path, _kept(record), entry))
            for entry, change in reading.fetch:
                gathered.parked.append(Parked(source, Reason.REFERENCE_ONLY, change.path, _kept(record), entry))
            if reading.unreadable or reading.fetch:
                self._metrics.records(source, "parked").inc()
            else:
                self._metrics.records(source, "relevant" if reading.facts else "irrelevant").inc()
            self._metrics.last_event_timestamp(source).set(record.timestamp.timestamp())
        return gathered

    async def _markers(self, transaction: Transaction, gathered: Gathered) -> list[Fact]:
        """Changes that are not ours become markers where they could hide something of ours."""
        if not gathered.not_ours:
            return []
        keys = {fact.key for fact in gathered.facts}
        patients = {patient for fact in gathered.facts if (patient := _patient(fact)) is not None}
        keys |= (await transaction.known({key for key, _, _ in gathered.not_ours})).keys()
        named = {PatientKey(key.source, patient) for key, _, patient in gathered.not_ours if patient is not None}
        patients |= await transaction.known_patients(named - patients)
        return [
            Fact(key, order, None, None)
            for key, order, patient in gathered.not_ours
            if key in keys or (patient is not None and PatientKey(key.source, patient) in patients)
        ]

    async def _merge(self, transaction: Transaction, facts: Sequence[Fact]) -> bool:
        patients = {key for fact in facts if (key := _patient(fact)) is not None}
        unnamed = {fact.key for fact in facts if fact.patient_id is None}
        patients |= {key for key in (await transaction.known(unnamed)).values() if key is not None}
        await transaction.lock(patients)
        merged = await transaction.merge(facts)
        causes = _causes(merged)
        await transaction.lock(causes.keys() - patients)
        self._count_facts(facts, merged)
        return await self._project(transaction, causes.keys(), causes)

    async def _project(
        self, transaction: Transaction, patients: Iterable[PatientKey], causes: Mapping[PatientKey, set[FactKey]]
    ) -> bool:
        keys = sorted(patients)
        facts = await transaction.facts_of(keys)
        stored = await transaction.courses_of(keys)
        as_of = self._now()
        updates = []
        for patient in keys:
            mappings = self._by_source[patient.source].mappings
            projection = project(patient, facts[patient], as_of, mappings)
            cause = tuple(sorted(key.reference for key in causes.get(patient, ())))
            updates.append(decide(projection, stored[patient], cause, mappings))
        written = await transaction.write(updates, self._destinations, as_of)
        self._metrics.projections.inc(len(keys))
        return bool(written.changed or written.gone)

    async def _park_whole(self, record: Record) -> None:
        source = self._feeds[record.topic].context.id
        async with self._store.transaction() as transaction:
            await transaction.park([Parked(source, UNPROCESSABLE, None, _kept(record))], self._now())
        self._metrics.parked(source, UNPROCESSABLE).inc()

    def _count_facts(self, facts: Sequence[Fact], merged: Sequence[Merged]) -> None:
        new: dict[str, int] = {}
        for each in merged:
            new[each.key.source] = new.get(each.key.source, 0) + 1
        for source in {fact.key.source for fact in facts}:
            known = sum(fact.key.source == source for fact in facts) - new.get(source, 0)
            self._metrics.facts(source, "merged").inc(new.get(source, 0))
            self._metrics.facts(source, "known").inc(known)


def _patient(fact: Fact) -> PatientKey | None:
    return None if fact.patient_id is None else PatientKey(fact.key.source, fact.patient_id)


def _causes(merged: Iterable[Merged]) -> dict[PatientKey, set[FactKey]]:
    """Which patients are to be projected again, and because of which facts."""
    causes: dict[PatientKey, set[FactKey]] = {}
    for each in merged:
        for patient in (each.patient, each.moved_from):
            if patient is not None:
                causes.setdefault(patient, set()).add(each.key)
    return causes


def _kept(record: Record) -> KeptRecord:
    return KeptRecord(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
    )


def decide(
    projection: Projection, stored: Sequence[StoredCourse], cause: tuple[str, ...], mappings: Mappings
) -> PatientUpdate:
    """Return what is to be written for a patient: courses as projected, and what becomes of those that are gone.

    A course that is gone is taken over by a new one that rests on any of the same facts, so that a
    clinician's CarePlan goes on under its new name.
    """
    before = {course.course_id: course for course in stored}
    projected = {course.id for course in projection.courses}
    fresh = [course for course in projection.courses if course.id not in before or before[course.id].gone]
    gone = []
    for course in stored:
        if course.gone or course.course_id in projected:
            continue
        heir = _heir(course, fresh)
        if heir is not None:
            fresh.remove(heir)
        last_words = state.revision(b"gone" + course.state, mappings)
        gone.append(GoneCourse(course.course_id, last_words, None if heir is None else heir.id, cause))
    courses = tuple(_update(course, before.get(course.id), cause, mappings) for course in projection.courses)
    return PatientUpdate(
        projection.patient, projection.next_due, projection.as_of, courses, tuple(gone), mappings.digest
    )


def _update(course: Course, before: StoredCourse | None, cause: tuple[str, ...], mappings: Mappings) -> CourseUpdate:
    content = state.dump(course)
    revision = state.revision(content, mappings)
    opened: set[str] = set()
    closed: set[str] = set()
    if before is None or before.revision != revision:
        found = {finding.id for finding in course.findings}
        known = _finding_ids(before.state) if before is not None and not before.gone else set()
        opened, closed = found - known, known - found
    return CourseUpdate(
        course_id=course.id,
        anchor=course.anchor,
        phase=course.phase.value,
        revision=revision,
        state=content,
        cause=cause,
        opened=tuple(sorted(opened)),
        closed=tuple(sorted(closed)),
    )


def _finding_ids(content: bytes) -> set[str]:
    return {finding["id"] for finding in orjson.loads(content)["findings"]}


def _heir(gone: StoredCourse, fresh: Sequence[Course]) -> Course | None:
    """The new course that shares most facts with one that is gone; None if none shares any."""
    last = state.load(gone.state)
    rested_on = _facts(last) | {last.anchor}
    shared = [(len(rested_on & (_facts(course) | {course.anchor})), course) for course in fresh]
    most = max((count for count, _ in shared), default=0)
    return next((course for count, course in shared if count == most), None) if most else None


def _facts(course: Course) -> set[str]:
    sessions = {f"Encounter/{e}" for session in course.sessions for e in session.encounters}
    forms = {f"QuestionnaireResponse/{f}" for session in course.sessions for f in session.forms}
    return sessions | forms | {document.fact for document in course.documented}
