"""The ledger of deliveries: what each destination shall have, has, and when to try next."""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Integer, Text, and_, bindparam, exists, false, func, literal, or_, select, update

from service.domain.facts import PatientKey
from service.rest.errors import NEVER_RETRIED, UNANSWERED
from service.store import audit_trail, delivery_rows, parking
from service.store.compiled import Compiled
from service.store.dialects import Incoming
from service.store.instants import instant, micros
from service.store.ledgers import doubted
from service.store.projections import wanting
from service.store.rows import ledger
from service.store.tables import course, delivery, parked, pause
from service.store.values import (
    OTHER_SOURCE,
    PATIENT_MISSING,
    WITHHELD,
    Asking,
    Claimed,
    Lease,
    ParkedState,
    Pending,
    Postponed,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import ColumnElement, Update
    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.store.connections import Connections
    from service.store.delivery_rows import DeliveryRow
    from service.store.values import Delivered, Ledger, Write


_COURSE = (
    course.c.course_id,
    course.c.source,
    course.c.patient_id,
    course.c.revision,
    course.c.counter,
    course.c.state,
    course.c.gone,
)
_DELIVERY = (
    delivery.c.wanted_counter,
    delivery.c.next_attempt,
    delivery.c.attempts,
    delivery.c.seen,
    delivery.c.route,
    delivery.c.remote,
)
_ASKS = '"status":"requested"'
"""In the text of a ledger: a Task that is open."""
_COUNTER = _COURSE.index(course.c.counter)
_WANTED = len(_COURSE)
_NEXT_ATTEMPT = _WANTED + 1


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

        None while the destination is paused. With `waiting_since` only those whose destination has been behind since
        then.
        """
        given = {
            "destination": destination,
            "now": micros(now),
            "most": limit,
            "until": micros(now + lease),
            "since": None if waiting_since is None else micros(waiting_since),
        }
        if self._connections.dialect == "postgresql":
            claimed = await self._claim_at_once(given)
        else:
            claimed = await self._claim_in_turn(given)
        return [_claimed(destination, row, now + lease) for row in claimed]

    async def _claim_at_once(self, given: dict[str, Any]) -> list[Any]:
        statements = _statements("postgresql")
        async with self._connections.single() as connection:
            rows = await statements.claim.rows(connection, given)
            # The courses are as they were when the statement began, and the rows as they were when it had locked them.
            # Where a course has changed in between, it and what is wanted of it were committed together: read it again.
            changed = [(row[0],) for row in rows if row[_COUNTER] < row[_WANTED]]
            newer = await statements.courses.rows(connection, statements.ids.bind(changed)) if changed else []
        courses = {course[0]: tuple(course) for course in newer}
        rows = [(*courses.get(row[0], row[:_WANTED]), *row[_WANTED:]) for row in rows]
        return sorted(rows, key=itemgetter(_NEXT_ATTEMPT))

    async def _claim_in_turn(self, given: dict[str, Any]) -> list[Any]:
        statements = _statements("sqlite")
        async with self._connections.writing() as connection:
            rows = await statements.due.rows(connection, given)
            if rows:
                claimed = statements.ids.bind([(row[0],) for row in rows])
                await statements.lease.rows(connection, given | claimed)
        return rows

    async def acknowledge(self, reports: Sequence[Delivered], now: datetime) -> bool:
        """Record what destinations took; return whether one is due again: its course has changed meanwhile, say.

        What a worker tells whose lease had ended is kept as `delivery_rows.late` says, here and below. What it tells
        a second time, as the answer to the first was lost, changes nothing.
        """
        at = micros(now)
        async with self._connections.writing() as connection:
            rows = await delivery_rows.read(connection, [(each.course_id, each.destination) for each in reports])
            changed: dict[tuple[str, str], DeliveryRow] = {}
            late: list[Delivered | Postponed] = []
            heard: list[Delivered] = []
            for report in reports:
                row = rows.get((report.course_id, report.destination))
                if row is not None and row.held_under(report.lease):
                    changed[row.key] = delivery_rows.acknowledged(row, report, at)
                elif row is not None and row.has_heard(report):
                    heard.append(report)
                elif row is not None:
                    late.append(report)
            again = await _late(connection, rows, changed, late, at)
            await delivery_rows.save(connection, (changed | again).values())
            await audit_trail.delivered(connection, [each for each in reports if each not in heard], at)
            done = [key for key, row in changed.items() if key not in again and row.next_attempt is None]
            await parking.resolve_deliveries(connection, done, at)
            for course_id, destination in done:
                if rows[course_id, destination].outcome == PATIENT_MISSING:
                    await connection.execute(_of_the_same_patient(course_id, destination, at))
        return len(done) < len(changed | again)

    async def remember(self, claimed: Claimed, remote: Ledger) -> bool:
        """Keep what a delivery is about to write, before it does; return whether it is still this worker's to write.

        A person's leave to write what may be there already is used up by it.
        """
        key = (claimed.course_id, claimed.destination)
        async with self._connections.writing() as connection:
            row = (await delivery_rows.read(connection, [key])).get(key)
            if row is None or not row.held_under(claimed.lease):
                return False
            await delivery_rows.save(connection, [delivery_rows.written(row, remote, claimed.lease)])
            await connection.execute(update(parked).where(*_granted(claimed)).values(state=ParkedState.OPEN))
        return True

    async def may_repeat(self, claimed: Claimed) -> bool:
        """Return whether a person asked for a delivery again that may have created something without an answer."""
        async with self._connections.reading() as connection:
            return bool((await connection.execute(select(parked.c.id).where(*_granted(claimed)))).all())

    async def postpone(self, reports: Sequence[Postponed], now: datetime) -> None:
        """Record attempts that failed, what they wrote before, and when to make the next."""
        at = micros(now)
        async with self._connections.writing() as connection:
            rows = await delivery_rows.read(connection, [(each.course_id, each.destination) for each in reports])
            changed: dict[tuple[str, str], DeliveryRow] = {}
            late: list[Delivered | Postponed] = []
            for report in reports:
                row = rows.get((report.course_id, report.destination))
                if row is not None and row.held_under(report.lease):
                    changed[row.key] = delivery_rows.postponed(row, report, micros(report.next_attempt))
                elif row is not None:
                    late.append(report)
            again = await _late(connection, rows, changed, late, at)
            await delivery_rows.save(connection, (changed | again).values())
            await audit_trail.delivered(connection, reports, at)

    async def park_delivery(  # noqa: PLR0913 - what a failed attempt leaves, each by its name
        self,
        claimed: Claimed,
        reason: str,
        now: datetime,
        again: datetime | None = None,
        *,
        hashes: str | None = None,
        remote: Ledger | None = None,
        writes: tuple[Write, ...] = (),
    ) -> None:
        """Leave a delivery to a person, unless a newer revision is wanted by now: that one is tried first.

        With `again` it is also tried then by itself: what it lacks may have come without anybody's doing. `hashes`
        tell our content and the destination's apart where they are why. `remote` is what was made there before the
        failure, None for nothing, and `writes` what was written for it.
        """
        at = micros(now)
        key = (claimed.course_id, claimed.destination)
        async with self._connections.writing() as connection:
            row = (await delivery_rows.read(connection, [key])).get(key)
            # Whoever delivers it by now: what was written was written.
            lease = claimed.lease
            made = Postponed(*key, now, reason, remote, claimed.revision, claimed.counter, None, writes, lease=lease)
            await audit_trail.delivered(connection, [made], at)
            if row is None:
                return
            if not row.held_under(lease):
                again_due = await _late(connection, {key: row}, {}, [made], at)
                await delivery_rows.save(connection, again_due.values())
                return
            row = delivery_rows.written(row, remote, lease)
            if row.wanted_counter > claimed.counter or row.asked_since(lease):
                await delivery_rows.save(connection, [delivery_rows.released(row, at)])
                return
            await delivery_rows.save(
                connection, [delivery_rows.stopped(row, reason, None if again is None else micros(again))]
            )
            await parking.park_delivery(connection, claimed, reason, hashes, at)
            await audit_trail.refused(connection, claimed, reason, at)

    async def bring_up_to_date(
        self, destination: str, now: datetime, *, sources: Collection[str] | None = None, withheld: Collection[str] = ()
    ) -> int:
        """Want every course at a destination that has been added, or was not configured for a while.

        Of these sources, or of all; what it has of others is made due too, for that has to be taken back. So is what it
        has of courses in whose state one of the texts `withheld` stands, and what was kept from it without one.
        Returns how many courses it was behind in.
        """
        at = micros(now)
        name = literal(destination, Text)
        here = course.outerjoin(
            delivery, (delivery.c.course_id == course.c.course_id) & (delivery.c.destination == destination)
        )
        behind = or_(delivery.c.course_id.is_(None), delivery.c.wanted_counter != course.c.counter)
        was_withheld = func.coalesce(delivery.c.route, "") == WITHHELD
        is_withheld = or_(false(), *(course.c.state.contains(text, autoescape=True) for text in withheld))
        has_plan = delivery.c.course_id.is_not(None)
        behind = or_(behind, and_(has_plan, or_(and_(was_withheld, ~is_withheld), and_(~was_withheld, is_withheld))))
        if sources is not None:
            theirs = course.c.source.in_(sources)
            kept_away = func.coalesce(delivery.c.route, "") == OTHER_SOURCE
            behind = or_(
                and_(theirs, or_(behind, kept_away)), and_(~theirs, delivery.c.course_id.is_not(None), ~kept_away)
            )
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

    async def want_again(
        self,
        destination: str,
        now: datetime,
        *,
        but_for: Collection[str] = (),
        kept_back: Collection[str] = (),
        terms: str = "",
    ) -> int:
        """Make due what a destination has acknowledged, as it takes other things than then; return how many plans.

        Not those that were left to a person, or kept back by a route among these; not those whose ledger says that it
        took them under the same `terms`; nor, of those whose ledger says nothing of terms, those that got there by a
        route among `but_for`.
        """
        at = micros(now)
        route, text = func.coalesce(delivery.c.route, ""), func.coalesce(delivery.c.remote, "")
        is_the_same = text.contains(f'"terms":"{terms}"') if terms else false()
        acknowledged = (
            select(delivery.c.course_id)
            .where(
                delivery.c.destination == destination,
                delivery.c.behind_since.is_(None),
                delivery.c.seen_counter.is_not(None),
                delivery.c.handed_to.is_(None),
                route.not_in(kept_back),
                ~is_the_same,
                or_(text.contains('"terms":"'), route.not_in(but_for)),
                exists().where(course.c.course_id == delivery.c.course_id, ~course.c.gone),
            )
            .order_by(delivery.c.course_id)  # whoever locks several does so in this order
            .with_for_update(of=delivery)
            .cte("acknowledged")
        )
        again = (
            update(delivery)
            .where(
                delivery.c.destination == destination,
                delivery.c.course_id.in_(select(acknowledged.c.course_id)),
            )
            .values(behind_since=at, next_attempt=at, outcome=None)
            .returning(delivery.c.course_id)
        )
        async with self._connections.writing() as connection:
            return len((await connection.execute(again)).all())

    async def asking(self, destination: str, after: str, limit: int) -> list[Asking] | None:
        """Return the next courses, by id, in whose ledger something asks for an answer (a status `requested`).

        None while the destination is paused; not those that are gone, or that must not be asked about again.
        """
        statement = (
            select(course.c.course_id, course.c.source, course.c.patient_id, delivery.c.remote)
            .join(delivery, delivery.c.course_id == course.c.course_id)
            .where(
                delivery.c.destination == destination,
                delivery.c.course_id > after,
                delivery.c.remote.contains(_ASKS),
                ~course.c.gone,
                delivery.c.outcome.is_distinct_from(NEVER_RETRIED),
            )
            .order_by(delivery.c.course_id)
            .limit(limit)
        )
        paused = select(pause.c.destination).where(pause.c.destination == destination)
        async with self._connections.reading() as connection:
            if (await connection.execute(paused)).first() is not None:
                return None
            return [
                Asking(id_, PatientKey(source, patient_id), ledger(remote))
                for id_, source, patient_id, remote in await connection.execute(statement)
            ]

    async def pending(self, destination: str) -> Pending:
        """Return how many courses the destination is behind in, and since when."""
        statement = select(func.count(), func.min(delivery.c.behind_since)).where(
            delivery.c.destination == destination, delivery.c.behind_since.is_not(None)
        )
        async with self._connections.reading() as connection:
            count, oldest = (await connection.execute(statement)).one()
        return Pending(count, instant(oldest))


class _Statements:
    """The statements of one dialect."""

    def __init__(self, dialect: str) -> None:
        self.ids = Incoming(dialect, course.c.course_id)
        ids = self.ids.rows
        here = delivery.c.destination == bindparam("destination")
        since = bindparam("since", type_=BigInteger)
        is_due = and_(
            here,
            delivery.c.next_attempt <= bindparam("now"),
            or_(delivery.c.leased_until.is_(None), delivery.c.leased_until <= bindparam("now")),
            or_(since.is_(None), delivery.c.behind_since <= since),
            ~exists().where(pause.c.destination == bindparam("destination")),
        )
        most = bindparam("most", type_=Integer)
        leasing = update(delivery).values(leased_until=bindparam("until"), attempts=delivery.c.attempts + 1)
        self.courses = Compiled(select(*_COURSE).select_from(ids.join(course, course.c.course_id == ids.c.course_id)))

        locked = (
            select(delivery.c.course_id, delivery.c.leased_until)
            .where(is_due)
            .order_by(delivery.c.next_attempt)
            .limit(most)
            .with_for_update(skip_locked=True)
            .cte("locked")
        )
        self.claim = Compiled(
            leasing.where(
                here, delivery.c.course_id == locked.c.course_id, course.c.course_id == delivery.c.course_id
            ).returning(*_COURSE, *_DELIVERY, locked.c.leased_until)
        )

        counted = [delivery.c.attempts + 1 if each is delivery.c.attempts else each for each in _DELIVERY]
        self.due = Compiled(
            select(*_COURSE, *counted, delivery.c.leased_until)
            .select_from(delivery.join(course, course.c.course_id == delivery.c.course_id))
            .where(is_due)
            .order_by(delivery.c.next_attempt)
            .limit(most)
        )
        self.lease = Compiled(leasing.where(here, delivery.c.course_id == ids.c.course_id))


_statements = cache(_Statements)


async def _late(
    connection: AsyncConnection,
    rows: Mapping[tuple[str, str], DeliveryRow],
    changed: Mapping[tuple[str, str], DeliveryRow],
    reports: Sequence[Delivered | Postponed],
    now: int,
) -> dict[tuple[str, str], DeliveryRow]:
    """Return the rows that late workers' reports change, on top of those that are changed already.

    What was handed to another course is that one's: a plan of the old course may lie over the new one's.
    """
    heirs = {each.key: (each.handed_to, each.destination) for each in rows.values() if each.handed_to is not None}
    told = [(heirs.get(key, key), each) for each in reports for key in [(each.course_id, each.destination)]]
    missing = await delivery_rows.read(connection, [key for key, _ in told if key not in rows])
    found: dict[tuple[str, str], DeliveryRow] = {}
    for key, each in told:
        row = found.get(key) or changed.get(key) or rows.get(key) or missing.get(key)
        if row is not None:
            found[key] = delivery_rows.late(row, each.remote, now, wrote=bool(each.writes))
    return found


def _granted(claimed: Claimed) -> tuple[ColumnElement[bool], ...]:
    return (
        parked.c.course_id == claimed.course_id,
        parked.c.destination == claimed.destination,
        parked.c.state == ParkedState.RETRYING,
        parked.c.reason == UNANSWERED,
    )


def _of_the_same_patient(course_id: str, destination: str, now: int) -> Update:
    """Return what makes a patient's other plans due at a destination that has come to know the patient."""
    mine, others = course.alias("mine"), course.alias("others")
    ids = (
        select(others.c.course_id)
        .join(mine, (mine.c.source == others.c.source) & (mine.c.patient_id == others.c.patient_id))
        .where(mine.c.course_id == course_id)
    )
    return (
        update(delivery)
        .where(
            delivery.c.destination == destination,
            delivery.c.outcome == PATIENT_MISSING,
            delivery.c.next_attempt.is_not(None),
            delivery.c.course_id.in_(ids),
        )
        .values(next_attempt=now)
    )


def _claimed(destination: str, row: Sequence[Any], until: datetime) -> Claimed:
    course_id, source, patient_id, revision, counter, state, gone, _, due, attempts, seen, route, remote, leased = row
    unheard = leased is not None  # whoever reports, however it ended, gives the lease back
    return Claimed(
        course_id,
        destination,
        PatientKey(source, patient_id),
        revision,
        counter,
        state.encode(),
        gone,
        attempts,
        seen,
        route,
        doubted(ledger(remote)) if unheard else ledger(remote),
        Lease(until, instant(due)),
        unheard,
    )
