"""Writing what a projection found: courses, their history, and what each destination shall have."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import case, false, func, literal, or_, select, true, update

from service.store import delivery_rows
from service.store.compiled import Compiled
from service.store.dialects import Incoming, insert
from service.store.instants import micros
from service.store.tables import course, delivery, history, patient
from service.store.values import GoneCourse, Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import FromClause
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert

    from service.store.delivery_rows import DeliveryRow
    from service.store.values import CourseUpdate, Destination, PatientUpdate

_PROJECTED = (
    course.c.course_id,
    course.c.source,
    course.c.patient_id,
    course.c.anchor,
    course.c.phase,
    course.c.revision,
    course.c.state,
)
_PROJECTED_PATIENT = (
    patient.c.source,
    patient.c.patient_id,
    patient.c.next_due,
    patient.c.projected_as_of,
    patient.c.mappings,
)
_GONE = (course.c.course_id, course.c.revision, course.c.superseded_by)
_WANTED = (
    delivery.c.course_id,
    delivery.c.destination,
    delivery.c.wanted,
    delivery.c.wanted_counter,
    delivery.c.wanted_at,
)


@dataclass(slots=True)
class Wanted:
    """What destinations shall have once a transaction is committed."""

    destinations: Sequence[Destination] = ()
    at: int = 0
    revisions: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Source, revision and counter of each course that changed."""
    gone: list[tuple[GoneCourse, int]] = field(default_factory=list)
    """With their counters."""


async def write(
    connection: AsyncConnection,
    updates: Sequence[PatientUpdate],
    destinations: Sequence[Destination],
    now: datetime,
    wanted: Wanted,
) -> Written:
    """Store these projections, and add to what is wanted; see `Transaction.write`."""
    if not updates:
        return Written((), ())
    statements = _statements(connection.dialect.name)
    changed = await _store_courses(connection, statements, updates)
    gone = await _store_gone(connection, statements, updates)
    await _append_history(connection, statements, updates, changed | gone, now)
    projected = [(*one.patient, micros(one.next_due), micros(one.as_of), one.mappings) for one in updates]
    await statements.update_patients.rows(connection, statements.patients.bind(sorted(projected)))
    wanted.destinations, wanted.at = destinations, micros(now)
    for one in updates:
        for each in one.courses:
            if each.course_id in changed:
                wanted.revisions[each.course_id] = one.patient.source, each.revision, changed[each.course_id]
        wanted.gone += [(each, gone[each.course_id]) for each in one.gone if each.course_id in gone]
    return Written(tuple(sorted(changed)), tuple(sorted(gone)))


async def want(connection: AsyncConnection, wanted: Wanted) -> None:
    """Want the revisions at every destination that takes their source: the last thing of a transaction.

    Rows of deliveries are locked in the order of their keys, as by everyone who locks several, and for a moment only.
    """
    places = sorted(wanted.destinations, key=lambda destination: destination.name)
    names = [destination.name for destination in places]
    if wanted.gone:
        # Two statements write below: locked by them, the second's rows would not come after the first's.
        heirs = {each.superseded_by for each, _ in wanted.gone if each.superseded_by}
        concerned = wanted.revisions.keys() | heirs | {each.course_id for each, _ in wanted.gone}
        await delivery_rows.read(connection, product(concerned, names))
    rows = [
        (id_, destination.name, revision, counter, wanted.at)
        for id_, (source, revision, counter) in sorted(wanted.revisions.items())
        for destination in places
        if destination.takes(source)
    ]
    if rows:
        statements = _statements(connection.dialect.name)
        await statements.want.rows(connection, statements.wanted.bind(rows))
    if wanted.gone and names:
        await _retire(connection, wanted)


async def _store_courses(
    connection: AsyncConnection, statements: _Statements, updates: Sequence[PatientUpdate]
) -> dict[str, int]:
    """Return the counters of those courses that have a revision other than the stored one."""
    rows = [
        (each.course_id, *one.patient, each.anchor, each.phase, each.revision, each.state.decode())
        for one in updates
        for each in one.courses
    ]
    if not rows:
        return {}
    result = await statements.store_courses.rows(connection, statements.projected.bind(sorted(rows)))
    return dict(result)


async def _store_gone(
    connection: AsyncConnection, statements: _Statements, updates: Sequence[PatientUpdate]
) -> dict[str, int]:
    """Return the counters of those courses that were not gone before."""
    rows = [(each.course_id, each.revision, each.superseded_by) for one in updates for each in one.gone]
    if not rows:
        return {}
    result = await statements.store_gone.rows(connection, statements.gone.bind(sorted(rows)))
    return dict(result)


async def _append_history(
    connection: AsyncConnection,
    statements: _Statements,
    updates: Sequence[PatientUpdate],
    counters: Mapping[str, int],
    now: datetime,
) -> None:
    rows = []
    for one in updates:
        as_of, recorded_at = micros(one.as_of), micros(now)
        changed: list[tuple[CourseUpdate | GoneCourse, tuple[tuple[str, ...], ...], str | None, str | None]] = [
            *((each, (each.opened, each.closed), each.phase, each.reason) for each in one.courses),
            *((each, ((), ()), None, None) for each in one.gone),
        ]
        rows += [
            (
                each.course_id,
                counters[each.course_id],
                each.revision,
                isinstance(each, GoneCourse),
                as_of,
                recorded_at,
                orjson.dumps(each.cause).decode(),
                orjson.dumps(findings).decode(),
                phase,
                reason,
            )
            for each, findings, phase, reason in changed
            if each.course_id in counters
        ]
    if rows:
        await statements.append_history.rows(connection, statements.history.bind(rows))


async def _retire(connection: AsyncConnection, wanted: Wanted) -> None:
    """Want the retraction of courses that are gone; where one took the place, hand its resources over."""
    gone, now = wanted.gone, wanted.at
    ids = {each.course_id for each, _ in gone} | {each.superseded_by for each, _ in gone if each.superseded_by}
    names = [destination.name for destination in wanted.destinations]
    rows = await delivery_rows.read(connection, product(ids, names))
    changed: dict[tuple[str, str], DeliveryRow] = {}
    in_order = sorted(gone, key=lambda one: one[0].course_id)
    for (each, counter), destination in product(in_order, wanted.destinations):
        old = rows.get((each.course_id, destination.name))
        if old is None:
            continue
        place = (each.superseded_by or "", destination.name)
        new = changed.get(place) or rows.get(place)
        if destination.takes_over and new is not None and delivery_rows.can_hand_over(old, new):
            old, new = delivery_rows.handed_over(old, new, each.revision, counter, now)
            changed[new.key] = new
        else:
            old = delivery_rows.retracted(old, each.revision, counter, now)
        changed[old.key] = old
    await delivery_rows.save(connection, changed.values())


class _Statements:
    """The statements of one dialect."""

    def __init__(self, dialect: str) -> None:
        self.projected = Incoming(dialect, *_PROJECTED)
        names = [each.name for each in _PROJECTED]
        storing = insert(dialect, course).from_select(
            [*names, "counter", "gone"], select(self.projected.rows, literal(1), false()).where(true())
        )
        new = storing.excluded
        self.store_courses = Compiled(
            storing.on_conflict_do_update(
                index_elements=[course.c.course_id],
                set_={
                    # Not the key: to set it locks the row against those who refer to it, and an acknowledgement that
                    # does and the wish for a revision then wait for each other.
                    **{name: new[name] for name in names if name != course.c.course_id.name},
                    "counter": course.c.counter + 1,
                    "gone": false(),
                    "superseded_by": None,
                },
                where=or_(course.c.revision != new.revision, course.c.gone),
            ).returning(course.c.course_id, course.c.counter)
        )

        self.gone = Incoming(dialect, *_GONE)
        rows = self.gone.rows
        self.store_gone = Compiled(
            update(course)
            .where(course.c.course_id == rows.c.course_id, ~course.c.gone)
            .values(
                revision=rows.c.revision,
                superseded_by=rows.c.superseded_by,
                gone=true(),
                counter=course.c.counter + 1,
            )
            .returning(course.c.course_id, course.c.counter)
        )

        self.history = Incoming(dialect, *history.c)
        self.append_history = Compiled(
            insert(dialect, history).from_select([each.name for each in history.c], select(self.history.rows))
        )

        self.wanted = Incoming(dialect, *_WANTED)
        self.want = Compiled(wanting(dialect, self.wanted.rows))

        self.patients = Incoming(dialect, *_PROJECTED_PATIENT)
        rows = self.patients.rows
        self.update_patients = Compiled(
            update(patient)
            .where(patient.c.source == rows.c.source, patient.c.patient_id == rows.c.patient_id)
            .values(
                next_due=rows.c.next_due,
                projected_as_of=rows.c.projected_as_of,
                mappings=rows.c.mappings,
                version=patient.c.version + 1,
            )
        )


_statements = cache(_Statements)


def wanting(dialect: str, rows: FromClause) -> ReturningInsert[Any]:
    """Return the statement that makes revisions wanted, from rows of the first columns of `delivery`.

    Each is due at once, or when a running backoff is over. A delivery that a person was to look at is
    tried again: a newer plan may be one that the destination takes.
    """
    inserting = insert(dialect, delivery).from_select(
        [*(each.name for each in _WANTED), "behind_since", "next_attempt", "attempts"],
        select(rows, rows.c.wanted_at, rows.c.wanted_at, literal(0)).where(true()),
    )
    new = inserting.excluded
    idle = delivery.c.next_attempt.is_(None)
    return inserting.on_conflict_do_update(
        index_elements=[delivery.c.course_id, delivery.c.destination],
        set_={
            "wanted": new.wanted,
            "wanted_counter": new.wanted_counter,
            "wanted_at": new.wanted_at,
            "behind_since": func.coalesce(delivery.c.behind_since, new.behind_since),
            "next_attempt": func.coalesce(delivery.c.next_attempt, new.next_attempt),
            # 1 where an attempt may have written something: else nobody would take that back.
            "attempts": case((idle & (delivery.c.attempts > 0), 1), else_=delivery.c.attempts),
            "outcome": case((idle, None), else_=delivery.c.outcome),
            "handed_to": None,
        },
    ).returning(delivery.c.course_id)
