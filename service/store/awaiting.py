"""What waits for an answer of its EHR: one row for each resource, however many changes name it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, case, delete, func, or_, select, tuple_, update

from service.domain.facts import FactKey
from service.store import parking
from service.store.compiled import Compiled
from service.store.dialects import Incoming, insert
from service.store.instants import instant, micros
from service.store.rows import RECORD, kept_record
from service.store.tables import awaited, fact, parked_record
from service.store.values import Awaited, ClaimedAwaited, Pending

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import ColumnElement, FromClause, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.store.connections import Connections
    from service.store.values import Later

_KEY = (awaited.c.source, awaited.c.resource_type, awaited.c.resource_id)
_NEWEST = (
    awaited.c.subject,
    awaited.c.version,
    awaited.c.last_updated,
    awaited.c.record_id,
    awaited.c.entry,
)
"""What the newest change says, whichever came last."""
_CLAIMED = (
    *_KEY,
    awaited.c.subject,
    awaited.c.version,
    awaited.c.last_updated,
    awaited.c.entry,
    awaited.c.asked,
    awaited.c.attempts,
    awaited.c.outcome,
)
_PLACE = (parked_record.c.topic, parked_record.c.partition, parked_record.c.record_offset)


class Awaiting:
    """What EHRs are to be asked for; each method is a transaction of its own. Found at `Store.awaiting`.

    What is awaited is added, and settled, in the intake's transactions: `Transaction.await_` and `Transaction.settle`.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def claim(self, source: str, now: datetime, limit: int, lease: timedelta) -> list[ClaimedAwaited]:
        """Return what is due of a source, longest due first; until the lease ends nobody else gets it."""
        at = micros(now)
        due = (
            select(*_CLAIMED, *_PLACE, *RECORD, fact.c.version.label("known_version"))
            .select_from(awaited)
            .join(parked_record, parked_record.c.id == awaited.c.record_id)
            .outerjoin(
                fact,
                and_(*(fact.c[column.name] == column for column in _KEY), fact.c.version >= 0),
            )
            .where(
                awaited.c.source == source,
                awaited.c.next_attempt <= at,
                or_(awaited.c.leased_until.is_(None), awaited.c.leased_until <= at),
            )
            .order_by(awaited.c.next_attempt)
            .limit(limit)
            .with_for_update(of=awaited, skip_locked=True)
        )
        async with self._connections.writing() as connection:
            claimed = [_claimed(row) for row in await connection.execute(due)]
            await _change(connection, claimed, {"leased_until": micros(now + lease)})
        return claimed

    async def postpone(self, later: Iterable[Later]) -> None:
        """Let these be asked for again, each in its time."""
        async with self._connections.writing() as connection:
            for each in sorted(later, key=lambda one: one.claimed.awaited.key):
                values: dict[str, Any] = {"next_attempt": micros(each.at), "leased_until": None}
                if each.outcome is not None:
                    values |= {"attempts": each.claimed.attempts + 1, "outcome": each.outcome}
                await _change(connection, [each.claimed], values)

    async def pending(self, source: str) -> Pending:
        """Return how much waits of a source, and since when."""
        statement = select(func.count(), func.min(awaited.c.since)).where(awaited.c.source == source)
        async with self._connections.reading() as connection:
            count, oldest = (await connection.execute(statement)).one()
        return Pending(count, instant(oldest))


async def add(connection: AsyncConnection, changes: Iterable[Awaited], now: datetime) -> None:
    """Let these be asked for; see `Transaction.await_`."""
    newest: dict[FactKey, Awaited] = {}
    for each in changes:
        before = newest.get(each.key)
        if before is None or each.last_updated >= before.last_updated:
            newest[each.key] = each
    if not newest:
        return
    statements = _statements(connection.dialect.name)
    ids = await parking.keep(connection, [each.record for each in newest.values()])
    keys = sorted(newest)
    replaced = await statements.records.rows(connection, statements.keys.bind([tuple(key) for key in keys]))
    at = micros(now)
    rows = [
        (
            *key,
            each.subject,
            each.version,
            micros(each.last_updated),
            ids[parking.place(each.record)],
            each.entry,
            1,
            at,
            0,
            at,
        )
        for key in keys
        for each in [newest[key]]
    ]
    await statements.add.rows(connection, statements.rows.bind(rows))
    await parking.drop(connection, [id_ for (id_,) in replaced])


async def settle(connection: AsyncConnection, answered: Sequence[ClaimedAwaited], now: datetime) -> None:
    """Let these wait no longer, but for those that were named again meanwhile; see `Transaction.settle`."""
    if not answered:
        return
    statements = _statements(connection.dialect.name)
    rows = sorted((*each.awaited.key, each.asked) for each in answered)
    settled = await statements.settle.rows(connection, statements.asked.bind(rows))
    await statements.release.rows(connection, statements.asked.bind(rows) | {"now": micros(now)})
    await parking.drop(connection, [id_ for (id_,) in settled])


async def _change(connection: AsyncConnection, claimed: Collection[ClaimedAwaited], values: dict[str, Any]) -> None:
    if claimed:
        statements = _statements(connection.dialect.name)
        keys = statements.keys.bind(sorted(tuple(each.awaited.key) for each in claimed))
        await connection.execute(update(awaited).where(_same(statements.keys.rows)).values(values), keys)


class _Statements:
    def __init__(self, dialect: str) -> None:
        self.keys = Incoming(dialect, *_KEY)
        keys = self.keys.rows
        self.records = Compiled(
            select(awaited.c.record_id).select_from(keys.join(awaited, _same(keys))).with_for_update(of=awaited)
        )
        added = (*_KEY, *_NEWEST, awaited.c.asked, awaited.c.since, awaited.c.attempts, awaited.c.next_attempt)
        self.rows = Incoming(dialect, *added)
        adding = insert(dialect, awaited).from_select(
            [each.name for each in added], select(self.rows.rows).where(self.rows.rows.c.asked > 0)
        )
        new = adding.excluded
        newer = new.last_updated >= awaited.c.last_updated
        self.add = Compiled(
            adding.on_conflict_do_update(
                index_elements=list(_KEY),
                set_={
                    **{each.name: case((newer, new[each.name]), else_=each) for each in _NEWEST},
                    "asked": awaited.c.asked + 1,
                },
            )
        )
        self.asked = Incoming(dialect, *_KEY, awaited.c.asked)
        rows = self.asked.rows
        self.settle = Compiled(
            delete(awaited).where(tuple_(*_KEY, awaited.c.asked).in_(select(rows))).returning(awaited.c.record_id)
        )
        self.release = Compiled(
            update(awaited)
            .where(_same(rows), awaited.c.asked != rows.c.asked)
            .values(leased_until=None, next_attempt=bindparam("now"), attempts=0, outcome=None)
        )


_statements = cache(_Statements)


def _same(rows: FromClause) -> ColumnElement[bool]:
    return and_(*(each == rows.c[each.name] for each in _KEY))


def _claimed(row: Row[*tuple[Any, ...]]) -> ClaimedAwaited:
    record = kept_record(row)
    if record is None:
        msg = "what is awaited has no record"  # the join leaves none out
        raise ValueError(msg)
    last_updated = instant(row.last_updated)
    return ClaimedAwaited(
        Awaited(
            FactKey(row.source, row.resource_type, row.resource_id),
            row.version,
            last_updated,
            record,
            row.entry,
            row.subject,
        ),
        row.asked,
        row.attempts,
        row.outcome,
        row.known_version,
    )
