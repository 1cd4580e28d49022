"""The audit trail: who wrote what, when, where, by which route, and what was refused. Appended to, never changed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from service.store.compiled import Compiled
from service.store.dialects import Incoming
from service.store.instants import instant
from service.store.tables import audit
from service.store.values import AuditEntry, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.store.values import Claimed, Delivered, Postponed

AGENT = f"ipt-bridge {version('ipt-bridge')}"


_COLUMNS = [each for each in audit.c if each is not audit.c.id]


class _Statements:
    """The statements of one dialect."""

    def __init__(self, dialect: str) -> None:
        self.rows = Incoming(dialect, *_COLUMNS)
        self.append = Compiled(insert(audit).from_select([each.name for each in _COLUMNS], select(self.rows.rows)))


_statements = cache(_Statements)


async def delivered(connection: AsyncConnection, reports: Sequence[Delivered | Postponed], now: int) -> None:
    """Append each write of these deliveries, those that failed too."""
    rows = [
        (
            now,
            AGENT,
            report.course_id,
            report.destination,
            report.revision,
            report.counter,
            report.route,
            write.outcome,
            write.action,
            write.resource_type,
            write.resource_id,
            write.version,
        )
        for report in reports
        for write in report.writes
    ]
    if rows:
        statements = _statements(connection.dialect.name)
        await statements.append.rows(connection, statements.rows.bind(rows))


async def refused(connection: AsyncConnection, claimed: Claimed, reason: str, now: int) -> None:
    """Append that a destination refused a plan."""
    await connection.execute(
        insert(audit).values(
            at=now,
            agent=AGENT,
            course_id=claimed.course_id,
            destination=claimed.destination,
            revision=claimed.revision,
            counter=claimed.counter,
            route=claimed.route,
            outcome=reason,
        )
    )


async def of_course(connection: AsyncConnection, course_id: str) -> list[AuditEntry]:
    """Return a course's part of the trail, first to last."""
    statement = select(audit).where(audit.c.course_id == course_id).order_by(audit.c.id)
    return [entry(row) for row in await connection.execute(statement)]


def entry(row: Row[Any]) -> AuditEntry:
    """Return a row of the table as a line of the trail."""
    write = None
    if row.action is not None:
        write = Write(row.action, row.resource_type, row.resource_id, row.version, row.outcome)
    return AuditEntry(
        row.id,
        instant(row.at),
        row.agent,
        row.course_id,
        row.destination,
        row.revision,
        row.counter,
        row.route,
        row.outcome,
        write,
    )
