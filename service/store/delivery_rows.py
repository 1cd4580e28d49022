"""Rows of `delivery`: read under a lock, moved on by pure functions, and written back."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import and_, select, update

from service.store.compiled import Compiled
from service.store.dialects import Incoming
from service.store.instants import micros
from service.store.ledgers import doubted, met
from service.store.rows import ledger, ledger_text
from service.store.tables import delivery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from service.store.values import Delivered, Lease, Ledger, Postponed


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One row, its columns in the table's order; instants in microseconds."""

    course_id: str
    destination: str
    wanted: str
    wanted_counter: int
    wanted_at: int
    seen: str | None
    seen_counter: int | None
    seen_at: int | None
    behind_since: int | None
    attempts: int
    next_attempt: int | None
    leased_until: int | None
    route: str | None
    remote: str | None
    outcome: str | None
    handed_to: str | None

    @property
    def key(self) -> tuple[str, str]:
        """The primary key."""
        return self.course_id, self.destination

    @property
    def untried(self) -> bool:
        """Whether the destination surely has nothing of the course."""
        return self.seen_counter is None and self.remote is None and not self.attempts

    @property
    def tried(self) -> int:
        """Attempts from which counting begins anew: 1 where one may have written, so that this is never forgotten."""
        return min(self.attempts, 1)

    def held_under(self, lease: Lease) -> bool:
        """Whether the delivery is still that of the worker who claimed it with this lease."""
        return self.leased_until == micros(lease.until)

    def asked_since(self, lease: Lease) -> bool:
        """Whether it was asked for once more since it was claimed, by a late worker or a person."""
        return self.next_attempt != micros(lease.due)

    def has_heard(self, report: Delivered) -> bool:
        """Whether it has this very acknowledgement already, whose answer the worker lost.

        It was made while the worker's lease ran, and so by nobody else.
        """
        if self.leased_until is not None or self.seen_counter != report.counter or self.seen_at is None:
            return False
        return micros(report.lease.due) < self.seen_at < micros(report.lease.until)


def acknowledged(row: DeliveryRow, report: Delivered, now: int) -> DeliveryRow:
    """Return the row after its destination took a plan.

    Due again if that is no longer the wanted one, or was asked for once more meanwhile.
    """
    # A destination that no longer takes the course's source is not told of newer revisions: it may be ahead.
    current = report.counter >= row.wanted_counter and not row.asked_since(report.lease)
    return replace(
        row,
        seen=report.revision,
        seen_counter=report.counter,
        seen_at=now,
        behind_since=None if current else (row.behind_since or now),
        attempts=0,
        next_attempt=None if current else now,
        leased_until=None,
        route=row.route if report.route is None else report.route,
        remote=_remote(row, report.remote, report.lease),
        outcome=None,
    )


def postponed(row: DeliveryRow, report: Postponed, next_attempt: int) -> DeliveryRow:
    """Return the row after a failed attempt."""
    return replace(
        row,
        next_attempt=next_attempt,
        leased_until=None,
        remote=_remote(row, report.remote, report.lease),
        outcome=report.outcome,
    )


def written(row: DeliveryRow, remote: Ledger | None, lease: Lease) -> DeliveryRow:
    """Return the row with what the worker who holds it wrote, or is about to; None: nothing beside."""
    return replace(row, remote=_remote(row, remote, lease))


def late(row: DeliveryRow, remote: Ledger | None, now: int, *, wrote: bool) -> DeliveryRow:
    """Return the row after the word of a worker whose lease had ended: the delivery is another's, or was.

    Who has it by now keeps it, and how it stands is theirs to say. What the late one wrote, or may have, is kept with
    what is known (`remote`; None: nothing beside), and the plan is sent once more: the late one's may lie over it.
    """
    if not wrote and remote is None:
        return row
    both = row.remote if remote is None else ledger_text(met(ledger(row.remote), remote))
    return replace(due_again(row, now), attempts=row.attempts, remote=both)


def _remote(row: DeliveryRow, told: Ledger | None, lease: Lease) -> str | None:
    """Return what the destination is known to hold, where a worker has told of it; None: of nothing beside."""
    if told is None:
        return row.remote
    # A late worker may have told meanwhile of what this one does not know.
    return ledger_text(met(told, ledger(row.remote)) if row.asked_since(lease) else told)


def stopped(row: DeliveryRow, reason: str, next_attempt: int | None) -> DeliveryRow:
    """Return the row when a person must act: still behind.

    Without a next attempt it is not due before a newer revision is wanted.
    """
    return replace(row, next_attempt=next_attempt, leased_until=None, outcome=reason)


def released(row: DeliveryRow, now: int) -> DeliveryRow:
    """Return the row after an attempt that no longer matters: what is wanted has changed since."""
    return replace(row, attempts=row.tried, next_attempt=now, leased_until=None, outcome=None)


def due_again(row: DeliveryRow, now: int) -> DeliveryRow:
    """Return the row to be delivered at once, whatever its destination has."""
    return replace(row, behind_since=row.behind_since or now, attempts=row.tried, next_attempt=now, outcome=None)


def retracted(row: DeliveryRow, revision: str, counter: int, now: int) -> DeliveryRow:
    """Return the row of a course that is gone: its plan is to be retracted, if it was ever sent."""
    wanted = replace(row, wanted=revision, wanted_counter=counter, wanted_at=now)
    if row.untried:
        return replace(wanted, behind_since=None, next_attempt=None, outcome=None)
    idle = row.next_attempt is None
    return replace(
        wanted,
        behind_since=row.behind_since or now,
        attempts=row.tried if idle else row.attempts,
        next_attempt=now if idle else row.next_attempt,
    )


def can_hand_over(old: DeliveryRow, new: DeliveryRow) -> bool:
    """Return whether a course's remote resources can go to the one that takes its place.

    Not if none are known, and not if the other course may have made its own: then each is
    delivered for itself, the old one as a retraction, and nothing is left behind.
    """
    return old.remote is not None and new.remote is None and not new.attempts


def handed_over(
    old: DeliveryRow, new: DeliveryRow, revision: str, counter: int, now: int
) -> tuple[DeliveryRow, DeliveryRow]:
    """Return both rows after the remote resources went from the old course to the new one.

    If the old one is under way to its destination at this very moment, the new one waits until that
    attempt is reported or its lease is over: the last word at the destination must be the new course's.
    Should it never be heard of, what it wrote is in doubt.
    """
    remote = old.remote if old.leased_until is None else ledger_text(doubted(ledger(old.remote)))
    giver = replace(
        old,
        wanted=revision,
        wanted_counter=counter,
        wanted_at=now,
        behind_since=None,
        attempts=0,
        next_attempt=None,
        leased_until=None,
        remote=None,
        outcome=None,
        handed_to=new.course_id,
    )
    taker = replace(
        new, route=old.route, remote=remote, attempts=old.tried, next_attempt=max(now, old.leased_until or now)
    )
    return giver, taker


_KEY = (delivery.c.course_id, delivery.c.destination)


class _Statements:
    def __init__(self, dialect: str) -> None:
        self.keys = Incoming(dialect, *_KEY)
        keys = self.keys.rows
        self.read = Compiled(
            select(*delivery.c)
            .select_from(keys.join(delivery, and_(*(each == keys.c[each.name] for each in _KEY))))
            .order_by(*_KEY)  # whoever locks several does so in this order
            .with_for_update(of=delivery)
        )
        self.rows = Incoming(dialect, *delivery.c)
        rows = self.rows.rows
        self.save = Compiled(
            update(delivery)
            .where(*(each == rows.c[each.name] for each in _KEY))
            .values({each.name: rows.c[each.name] for each in delivery.c if each not in _KEY})
        )


_statements = cache(_Statements)


async def read(connection: AsyncConnection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], DeliveryRow]:
    """Return the rows with these keys (course id, destination), locked until the transaction ends."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    statements = _statements(connection.dialect.name)
    result = await statements.read.rows(connection, statements.keys.bind(wanted))
    rows = [DeliveryRow(*row) for row in result]
    return {row.key: row for row in rows}


async def save(connection: AsyncConnection, rows: Iterable[DeliveryRow]) -> None:
    """Write rows back that were read in this transaction."""
    changed = [astuple(row) for row in rows]
    if changed:
        statements = _statements(connection.dialect.name)
        await statements.save.rows(connection, statements.rows.bind(changed))
