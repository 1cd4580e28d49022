"""The store: where everything in this package is found."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from sqlalchemy import select, update

from service.domain.facts import PatientKey
from service.store import schema
from service.store.audit_marks import AuditMarks
from service.store.awaiting import Awaiting
from service.store.backfills import Backfills
from service.store.connections import Connections, translated
from service.store.deliveries import Deliveries
from service.store.desk import Desk
from service.store.dialects import create_engine
from service.store.instants import micros
from service.store.operators import Operators
from service.store.sources import Sources
from service.store.tables import patient
from service.store.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from service.store.values import SchemaState

POOL_SIZE = 8  # the intake, the sweeper, an operator's question, and the deliveries of a few destinations


class Store:
    """One database, SQLite or PostgreSQL; made by `Store.open`, and several workers may share it.

    Every method raises StoreError; `errors.is_transient` says whether trying again may help.
    """

    def __init__(self, url: str, pool_size: int = POOL_SIZE) -> None:
        self._url = url
        self._engine = create_engine(url, pool_size)
        self._connections = Connections(self._engine)
        self.deliveries = Deliveries(self._connections)
        """What destinations shall have, and have."""
        self.audit_marks = AuditMarks(self._connections)
        """How far destinations have been told of what was written there."""
        self.desk = Desk(self._connections)
        """What people ask and decide about deliveries."""
        self.backfills = Backfills(self._connections)
        """How far backfills have come."""
        self.sources = Sources(self._connections)
        """What comes from each source, and what is missing."""
        self.awaiting = Awaiting(self._connections)
        """What EHRs are to be asked for."""
        self.operators = Operators(self._connections)
        """What people ask."""

    @classmethod
    async def open(cls, url: str, *, pool_size: int = POOL_SIZE) -> Self:
        """Return the store of a URL, `sqlite:///path` or `postgresql://user@host/name`, once it answers.

        Raises StoreError if the URL names no database, or the database can't be reached.
        """
        store = cls(url, pool_size)
        try:
            await store.ping()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """End all connections."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Return if the database answers."""
        async with self._connections.reading() as connection:
            await connection.execute(select(1))

    async def schema_state(self) -> SchemaState:
        """Return the migration that the tables have, and the one that they need."""
        async with self._connections.reading() as connection:
            return await connection.run_sync(schema.state)

    async def migrate(self) -> SchemaState:
        """Bring the tables to what this release needs; return the state that was found.

        Two at once do no harm: one migrates, the other waits and finds nothing to do.
        """
        # A connection of its own: changing a big table may take longer than any other statement may.
        engine = create_engine(self._url, 1, unlimited=True)
        try:
            async with Connections(engine).writing() as connection:
                return await connection.run_sync(schema.migrate)
        finally:
            with translated():
                await engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Give the intake's unit of work: committed at the end, rolled back on any error."""
        async with self._connections.writing() as connection:
            transaction = Transaction(connection)
            try:
                yield transaction
                await transaction.conclude()
            finally:
                await transaction.give_up()

    async def due_patients(self, now: datetime, limit: int) -> list[PatientKey]:
        """Return patients whose courses time alone changes by now, longest due first."""
        statement = (
            select(patient.c.source, patient.c.patient_id)
            .where(patient.c.next_due <= micros(now))
            .order_by(patient.c.next_due)
            .limit(limit)
        )
        async with self._connections.reading() as connection:
            return [PatientKey(*row) for row in await connection.execute(statement)]

    async def take_up(self, now: datetime) -> int:
        """Let every patient fall due whose projection was put off, by a worker that may be gone; return how many."""
        statement = (
            update(patient)
            .where(patient.c.projected_as_of.is_(None), patient.c.next_due > micros(now))
            .values(next_due=micros(now))
            .returning(patient.c.patient_id)
        )
        async with self._connections.writing() as connection:
            return len((await connection.execute(statement)).all())

    async def project_again(self, source: str, mappings: str, now: datetime) -> int:
        """Let every patient of a source fall due that was projected with other mappings; return how many."""
        statement = (
            update(patient)
            .where(patient.c.source == source, patient.c.mappings != mappings)
            .values(next_due=micros(now))
            .returning(patient.c.patient_id)
        )
        async with self._connections.writing() as connection:
            return len((await connection.execute(statement)).all())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
