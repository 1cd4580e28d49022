"""The ledger of deliveries: what each destination shall have, has, and when to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Text, func, literal, or_, select, update

from service.store import delivery_rows, parking
from service.store.instants import instant, micros
from service.store.projections import wanting
from service.store.rows import COURSE, ledger, stored_course
from service.store.tables import course, delivery
from service.store.values import Claimed, Pending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from service.store.connections import Connections
    from service.store.delivery_rows import DeliveryRow
    from service.store.values import Delivered, Postponed


class Deliveries:
    """Deliveries of all courses; each method is a transaction of its own. Found at `Store.deliveries`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def claim(
        self,
        destination: str,
        now: datetime,
        limit: int,
        lease: timedelta,
        *,
        waiting_since: datetime | None = None,
    ) -> list[Claimed]:
        """Return deliveries that are due, longest due first; until the lease ends nobody else gets them.

        With `waiting_since` only those whose destination has been behind since then.
        """
        at = micros(now)
        due = (
            select(*delivery.c)
            .where(
                delivery.c.destination == destination,
                delivery.c.next_attempt <= at,
                or_(delivery.c.leased_until.is_(None), delivery.c.leased_until <= at),
            )
            .order_by(delivery.c.next_attempt)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if waiting_since is not None:
            due = due.where(delivery.c.behind_since <= micros(waiting_since))
        async with self._connections.writing() as connection:
            rows = [delivery_rows.DeliveryRow(*row) for row in await connection.execute(due)]
            ids = [row.course_id for row in rows]
            if not rows:
                return []
            await connection.execute(
                update(delivery)
                .where(delivery.c.destination == destination, delivery.c.course_id.in_(ids))
                .values(leased_until=micros(now + lease), attempts=delivery.c.attempts + 1)
            )
            # Read after the rows are locked: whoever changes a course waits for them, so state and revision agree.
            result = await connection.execute(select(*COURSE).where(course.c.course_id.in_(ids)))
            courses = {each.course_id: each for each in map(stored_course, result)}
        return [
            Claimed(
                row.course_id,
                destination,
                courses[row.course_id].patient,
                courses[row.course_id].revision,
                courses[row.course_id].counter,
                courses[row.course_id].state,
                courses[row.course_id].gone,
                row.attempts + 1,
                row.seen,
                row.route,
                ledger(row.remote),
            )
            for row in rows
        ]

    async def acknowledge(self, reports: Sequence[Delivered], now: datetime) -> None:
        """Record what destinations took; a course that has changed meanwhile is due again."""
        at = micros(now)
        async with self._connections.writing() as connection:
            rows = await delivery_rows.read(connection, [(each.course_id, each.destination) for each in reports])
            changed: dict[tuple[str, str], DeliveryRow] = {}
            late: list[tuple[str, str]] = []
            for report in reports:
                row = rows.get((report.course_id, report.destination))
                if row is None:
                    continue
                if row.handed_to is not None:
                    late.append((row.handed_to, row.destination))
                else:
                    changed[row.key] = delivery_rows.acknowledged(row, report, at)
            # A plan of the old course may lie over the new one's: send that once more.
            taken = await delivery_rows.read(connection, late)
            changed |= {key: delivery_rows.due_again(changed.get(key, row), at) for key, row in taken.items()}
            await delivery_rows.save(connection, changed.values())
            done = [key for key, row in changed.items() if row.next_attempt is None]
            await parking.resolve_deliveries(connection, done, at)

    async def postpone(self, reports: Sequence[Postponed]) -> None:
        """Record attempts that failed, and when to make the next."""
        async with self._connections.writing() as connection:
            rows = await delivery_rows.read(connection, [(each.course_id, each.destination) for each in reports])
            changed = [
                delivery_rows.postponed(rows[key], each, micros(each.next_attempt))
                for each in reports
                if (key := (each.course_id, each.destination)) in rows
            ]
            await delivery_rows.save(connection, changed)

    async def park_delivery(self, claimed: Claimed, reason: str, now: datetime) -> None:
        """Leave a delivery to a person, unless a newer revision is wanted by now: that one is tried first."""
        at = micros(now)
        key = (claimed.course_id, claimed.destination)
        async with self._connections.writing() as connection:
            row = (await delivery_rows.read(connection, [key])).get(key)
            if row is None or row.next_attempt is None:
                return
            if row.wanted_counter != claimed.counter:
                await delivery_rows.save(connection, [delivery_rows.released(row, at)])
                return
            await delivery_rows.save(connection, [delivery_rows.stopped(row, reason)])
            await parking.park_delivery(connection, claimed, reason, at)

    async def bring_up_to_date(self, destination: str, now: datetime) -> int:
        """Want every course at a destination that has been added, or was not configured for a while.

        Returns how many courses it was behind in.
        """
        at = micros(now)
        name = literal(destination, Text)
        here = course.outerjoin(
            delivery, (delivery.c.course_id == course.c.course_id) & (delivery.c.destination == destination)
        )
        behind = or_(delivery.c.course_id.is_(None), delivery.c.wanted_counter != course.c.counter)
        current = (
            select(
                course.c.course_id,
                name.label("destination"),
                course.c.revision.label("wanted"),
                course.c.counter.label("wanted_counter"),
                literal(at).label("wanted_at"),
            )
            .select_from(here)
            .where(behind, ~course.c.gone)
            .order_by(course.c.course_id)
            .subquery("behind")
        )
        gone = (
            select(course.c.course_id, course.c.revision, course.c.counter)
            .select_from(here)
            .where(delivery.c.wanted_counter != course.c.counter, course.c.gone)
        )
        async with self._connections.writing() as connection:
            result = await connection.execute(wanting(connection.dialect.name, current))
            wanted = len(result.all())
            revisions = {id_: (revision, counter) for id_, revision, counter in await connection.execute(gone)}
            rows = await delivery_rows.read(connection, [(id_, destination) for id_ in revisions])
            await delivery_rows.save(
                connection,
                [delivery_rows.retracted(row, *revisions[row.course_id], at) for row in rows.values()],
            )
        return wanted + len(revisions)

    async def pending(self, destination: str) -> Pending:
        """Return how many courses the destination is behind in, and since when."""
        statement = select(func.count(), func.min(delivery.c.behind_since)).where(
            delivery.c.destination == destination, delivery.c.behind_since.is_not(None)
        )
        async with self._connections.reading() as connection:
            count, oldest = (await connection.execute(statement)).one()
        return Pending(count, instant(oldest))
