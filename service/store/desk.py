"""What people ask and decide about deliveries: how they stand, try again, pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, or_, select, tuple_, update

from service.rest.errors import UNANSWERED
from service.store import audit_trail, delivery_rows
from service.store.dialects import insert
from service.store.instants import instant, micros
from service.store.rows import DELIVERY, delivery_state
from service.store.tables import delivery, parked, pause
from service.store.values import ParkedKind, ParkedState, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from service.store.connections import Connections
    from service.store.values import AuditEntry, DeliveryState

AT_ONCE = 500
"""Deliveries changed in one statement: databases bound the parameters of one."""
_KEY = (delivery.c.destination, delivery.c.course_id)
_HAS = and_(
    delivery.c.handed_to.is_(None), or_(delivery.c.seen_counter.is_not(None), delivery.c.behind_since.is_not(None))
)
_PARKED = select(parked.c.id).where(
    parked.c.kind == ParkedKind.DELIVERY,
    parked.c.course_id == delivery.c.course_id,
    parked.c.destination == delivery.c.destination,
)
_WAITING = _PARKED.where(parked.c.state == ParkedState.OPEN).exists()
_NAMED_ONLY = _PARKED.where(or_(parked.c.state == ParkedState.DISCARDED, parked.c.reason == UNANSWERED)).exists()
"""What is tried again only where a person names it: they have decided, or have to look at each first."""
_STOPPED = and_(delivery.c.behind_since.is_not(None), or_(delivery.c.next_attempt.is_(None), _WAITING))


class Desk:
    """Questions and decisions of people about deliveries; each method is a transaction of its own. At `Store.desk`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def standings(self, destinations: Sequence[str]) -> list[Standing]:
        """Return how each of these destinations stands, in their order."""
        counted = (
            select(
                delivery.c.destination,
                func.count().label("courses"),
                func.count(delivery.c.behind_since).label("behind"),
                func.min(delivery.c.behind_since).label("oldest"),
                func.count().filter(_STOPPED).label("stopped"),
            )
            .where(_HAS)
            .group_by(delivery.c.destination)
        )
        async with self._connections.reading() as connection:
            found = {row.destination: row for row in await connection.execute(counted)}
            since = {name: instant(at) for name, at in await connection.execute(select(pause))}
        return [
            Standing(name, row.courses, row.behind, instant(row.oldest), row.stopped, since.get(name))
            if (row := found.get(name)) is not None
            else Standing(name, 0, 0, None, 0, since.get(name))
            for name in destinations
        ]

    async def deliveries(
        self,
        destination: str | None,
        *,
        behind: bool,
        after: tuple[str, str] | None = None,
        limit: int = 500,
    ) -> list[DeliveryState]:
        """Return the next deliveries by destination and course, from the first if `after` is None.

        Of one destination or of all; with `behind` only those that it has not acknowledged.
        """
        statement = select(*DELIVERY).where(_HAS).order_by(*_KEY).limit(limit)
        if destination is not None:
            statement = statement.where(delivery.c.destination == destination)
        if behind:
            statement = statement.where(delivery.c.behind_since.is_not(None))
        if after is not None:
            statement = statement.where(tuple_(*_KEY) > tuple_(*after))
        async with self._connections.reading() as connection:
            return [delivery_state(row) for row in await connection.execute(statement)]

    async def retry(self, destination: str | None, courses: Sequence[str] | None, now: datetime) -> int:
        """Make deliveries due at once, and return how many: of these courses all that are behind.

        Without `courses` those that wait for a person, but for what was discarded and creates without an answer
        (unanswered-create): to ask for one of these again is leave to create it a second time.
        """
        waiting = select(delivery.c.course_id, delivery.c.destination).order_by(*_KEY)
        if destination is not None:
            waiting = waiting.where(delivery.c.destination == destination)
        if courses is None:
            waiting = waiting.where(_STOPPED, ~_NAMED_ONLY)
        else:
            waiting = waiting.where(delivery.c.behind_since.is_not(None), delivery.c.course_id.in_(courses))
        at = micros(now)
        async with self._connections.writing() as connection:
            keys = [(course, place) for course, place in await connection.execute(waiting)]
            for start in range(0, len(keys), AT_ONCE):
                page = keys[start : start + AT_ONCE]
                rows = await delivery_rows.read(connection, page)
                await delivery_rows.save(connection, [delivery_rows.due_again(row, at) for row in rows.values()])
                await connection.execute(
                    update(parked)
                    .where(
                        parked.c.kind == ParkedKind.DELIVERY,
                        tuple_(parked.c.course_id, parked.c.destination).in_(page),
                        parked.c.state != ParkedState.RESOLVED,
                    )
                    .values(state=ParkedState.RETRYING, changed_at=at)
                )
        return len(keys)

    async def audit(self, course_id: str) -> list[AuditEntry]:
        """Return what was written of a course at its destinations, and what they refused, first to last."""
        async with self._connections.reading() as connection:
            return await audit_trail.of_course(connection, course_id)

    async def pause(self, destination: str, now: datetime) -> None:
        """Deliver nothing more to a destination, in any worker, until it is resumed; what is under way ends."""
        async with self._connections.writing() as connection:
            statement = insert(connection.dialect.name, pause).values(destination=destination, since=micros(now))
            await connection.execute(statement.on_conflict_do_nothing(index_elements=[pause.c.destination]))

    async def resume(self, destination: str) -> bool:
        """Deliver to a destination again; return whether it was paused."""
        statement = delete(pause).where(pause.c.destination == destination).returning(pause.c.destination)
        async with self._connections.writing() as connection:
            return bool((await connection.execute(statement)).all())
