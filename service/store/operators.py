"""What people ask of the store, and decide about what is parked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, tuple_, update

from service.domain.facts import Fact, PatientKey
from service.domain.merges import by_survivor, survivors
from service.store import delivery_rows
from service.store.instants import instant, micros
from service.store.parking import WAITING
from service.store.rows import (
    COURSE,
    DELIVERY,
    HISTORY,
    PARKED,
    RECORD,
    delivery_state,
    history_entry,
    kept_record,
    parked_item,
    stored_course,
)
from service.store.tables import course, delivery, fact, history, parked, parked_record, patient
from service.store.transaction import Transaction
from service.store.values import Counts, ParkedKind, ParkedState, PatientRecord, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.store.connections import Connections
    from service.store.values import DeliveryState, HistoryEntry, ParkedItem, StoredCourse

_WILDCARDS = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


class Operators:
    """Questions and decisions of people; each method is a transaction of its own. Found at `Store.operators`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def courses_of_patient(self, patient_id: str, source: str | None = None) -> list[StoredCourse]:
        """Return the courses of the patients with this id, of one source or of all; those that are gone too.

        Where such a patient was merged with another, those of the survivor as well.
        """
        async with self._connections.reading(snapshot=True) as connection:
            keys = await _patients_of(connection, patient_id, source)
            statement = (
                select(*COURSE)
                .where(tuple_(course.c.source, course.c.patient_id).in_([tuple(key) for key in keys]))
                .order_by(course.c.source, course.c.course_id)
            )
            return [stored_course(row) for row in await connection.execute(statement)]

    async def courses(self, prefix: str, limit: int = 10) -> list[StoredCourse]:
        """Return the courses whose id begins so: one, if the prefix is long enough."""
        statement = (
            select(*COURSE)
            .where(course.c.course_id.like(f"{prefix.translate(_WILDCARDS)}%", escape="\\"))
            .order_by(course.c.course_id)
            .limit(limit)
        )
        async with self._connections.reading() as connection:
            return [stored_course(row) for row in await connection.execute(statement)]

    async def history(self, course_id: str) -> list[HistoryEntry]:
        """Return every revision that the course has had, first to last."""
        statement = select(*HISTORY).where(history.c.course_id == course_id).order_by(history.c.counter)
        async with self._connections.reading() as connection:
            return [history_entry(row) for row in await connection.execute(statement)]

    async def deliveries(self, course_id: str) -> list[DeliveryState]:
        """Return how the course stands at each destination."""
        statement = select(*DELIVERY).where(delivery.c.course_id == course_id).order_by(delivery.c.destination)
        async with self._connections.reading() as connection:
            return [delivery_state(row) for row in await connection.execute(statement)]

    async def facts_of(self, patients: Sequence[PatientKey]) -> dict[PatientKey, list[Fact]]:
        """Return the live facts that count for each of these patients: merged patients' with the survivor."""
        async with self._connections.reading(snapshot=True) as connection:
            return (await _facts_as_they_count(connection, patients))[0]

    async def facts_and_courses(self, patients: Sequence[PatientKey]) -> dict[PatientKey, PatientRecord]:
        """Return facts and courses as they stood at one instant, so that one can be held against the other."""
        async with self._connections.reading(snapshot=True) as connection:
            facts, as_of = await _facts_as_they_count(connection, patients)
            courses = await Transaction(connection).courses_of(patients)
        return {each: PatientRecord(facts[each], courses[each], as_of.get(each)) for each in facts}

    async def patients(self, after: PatientKey | None, limit: int) -> list[PatientKey]:
        """Return the next patients in key order, from the first if `after` is None."""
        statement = select(patient.c.source, patient.c.patient_id).order_by(patient.c.source, patient.c.patient_id)
        if after is not None:
            statement = statement.where(tuple_(patient.c.source, patient.c.patient_id) > tuple_(*after))
        async with self._connections.reading() as connection:
            return [PatientKey(*row) for row in await connection.execute(statement.limit(limit))]

    async def parked(
        self, state: ParkedState | None = ParkedState.OPEN, after: int = 0, limit: int = 100
    ) -> list[ParkedItem]:
        """Return what is parked, oldest first, from the id after `after`; `state` None: in any state.

        What a retry has left unfinished counts as open.
        """
        statement = select(*PARKED).outerjoin_from(parked, parked_record).where(parked.c.id > after)
        if state is not None:
            statement = statement.where(WAITING if state is ParkedState.OPEN else parked.c.state == state)
        async with self._connections.reading() as connection:
            result = await connection.execute(statement.order_by(parked.c.id).limit(limit))
            return [parked_item(row) for row in result]

    async def parked_content(self, id_: int) -> Retry | None:
        """Return something parked with its record; None if there is no such item."""
        found = await self._content([id_])
        return found[0] if found else None

    async def retry(self, ids: Sequence[int], now: datetime) -> list[Retry]:
        """Mark these as being tried again, and return them for the intake to read; a delivery is due at once.

        Afterwards `Transaction.resolve` closes what went well; what is parked again is open again.
        """
        at = micros(now)
        async with self._connections.writing() as connection:
            await connection.execute(
                update(parked)
                .where(parked.c.id.in_(ids), parked.c.state != ParkedState.RESOLVED)
                .values(state=ParkedState.RETRYING, changed_at=at)
            )
            statement = (
                select(*PARKED, *RECORD)
                .outerjoin_from(parked, parked_record)
                .where(parked.c.id.in_(ids), parked.c.state == ParkedState.RETRYING)
                .order_by(parked.c.id)
            )
            found = [Retry(parked_item(row), kept_record(row)) for row in await connection.execute(statement)]
            stopped = [
                (str(each.item.course_id), str(each.item.destination))
                for each in found
                if each.item.kind == ParkedKind.DELIVERY
            ]
            rows = await delivery_rows.read(connection, stopped)
            behind = [row for row in rows.values() if row.behind_since is not None]
            await delivery_rows.save(connection, [delivery_rows.due_again(row, at) for row in behind])
        return found

    async def discard(self, ids: Sequence[int], why: str, now: datetime) -> int:
        """Close these for good, with the reason that a person gave; return how many were open. All is kept."""
        statement = (
            update(parked)
            .where(parked.c.id.in_(ids), parked.c.state.in_((ParkedState.OPEN, ParkedState.RETRYING)))
            .values(state=ParkedState.DISCARDED, changed_at=micros(now), note=why)
            .returning(parked.c.id)
        )
        async with self._connections.writing() as connection:
            return len((await connection.execute(statement)).all())

    async def counts(self) -> Counts:
        """Return how much of everything there is."""
        courses = select(course.c.phase, func.count()).where(~course.c.gone).group_by(course.c.phase)
        waiting = (
            select(parked.c.kind, parked.c.reason, func.count()).where(WAITING).group_by(parked.c.kind, parked.c.reason)
        )
        behind = (
            select(delivery.c.destination, func.count())
            .where(delivery.c.behind_since.is_not(None))
            .group_by(delivery.c.destination)
        )
        put_off = (
            select(func.count())
            .select_from(patient)
            .where(patient.c.projected_as_of.is_(None), patient.c.next_due.is_not(None))
        )
        async with self._connections.reading() as connection:
            return Counts(
                courses=dict((await connection.execute(courses)).all()),
                parked={(kind, reason): count for kind, reason, count in await connection.execute(waiting)},
                undelivered=dict((await connection.execute(behind)).all()),
                put_off=(await connection.execute(put_off)).scalar_one(),
            )

    async def prune_markers(self, older_than: datetime) -> int:
        """Delete the markers of resources that were deleted, or ceased to be ours, before then; return how many.

        Afterwards an older version of such a resource, should one still come, counts as new.
        """
        statement = (
            delete(fact).where(fact.c.body.is_(None), fact.c.last_updated < micros(older_than)).returning(fact.c.digest)
        )
        async with self._connections.writing() as connection:
            return len((await connection.execute(statement)).all())

    async def _content(self, ids: Sequence[int]) -> list[Retry]:
        statement = select(*PARKED, *RECORD).outerjoin_from(parked, parked_record).where(parked.c.id.in_(ids))
        async with self._connections.reading() as connection:
            return [Retry(parked_item(row), kept_record(row)) for row in await connection.execute(statement)]


async def _patients_of(connection: AsyncConnection, patient_id: str, source: str | None) -> list[PatientKey]:
    """Return the patients with an id, and those who survive them."""
    named = select(patient.c.source, patient.c.patient_id, patient.c.merged).where(patient.c.patient_id == patient_id)
    if source is not None:
        named = named.where(patient.c.source == source)
    found: dict[PatientKey, None] = {}
    for of, id_, name in (await connection.execute(named)).all():
        key = PatientKey(of, id_)
        found[key] = None
        if name is not None:
            together = select(patient.c.patient_id).where(patient.c.source == of, patient.c.merged == name)
            members = [PatientKey(of, each) for (each,) in await connection.execute(together)]
            found[survivors(await Transaction(connection).facts_of(members))[key]] = None
    return list(found)


async def _facts_as_they_count(
    connection: AsyncConnection, patients: Sequence[PatientKey]
) -> tuple[dict[PatientKey, list[Fact]], dict[PatientKey, datetime | None]]:
    """Return the facts that count for each of these patients, and as of when each was projected.

    None where one of those who are merged with the patient is put off: they are projected together.
    """
    columns = select(patient.c.source, patient.c.patient_id, patient.c.merged, patient.c.projected_as_of)
    asked = tuple_(patient.c.source, patient.c.patient_id).in_([tuple(each) for each in patients])
    rows = (await connection.execute(columns.where(asked))).all()
    as_of = {PatientKey(source, id_): instant(at) for source, id_, _, at in rows}
    facts = await Transaction(connection).facts_of(patients)
    names = sorted({(source, name) for source, _, name, _ in rows if name is not None})
    for name in names:
        members = (await connection.execute(columns.where(tuple_(patient.c.source, patient.c.merged) == name))).all()
        group = {PatientKey(source, id_): instant(at) for source, id_, _, at in members}
        counted = by_survivor(await Transaction(connection).facts_of(group))
        facts |= {key: each for key, each in counted.items() if key in facts}
        if None in group.values():
            as_of |= dict.fromkeys(group.keys() & facts.keys())
    return facts, as_of
