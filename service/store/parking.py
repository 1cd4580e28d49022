"""What is parked: kept whole until a person retries or discards it, and never twice."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import and_, bindparam, delete, exists, or_, select, update

from service.store.compiled import Compiled
from service.store.dialects import Incoming, insert
from service.store.instants import micros
from service.store.rows import headers_text
from service.store.tables import awaited, parked, parked_record
from service.store.values import WHOLE, ParkedKind, ParkedState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.store.values import Claimed, KeptRecord, Parked

Place: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset of a record."""
_PLACE = (parked_record.c.topic, parked_record.c.partition, parked_record.c.record_offset)
_DELIVERY = (parked.c.course_id, parked.c.destination)
_UNSETTLED = (ParkedState.OPEN, ParkedState.RETRYING)
WAITING = or_(
    parked.c.state == ParkedState.OPEN,
    and_(parked.c.state == ParkedState.RETRYING, parked.c.kind != ParkedKind.DELIVERY),
)
"""What a person has to see to, with the records that a killed retry has left unread: nobody else tries them again."""


async def park(connection: AsyncConnection, items: Sequence[Parked], now: datetime) -> None:
    """Keep these items, each record once; see `Transaction.park`."""
    if not items:
        return
    statements = _statements(connection.dialect.name)
    ids = await keep(connection, [each.record for each in items])
    rows = {(ids[place(each.record)], each.entry): each for each in items}
    await connection.execute(
        statements.park,
        [
            {
                "kind": ParkedKind.RECORD if each.entry == WHOLE else ParkedKind.CHANGE,
                "source": each.source,
                "reason": each.reason,
                "path": each.path,
                "record_id": id_,
                "entry": entry,
                "state": ParkedState.OPEN,
                "parked_at": micros(now),
                "changed_at": micros(now),
            }
            for (id_, entry), each in sorted(rows.items())
        ],
    )


def place(record: KeptRecord) -> Place:
    """Return what no two records share."""
    return record.topic, record.partition, record.offset


async def keep(connection: AsyncConnection, records: Iterable[KeptRecord]) -> dict[Place, int]:
    """Keep these records, each once, and return the id of each by its place."""
    by_place = {place(record): record for record in records}
    statements = _statements(connection.dialect.name)
    await connection.execute(
        statements.keep,
        [
            {
                "topic": topic,
                "partition": partition,
                "record_offset": offset,
                "sent_at": micros(record.timestamp),
                "key": record.key,
                "headers": headers_text(record.headers),
                "value": record.value,
            }
            for (topic, partition, offset), record in sorted(by_place.items())
        ],
    )
    result = await connection.execute(statements.find, statements.places.bind(sorted(by_place)))
    return {(topic, partition, offset): id_ for id_, topic, partition, offset in result}


async def drop(connection: AsyncConnection, records: Collection[int]) -> None:
    """Delete those of these records that nothing is kept for any longer."""
    if records:
        # Whoever is about to keep one of them has locked it: what is kept for it by then is seen by the deletion.
        locked = select(parked_record.c.id).where(parked_record.c.id.in_(records)).order_by(parked_record.c.id)
        await connection.execute(locked.with_for_update())
        statement = delete(parked_record).where(
            parked_record.c.id.in_(records),
            ~exists().where(parked.c.record_id == parked_record.c.id),
            ~exists().where(awaited.c.record_id == parked_record.c.id),
        )
        await connection.execute(statement)


async def park_delivery(connection: AsyncConnection, claimed: Claimed, reason: str, path: str | None, now: int) -> None:
    """Put a delivery before a person: one item for each course and destination, opened again if it was closed."""
    values = {
        "kind": ParkedKind.DELIVERY,
        "source": claimed.patient.source,
        "reason": reason,
        "path": path,
        "entry": WHOLE,
        "course_id": claimed.course_id,
        "destination": claimed.destination,
        "state": ParkedState.OPEN,
        "parked_at": now,
        "changed_at": now,
    }
    inserting = insert(connection.dialect.name, parked).values(values)
    again = {name: inserting.excluded[name] for name in ("reason", "path", "state", "parked_at", "changed_at")}
    statement = inserting.on_conflict_do_update(
        index_elements=[parked.c.course_id, parked.c.destination], set_={**again, "note": None}
    )
    await connection.execute(statement)


async def resolve(connection: AsyncConnection, items: Sequence[int], now: datetime) -> None:
    """Close these items; see `Transaction.resolve`."""
    statement = (
        update(parked)
        .where(parked.c.id.in_(items), parked.c.state.in_(_UNSETTLED))
        .values(state=ParkedState.RESOLVED, changed_at=micros(now))
    )
    await connection.execute(statement)


async def resolve_deliveries(connection: AsyncConnection, keys: Sequence[tuple[str, str]], now: int) -> None:
    """Close what is parked of these deliveries (course id, destination): they went well."""
    if keys:
        statements = _statements(connection.dialect.name)
        await statements.resolve_deliveries.rows(connection, statements.deliveries.bind(keys) | {"now": now})


class _Statements:
    def __init__(self, dialect: str) -> None:
        keeping = insert(dialect, parked_record)
        # An update of nothing locks the row: no other worker can be done with the record meanwhile.
        self.keep = keeping.on_conflict_do_update(index_elements=list(_PLACE), set_={"topic": keeping.excluded.topic})
        self.places = Incoming(dialect, *_PLACE)
        places = self.places.rows
        self.find = select(parked_record.c.id, *_PLACE).select_from(
            places.join(parked_record, and_(*(each == places.c[each.name] for each in _PLACE)))
        )
        self.deliveries = Incoming(dialect, *_DELIVERY)
        keys = self.deliveries.rows
        self.resolve_deliveries = Compiled(
            update(parked)
            .where(
                *(each == keys.c[each.name] for each in _DELIVERY),
                or_(*(parked.c.state == state for state in _UNSETTLED)),
            )
            .values(state=ParkedState.RESOLVED, changed_at=bindparam("now"))
        )
        parking = insert(dialect, parked)
        again = ("reason", "path", "state", "parked_at", "changed_at")
        self.park = parking.on_conflict_do_update(
            index_elements=[parked.c.record_id, parked.c.entry],
            set_={name: parking.excluded[name] for name in again},
            where=or_(parked.c.state == ParkedState.RETRYING, parked.c.state == ParkedState.RESOLVED),
        )


_statements = cache(_Statements)
