"""How far each destination has been told of the audit trail; one worker at a time tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, func, or_, select, text, update
from sqlalchemy.exc import DBAPIError

from service.domain.facts import PatientKey
from service.store import audit_trail
from service.store.dialects import insert
from service.store.instants import micros
from service.store.tables import audit, audit_mark, course, pause
from service.store.values import ClaimedAudit, Untold

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.store.connections import Connections

_PATIENCE = "200ms"
"""So long writes under way are waited for: while they are, every destination's acknowledgements queue behind."""
_LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE


class AuditMarks:
    """Marks of all destinations; each method is a transaction of its own. Found at `Store.audit_marks`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def claim(self, destination: str, now: datetime, limit: int, lease: timedelta) -> ClaimedAudit | None:
        """Return writes that a destination has not been told of, the first ones first; None if there are none.

        None, too, while it is paused, or another worker tells it: until the lease ends nobody else does. And None
        where the trail is held by what takes long, a VACUUM say: the next turn tries again.
        """
        if not await self._is_any_untold(destination):
            return None
        until = micros(now + lease)
        mark = audit_mark.c
        taking = (
            update(audit_mark)
            .where(
                mark.destination == destination,
                or_(mark.leased_until.is_(None), mark.leased_until <= micros(now)),
                ~exists().where(pause.c.destination == destination),
            )
            .values(leased_until=until)
            .returning(mark.told)
        )
        async with self._connections.writing() as connection:
            begun = insert(self._connections.dialect, audit_mark).values(destination=destination, told=0)
            await connection.execute(begun.on_conflict_do_nothing())
            told = (await connection.execute(taking)).scalar_one_or_none()
            if told is None:
                return None
            if self._connections.dialect == "postgresql" and not await _settled(connection):
                await connection.rollback()
                return None
            statement = (
                select(audit, course.c.source, course.c.patient_id)
                .join(course, course.c.course_id == audit.c.course_id)
                .where(_untold(destination, told))
                .order_by(audit.c.id)
                .limit(limit)
            )
            rows = (await connection.execute(statement)).all()
        return ClaimedAudit(
            destination,
            until,
            tuple(Untold(audit_trail.entry(row), PatientKey(row.source, row.patient_id)) for row in rows),
        )

    async def told(self, claimed: ClaimedAudit, row: int) -> bool:
        """Note that a destination has been told up to a row; return whether the lease still holds."""
        return await self._changed(claimed, told=row)

    async def release(self, claimed: ClaimedAudit, until: datetime | None = None) -> None:
        """Let others go on at once; with `until` nobody before then."""
        await self._changed(claimed, leased_until=None if until is None else micros(until))

    async def _changed(self, claimed: ClaimedAudit, **values: int | None) -> bool:
        """Change a mark unless the lease ran out and another worker has it by now."""
        mark = audit_mark.c
        statement = (
            update(audit_mark)
            .where(mark.destination == claimed.destination, mark.leased_until == claimed.until)
            .values(values)
            .returning(mark.destination)
        )
        async with self._connections.writing() as connection:
            return (await connection.execute(statement)).scalar_one_or_none() is not None

    async def waiting(self, destination: str) -> int:
        """Return how many writes a destination has not been told of."""
        statement = select(func.count()).select_from(audit).where(_untold(destination, _mark(destination)))
        async with self._connections.reading() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def _is_any_untold(self, destination: str) -> bool:
        statement = select(audit.c.id).where(_untold(destination, _mark(destination))).limit(1)
        async with self._connections.reading() as connection:
            return (await connection.execute(statement)).first() is not None


async def _settled(connection: AsyncConnection) -> bool:
    """Return whether PostgreSQL has no write to the trail under way, and lets none begin in this transaction.

    Rows get their numbers before they are committed, and not in that order: the mark must not pass by any. Where that
    takes too long, the transaction has failed.
    """
    await connection.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE}'"))
    try:
        await connection.execute(text("LOCK TABLE audit IN SHARE MODE"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return True


def _mark(destination: str) -> ColumnElement[int]:
    """The last row that a destination has been told of; 0 before the first."""
    mark = select(audit_mark.c.told).where(audit_mark.c.destination == destination)
    return func.coalesce(mark.scalar_subquery(), 0)


def _untold(destination: str, told: ColumnElement[int] | int) -> ColumnElement[bool]:
    """Rows after the mark that tell of a write: that a plan was refused is no access to anything."""
    return (audit.c.destination == destination) & (audit.c.id > told) & audit.c.action.is_not(None)
