"""What is told of each source in the transactions of the intake: counts, event numbers, deviations from FHIR."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import orjson
from sqlalchemy import bindparam, case, select, true

from service.domain.event_numbers import Followed, Stretch, follow
from service.store.compiled import Compiled
from service.store.dialects import Incoming, insert
from service.store.instants import instant, micros
from service.store.tables import deviation, feed_count, subscription

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.domain.event_numbers import Numbered
    from service.store.values import FeedCount

HOUR_US = 3_600_000_000
EVER = 0
"""`feed_count.hour` of the row that counts all hours."""

Subscription: TypeAlias = tuple[str, str]
"""Source, and the subscription's reference there."""


async def count(connection: AsyncConnection, counts: Sequence[FeedCount], shard: int, now: datetime) -> None:
    """Add to what was counted, in this hour and ever. No two counts are of the same source, kind and outcome."""
    if not counts:
        return
    hour = micros(now) // HOUR_US
    rows = [
        (each.source, each.kind, each.outcome, bucket, shard, each.changes, micros(each.latest))
        for each in sorted(counts)
        for bucket in (EVER, hour)
    ]
    statements = _statements(connection.dialect.name)
    await statements.count.rows(connection, statements.counts.bind(rows))


async def deviate(connection: AsyncConnection, paths: Mapping[tuple[str, str], int], now: datetime) -> None:
    """Add to how often each source deviated from FHIR at each path."""
    if paths:
        statements = _statements(connection.dialect.name)
        rows = [(source, path, times, micros(now)) for (source, path), times in sorted(paths.items())]
        await statements.deviate.rows(connection, statements.deviations.bind(rows))


async def follow_numbers(
    connection: AsyncConnection, seen: Mapping[Subscription, Sequence[Numbered]], now: datetime
) -> None:
    """Add these numbers to those that were seen of each subscription. Other workers wait until the transaction ends."""
    if not seen:
        return
    known = await locked(connection, list(seen))
    for key in sorted(seen):
        before = known[key]
        after = follow(before, seen[key], now)
        if after != before:
            await keep(connection, key, after)


async def locked(connection: AsyncConnection, keys: Sequence[Subscription]) -> dict[Subscription, Followed]:
    """Return what was seen of each of these subscriptions, kept from others until the transaction ends."""
    statements = _statements(connection.dialect.name)
    given = statements.subscriptions.bind(sorted(keys))
    rows = await statements.lock.rows(connection, given)
    if len(rows) < len(keys):
        await statements.create.rows(connection, given)
        rows = await statements.lock.rows(connection, given)
    return {(source, reference): followed(begun, stretches) for source, reference, begun, stretches in rows}


def followed(begun: int | None, stretches: str) -> Followed:
    """Return what was seen of a subscription, from its row."""
    read = (
        Stretch(first, last, instant(noticed), instant(since), instant(until))
        for first, last, noticed, since, until in orjson.loads(stretches)
    )
    return Followed(instant(begun), tuple(read))


async def keep(connection: AsyncConnection, key: Subscription, seen: Followed) -> None:
    """Write what was seen of a subscription, which the transaction has locked."""
    written = [
        (each.first, each.last, micros(each.noticed), micros(each.since), micros(each.until)) for each in seen.stretches
    ]
    await connection.execute(
        subscription.update()
        .where(subscription.c.source == key[0], subscription.c.reference == key[1])
        .values(begun=micros(seen.begun), stretches=orjson.dumps(written).decode())
    )


class _Statements:
    def __init__(self, dialect: str) -> None:
        counted = (
            feed_count.c.source,
            feed_count.c.kind,
            feed_count.c.outcome,
            feed_count.c.hour,
            feed_count.c.shard,
            feed_count.c.count,
            feed_count.c.latest,
        )
        self.counts = Incoming(dialect, *counted)
        counting = insert(dialect, feed_count).from_select(
            [each.name for each in counted], select(self.counts.rows).where(true())
        )
        new = counting.excluded
        self.count = Compiled(
            counting.on_conflict_do_update(
                index_elements=list(feed_count.primary_key.columns),
                set_={
                    "count": feed_count.c.count + new.count,
                    "latest": case((new.latest > feed_count.c.latest, new.latest), else_=feed_count.c.latest),
                },
            )
        )
        self.deviations = Incoming(dialect, *deviation.c)
        deviating = insert(dialect, deviation).from_select(
            [each.name for each in deviation.c], select(self.deviations.rows).where(true())
        )
        self.deviate = Compiled(
            deviating.on_conflict_do_update(
                index_elements=list(deviation.primary_key.columns),
                set_={"count": deviation.c.count + deviating.excluded.count, "last_seen": deviating.excluded.last_seen},
            )
        )
        self.subscriptions = Incoming(dialect, subscription.c.source, subscription.c.reference)
        keys = self.subscriptions.rows
        self.lock = Compiled(
            select(subscription.c.source, subscription.c.reference, subscription.c.begun, subscription.c.stretches)
            .select_from(
                keys.join(
                    subscription,
                    (keys.c.source == subscription.c.source) & (keys.c.reference == subscription.c.reference),
                )
            )
            .order_by(subscription.c.source, subscription.c.reference)
            .with_for_update(of=subscription)
        )
        self.create = Compiled(
            insert(dialect, subscription)
            .from_select(
                ["source", "reference", "stretches"],
                select(
                    keys.c.source, keys.c.reference, bindparam("none", "[]", type_=subscription.c.stretches.type)
                ).where(true()),
            )
            .on_conflict_do_nothing()
        )


_statements = cache(_Statements)
