"""What is known of the sources: what came of them, which event numbers are missing, where they deviate from FHIR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import case, delete, func, insert, select, update

from service.domain.event_numbers import Gap, without_gap
from service.store import feeds
from service.store.instants import instant, micros
from service.store.parking import WAITING
from service.store.tables import deviation, event_gap, feed_count, parked, subscription
from service.store.values import EventGap, FeedOverview, FeedRate, GapClosed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.domain.event_numbers import Followed
    from service.store.connections import Connections
    from service.store.feeds import Subscription

DAY_H = 24
KEPT_H = 8 * DAY_H
"""How long the counts of an hour are kept (hours)."""
MOST_GAPS = 100
"""Gaps shown of one source at a time; it may have more."""
MOST_DEVIATIONS = 1000
"""Paths of one source at a time; there are fewer in FHIR's Encounter and QuestionnaireResponse."""

_GAP = (
    event_gap.c.id,
    event_gap.c.source,
    event_gap.c.reference,
    event_gap.c.first_number,
    event_gap.c.last_number,
    event_gap.c.after,
    event_gap.c.before,
    event_gap.c.noticed_at,
    event_gap.c.attempts,
)
_OPEN = event_gap.c.closed_at.is_(None)


class Sources:
    """Sources as they are known; each method is a transaction of its own. Found at `Store.sources`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def notice_gaps(self, open_for: timedelta, now: datetime) -> list[EventGap]:
        """Return the gaps that have been open for so long and were not noticed yet; close those that are none any more.

        Of several workers one notices each.
        """
        async with self._connections.reading() as connection:
            rows = await connection.execute(select(subscription))
            told = await connection.execute(select(event_gap.c.source, event_gap.c.reference).where(_OPEN))
            keys = {(source, reference) for source, reference in told}
            keys |= {
                (row.source, row.reference)
                for row in rows
                if any(gap.noticed <= now - open_for for gap in feeds.followed(row.begun, row.stretches).gaps)
            }
        noticed = []
        for key in sorted(keys):
            async with self._connections.writing() as connection:
                noticed += await _notice(connection, key, open_for, now)
        return noticed

    async def claim_gap(self, sources: Sequence[str], lease: timedelta, now: datetime) -> EventGap | None:
        """Return the next open gap of these sources whose events may be searched for; nobody else gets it so long."""
        async with self._connections.writing() as connection:
            found = (
                await connection.execute(
                    select(event_gap.c.id)
                    .where(_OPEN, event_gap.c.source.in_(sources), event_gap.c.next_attempt <= micros(now))
                    .order_by(event_gap.c.next_attempt, event_gap.c.id)
                    .limit(1)
                    .with_for_update(skip_locked=True)
                )
            ).scalar()
            if found is None:
                return None
            claimed = await connection.execute(
                update(event_gap)
                .where(event_gap.c.id == found)
                .values(next_attempt=micros(now + lease), attempts=event_gap.c.attempts + 1)
                .returning(*_GAP)
            )
            return _gap(claimed.one())

    async def postpone_gap(self, gap: EventGap, until: datetime) -> None:
        """Let a gap's events be searched for again from then on: this time they could not be."""
        async with self._connections.writing() as connection:
            await connection.execute(
                update(event_gap).where(event_gap.c.id == gap.id).values(next_attempt=micros(until))
            )

    async def close_gap(self, gap: EventGap, how: GapClosed, now: datetime) -> None:
        """Close a gap: what its numbers told of is known in another way."""
        async with self._connections.writing() as connection:
            await _close(connection, gap, how, now)

    async def settle_gaps(self, source: str, now: datetime) -> int:
        """Close every open gap of a source, as a person says; return how many they were."""
        async with self._connections.writing() as connection:
            gaps = await _open_gaps(connection, event_gap.c.source == source)
            for gap in gaps:
                await _close(connection, gap, GapClosed.SETTLED, now)
        return len(gaps)

    async def open_gaps(self) -> dict[str, int]:
        """Return how many gaps are open, by source."""
        statement = select(event_gap.c.source, func.count()).where(_OPEN).group_by(event_gap.c.source)
        async with self._connections.reading() as connection:
            return dict((await connection.execute(statement)).all())

    async def overview(self, source: str, now: datetime) -> FeedOverview:
        """Return what is known of a source."""
        since = micros(now) // feeds.HOUR_US - DAY_H
        day = func.sum(case((feed_count.c.hour > since, feed_count.c.count), else_=0))
        total = func.sum(case((feed_count.c.hour == feeds.EVER, feed_count.c.count), else_=0))
        rates = (
            select(feed_count.c.kind, feed_count.c.outcome, day, total)
            .where(feed_count.c.source == source)
            .group_by(feed_count.c.kind, feed_count.c.outcome)
            .order_by(feed_count.c.kind, feed_count.c.outcome)
        )
        latest = select(func.max(feed_count.c.latest)).where(feed_count.c.source == source, feed_count.c.latest > 0)
        closed = (
            select(event_gap.c.closed_by, func.count())
            .where(event_gap.c.source == source, event_gap.c.closed_by.is_not(None))
            .group_by(event_gap.c.closed_by)
        )
        deviations = (
            select(deviation.c.path, deviation.c.count)
            .where(deviation.c.source == source)
            .order_by(deviation.c.count.desc(), deviation.c.path)
            .limit(MOST_DEVIATIONS)
        )
        waiting = (
            select(parked.c.reason, func.count())
            .where(parked.c.source == source, WAITING)
            .group_by(parked.c.reason)
            .order_by(func.count().desc(), parked.c.reason)
        )
        async with self._connections.reading(snapshot=True) as connection:
            return FeedOverview(
                latest=instant((await connection.execute(latest)).scalar()),
                rates=tuple(
                    FeedRate(kind, outcome, int(last), int(ever))
                    for kind, outcome, last, ever in await connection.execute(rates)
                ),
                gaps=tuple(await _open_gaps(connection, event_gap.c.source == source, MOST_GAPS)),
                gaps_closed=dict((await connection.execute(closed)).all()),
                deviations=dict((await connection.execute(deviations)).all()),
                parked=dict((await connection.execute(waiting)).all()),
            )

    async def prune_counts(self, now: datetime) -> None:
        """Delete the counts of hours long past; what was counted ever stays."""
        oldest = micros(now) // feeds.HOUR_US - KEPT_H
        async with self._connections.writing() as connection:
            await connection.execute(
                delete(feed_count).where(feed_count.c.hour != feeds.EVER, feed_count.c.hour < oldest)
            )


async def _notice(connection: AsyncConnection, key: Subscription, open_for: timedelta, now: datetime) -> list[EventGap]:
    """Bring the noticed gaps of one subscription in line with what was seen of it; return the new ones."""
    seen = (await feeds.locked(connection, [key]))[key]
    of_it = (event_gap.c.source == key[0]) & (event_gap.c.reference == key[1])
    begun = await connection.execute(select(event_gap.c.id, event_gap.c.begun).where(_OPEN, of_it))
    lives = {id_: instant(at) for id_, at in begun}
    known = [gap for gap in await _open_gaps(connection, of_it) if lives[gap.id] == seen.begun]
    for gap in known:
        if seen.has(gap.first, gap.last):
            await _mark_closed(connection, gap, GapClosed.ARRIVED, now)
    noticed = []
    for each in seen.gaps:
        if each.noticed > now - open_for or any(gap.first <= each.first and each.last <= gap.last for gap in known):
            continue
        made = await connection.execute(insert(event_gap).values(_row(key, seen, each, now)).returning(*_GAP))
        noticed.append(_gap(made.one()))
    return noticed


async def _close(connection: AsyncConnection, gap: EventGap, how: GapClosed, now: datetime) -> None:
    key = gap.source, gap.subscription
    seen = (await feeds.locked(connection, [key]))[key]
    life = select(event_gap.c.begun).where(event_gap.c.id == gap.id)
    if instant((await connection.execute(life)).scalar_one()) == seen.begun:
        filled = without_gap(seen, Gap(gap.first, gap.last, gap.noticed_at, gap.after, gap.before))
        await feeds.keep(connection, key, filled)
    await _mark_closed(connection, gap, how, now)


async def _mark_closed(connection: AsyncConnection, gap: EventGap, how: GapClosed, now: datetime) -> None:
    await connection.execute(
        update(event_gap).where(event_gap.c.id == gap.id, _OPEN).values(closed_at=micros(now), closed_by=how)
    )


async def _open_gaps(
    connection: AsyncConnection,
    of: Any,  # noqa: ANN401 - a condition
    most: int | None = None,
) -> list[EventGap]:
    """Return open gaps, the oldest first; without `most` all of them, as whoever decides about gaps needs them."""
    statement = select(*_GAP).where(_OPEN, of).order_by(event_gap.c.noticed_at, event_gap.c.id).limit(most)
    return [_gap(row) for row in await connection.execute(statement)]


def _row(key: Subscription, seen: Followed, gap: Gap, now: datetime) -> dict[str, Any]:
    return {
        "source": key[0],
        "reference": key[1],
        "begun": micros(seen.begun),
        "first_number": gap.first,
        "last_number": gap.last,
        "after": micros(gap.after),
        "before": micros(gap.before),
        "noticed_at": micros(now),
        "next_attempt": micros(now),
        "attempts": 0,
    }


def _gap(row: Sequence[Any]) -> EventGap:
    id_, source, reference, first, last, after, before, noticed_at, attempts = row
    return EventGap(id_, source, reference, first, last, instant(after), instant(before), instant(noticed_at), attempts)
