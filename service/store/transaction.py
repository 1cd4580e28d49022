"""The intake's unit of work: one batch, one transaction."""

from __future__ import annotations

import asyncio
from functools import cache
from random import randrange
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, case, func, select, true, tuple_, update

from service.domain.facts import Fact, FactKey, OrderKey, PatientKey
from service.domain.facts import merge as newer
from service.store import awaiting, codec, feeds, parking, projections
from service.store.compiled import Compiled
from service.store.dialects import Incoming, insert
from service.store.instants import micros
from service.store.rows import COURSE, stored_course
from service.store.tables import course, fact, patient
from service.store.values import Edition, Merged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, FromClause
    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.domain.event_numbers import Numbered
    from service.store.values import (
        Awaited,
        ClaimedAwaited,
        Destination,
        FeedCount,
        Parked,
        PatientUpdate,
        StoredCourse,
        Written,
    )

_KEY = (fact.c.source, fact.c.resource_type, fact.c.resource_id)
_ORDER = (fact.c.last_updated, fact.c.version, fact.c.deleted, fact.c.digest)
SHARD = randrange(64)  # noqa: S311 - spreads load, guards nothing
"""Which of the rows of a count this process adds to: two of them seldom share one, and wait for each other."""
_EDITION = (patient.c.version, patient.c.projected_as_of, patient.c.merged)
_CONTENT = (fact.c.patient_id, *_ORDER, fact.c.body, fact.c.labels)


class Transaction:
    """Work that is stored altogether or not at all. Made by `Store.transaction`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._statements = _statements(connection.dialect.name)
        self._writing: asyncio.Task[Written] | None = None
        self._wanted = projections.Wanted()

    async def known(self, keys: Iterable[FactKey]) -> dict[FactKey, PatientKey | None]:
        """Return those of these resources that the store has a fact of, with the patient whose fact it is."""
        found: dict[FactKey, PatientKey | None] = {}
        statements = self._statements
        for (source, kind), ids in _grouped(keys).items():
            given = statements.resource_ids.bind(ids) | {"source": source, "resource_type": kind}
            for id_, patient_id in await self._execute(statements.known, given):
                found[FactKey(source, kind, id_)] = None if patient_id is None else PatientKey(source, patient_id)
        return found

    async def known_patients(self, patients: Iterable[PatientKey]) -> set[PatientKey]:
        """Return those of these patients that the store has ever locked."""
        found: set[PatientKey] = set()
        statements = self._statements
        for (source,), ids in _grouped(patients).items():
            given = statements.patient_ids.bind(ids) | {"source": source}
            found |= {PatientKey(source, id_) for (id_,) in await self._execute(statements.known_patients, given)}
        return found

    async def lock(self, patients: Iterable[PatientKey]) -> dict[PatientKey, Edition]:
        """Keep these patients to this transaction until it ends; return which state of each is stored.

        Waits for whoever has them. Lock all at once where possible: two transactions that lock in
        several steps may meet head-on, and one of them fails with a transient error.
        """
        wanted = set(patients)
        found = await self._lock(wanted)
        missing = wanted - found.keys()
        if missing:
            statements = self._statements
            rows = [tuple(key) for key in sorted(missing)]
            await self._execute(statements.create_patients, statements.patients.bind(rows))
            found |= await self._lock(missing)
        return found

    async def group(self, patients: Collection[PatientKey]) -> dict[PatientKey, list[PatientKey]]:
        """Return, for each of these locked patients who is in a group, everyone who is in it: locked as well.

        Nobody joins it or leaves it meanwhile: whoever would has to lock everyone in it.
        """
        names = {(key.source, each.merged) for key, each in (await self.lock(patients)).items() if each.merged}
        members: dict[tuple[str, str], list[PatientKey]] = {}
        for source, name in sorted(names):
            statement = select(patient.c.patient_id).where(patient.c.source == source, patient.c.merged == name)
            found = await self._connection.execute(statement.order_by(patient.c.patient_id))
            members[source, name] = [PatientKey(source, id_) for (id_,) in found]
        editions = await self.lock(key for each in members.values() for key in each)
        return {key: members[key.source, each.merged] for key, each in editions.items() if each.merged}

    async def join(self, patients: Collection[PatientKey]) -> dict[PatientKey, Edition]:
        """Put these patients of one source into one group, with everyone who is with any of them; return who is in it.

        All of them are locked. A group never falls apart: who is merged with whom is for the projection to say.
        """
        await self.lock(patients)
        grouped = await self.group(patients)
        everyone = sorted({*patients, *(key for each in grouped.values() for key in each)})
        name = everyone[0].patient_id
        statement = (
            update(patient)
            .where(tuple_(patient.c.source, patient.c.patient_id).in_([tuple(key) for key in everyone]))
            .values(merged=name)
        )
        await self.finish()
        await self._connection.execute(statement)
        return await self.lock(everyone)

    async def merge(self, facts: Iterable[Fact]) -> list[Merged]:
        """Keep the newer reading of each resource; what is returned was new or replaced an older one.

        In any order, and any number of times. A patient that lost a fact stands in `moved_from`:
        lock it as well, if that is not done, and project it.
        """
        newest: dict[FactKey, Fact] = {}
        for each in facts:
            newest[each.key] = newer(newest.get(each.key), each)
        if not newest:
            return []
        rows = [
            (
                *key,
                each.patient_id,
                *each.order,
                None if each.reading is None else codec.encode(each.reading),
                codec.encode_labels(each.labels),
            )
            for key, each in sorted(newest.items())
        ]
        statements = self._statements
        result = await self._execute(statements.merge, statements.facts.bind(rows))
        return [
            Merged(
                FactKey(source, kind, id_),
                None if patient_id is None else PatientKey(source, patient_id),
                None if moved_from in {None, patient_id} else PatientKey(source, moved_from),
            )
            for source, kind, id_, patient_id, moved_from in result
        ]

    async def facts_of(self, patients: Iterable[PatientKey]) -> dict[PatientKey, list[Fact]]:
        """Return the live facts of each of these patients, in no particular order; markers left out."""
        found: dict[PatientKey, list[Fact]] = {key: [] for key in patients}
        if not found:
            return found
        statements = self._statements
        rows = [tuple(key) for key in sorted(found)]
        result = await self._execute(statements.facts_of, statements.patients.bind(rows))
        decode, decode_labels = codec.decode, codec.decode_labels
        for source, kind, id_, patient_id, last_updated, version, deleted, digest, body, labels in result:
            found[PatientKey(source, patient_id)].append(
                Fact(
                    FactKey(source, kind, id_),
                    OrderKey(last_updated, version, deleted, digest),
                    patient_id,
                    decode(body),
                    decode_labels(labels),
                )
            )
        return found

    async def courses_of(self, patients: Iterable[PatientKey]) -> dict[PatientKey, list[StoredCourse]]:
        """Return the courses of each of these patients by id; those that are gone too."""
        found: dict[PatientKey, list[StoredCourse]] = {key: [] for key in patients}
        if not found:
            return found
        statements = self._statements
        rows = [tuple(key) for key in sorted(found)]
        result = await self._execute(statements.courses_of, statements.patients.bind(rows))
        for each in map(stored_course, result):
            found[each.patient].append(each)
        return found

    async def write(
        self, updates: Sequence[PatientUpdate], destinations: Sequence[Destination], now: datetime
    ) -> Written:
        """Store what these patients' courses are, and want it at each destination; return what changed.

        The patients are locked. A course whose revision is the stored one is left alone. One that was
        gone and is projected again is revived with its next counter.
        """
        await self.finish()
        return await projections.write(self._connection, updates, destinations, now, self._wanted)

    def begin_to_write(
        self, updates: Sequence[PatientUpdate], destinations: Sequence[Destination], now: datetime
    ) -> None:
        """As `write`, while the caller goes on: whatever else the transaction is asked for waits for it."""
        self._writing = asyncio.create_task(self._write_after(self._writing, updates, destinations, now))

    async def finish(self) -> None:
        """Return once all that was begun is written. Raises what it failed with."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def conclude(self) -> None:
        """Finish, and want at each destination what changed: nothing comes after it."""
        await self.finish()
        await projections.want(self._connection, self._wanted)

    async def give_up(self) -> None:
        """Return once nothing is under way any more, however it ended."""
        await asyncio.gather(*filter(None, [self._writing]), return_exceptions=True)

    async def _write_after(
        self,
        before: asyncio.Task[Written] | None,
        updates: Sequence[PatientUpdate],
        destinations: Sequence[Destination],
        now: datetime,
    ) -> Written:
        if before is not None:
            await before
        return await projections.write(self._connection, updates, destinations, now, self._wanted)

    async def put_off(self, patients: Collection[PatientKey], until: datetime) -> None:
        """Leave it for later to project these locked patients, whose facts have changed: until then, they fall due."""
        if patients:
            statements = self._statements
            rows = [tuple(key) for key in sorted(patients)]
            await self._execute(statements.put_off, statements.patients.bind(rows) | {"until": micros(until)})

    async def park(self, items: Sequence[Parked], now: datetime) -> None:
        """Keep these for a person. What is parked already stays as it is, unless it is being retried."""
        await self.finish()
        await parking.park(self._connection, items, now)

    async def tell(
        self,
        counts: Sequence[FeedCount],
        deviations: Mapping[tuple[str, str], int],
        numbers: Mapping[feeds.Subscription, Sequence[Numbered]],
        now: datetime,
    ) -> None:
        """Add to what is known of the sources: changes by kind and outcome, deviations by path, event numbers.

        The last thing before the end: other workers may wait for it.
        """
        await self.finish()
        await feeds.follow_numbers(self._connection, numbers, now)
        await feeds.deviate(self._connection, deviations, now)
        await feeds.count(self._connection, counts, SHARD, now)

    async def resolve(self, items: Sequence[int], now: datetime) -> None:
        """Close what was parked under these ids: it was tried again, and went well."""
        await self.finish()
        await parking.resolve(self._connection, items, now)

    async def await_(self, changes: Sequence[Awaited], now: datetime) -> None:
        """Let these be asked of their EHRs. Of changes of one resource, stored ones among them, the newest counts."""
        await self.finish()
        await awaiting.add(self._connection, changes, now)

    async def settle(self, answered: Sequence[ClaimedAwaited], now: datetime) -> None:
        """Let these wait no longer: what was answered is stored by this transaction, or parked by it before.

        What a change has named since it was claimed may be newer than the answer: it is due again.
        """
        await self.finish()
        await awaiting.settle(self._connection, answered, now)

    async def _execute(self, statement: Compiled, parameters: dict[str, Any]) -> list[Any]:
        await self.finish()
        return await statement.rows(self._connection, parameters)

    async def _lock(self, keys: Collection[PatientKey]) -> dict[PatientKey, Edition]:
        if not keys:
            return {}
        rows = [tuple(key) for key in sorted(keys)]
        result = await self._execute(self._statements.lock, self._statements.patients.bind(rows))
        return {
            PatientKey(source, patient_id): Edition(version, projected_as_of, merged)
            for source, patient_id, version, projected_as_of, merged in result
        }


class _Statements:
    """The statements of one dialect."""

    def __init__(self, dialect: str) -> None:
        self.resource_ids = Incoming(dialect, fact.c.resource_id)
        self.patient_ids = Incoming(dialect, patient.c.patient_id)
        self.patients = Incoming(dialect, patient.c.source, patient.c.patient_id)
        self.facts = Incoming(dialect, *_KEY, *_CONTENT)
        patients, facts = self.patients.rows, self.facts.rows

        ids = self.resource_ids.rows
        self.known = Compiled(
            select(fact.c.resource_id, fact.c.patient_id)
            .select_from(ids.join(fact, ids.c.resource_id == fact.c.resource_id))
            .where(fact.c.source == bindparam("source"), fact.c.resource_type == bindparam("resource_type"))
        )
        ids = self.patient_ids.rows
        self.known_patients = Compiled(
            select(patient.c.patient_id)
            .select_from(ids.join(patient, ids.c.patient_id == patient.c.patient_id))
            .where(patient.c.source == bindparam("source"))
        )
        self.lock = Compiled(
            select(patient.c.source, patient.c.patient_id, *_EDITION)
            .select_from(patients.join(patient, _same_patient(patients, patient)))
            .order_by(patient.c.source, patient.c.patient_id)
            .with_for_update(of=patient)
        )
        self.create_patients = Compiled(
            insert(dialect, patient)
            .from_select(["source", "patient_id"], select(patients).where(true()))
            .on_conflict_do_nothing()
        )
        due = func.coalesce(patient.c.next_due, bindparam("until"))
        self.put_off = Compiled(
            update(patient)
            .where(_same_patient(patients, patient))
            .values(
                next_due=case((due < bindparam("until"), due), else_=bindparam("until")),
                projected_as_of=None,
                version=patient.c.version + 1,
            )
        )
        merging = insert(dialect, fact).from_select(
            [each.name for each in (*_KEY, *_CONTENT)], select(facts).where(true())
        )
        new = merging.excluded
        self.merge = Compiled(
            merging.on_conflict_do_update(
                index_elements=list(_KEY),
                set_={**{each.name: new[each.name] for each in _CONTENT}, "moved_from": fact.c.patient_id},
                where=tuple_(*(new[each.name] for each in _ORDER)) > tuple_(*_ORDER),
            ).returning(*_KEY, fact.c.patient_id, fact.c.moved_from)
        )
        self.facts_of = Compiled(
            select(*_KEY, *_CONTENT)
            .select_from(patients.join(fact, _same_patient(patients, fact)))
            .where(fact.c.body.is_not(None))
        )
        self.courses_of = Compiled(
            select(*COURSE)
            .select_from(patients.join(course, _same_patient(patients, course)))
            .order_by(course.c.course_id)
        )


_statements = cache(_Statements)


def _grouped(keys: Iterable[FactKey | PatientKey]) -> dict[tuple[str, ...], list[tuple[str]]]:
    """The ids of keys, each once, as rows, by what stands before them: a batch has few sources and types."""
    groups: dict[tuple[str, ...], list[tuple[str]]] = {}
    for key in set(keys):
        groups.setdefault(key[:-1], []).append((key[-1],))
    return groups


def _same_patient(one: FromClause, other: FromClause) -> ColumnElement[bool]:
    return and_(one.c.source == other.c.source, one.c.patient_id == other.c.patient_id)
