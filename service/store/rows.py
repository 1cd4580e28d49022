"""From rows of the tables to values."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from service.domain.facts import PatientKey
from service.store.instants import instant
from service.store.tables import course, delivery, history, parked, parked_record
from service.store.values import (
    DeliveryState,
    HistoryEntry,
    KeptRecord,
    ParkedItem,
    ParkedKind,
    ParkedState,
    StoredCourse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from service.store.values import Ledger

    _Row: TypeAlias = Row[*tuple[Any, ...]]

COURSE = (
    course.c.course_id,
    course.c.source,
    course.c.patient_id,
    course.c.anchor,
    course.c.phase,
    course.c.revision,
    course.c.counter,
    course.c.state,
    course.c.gone,
    course.c.superseded_by,
)
HISTORY = (
    history.c.counter,
    history.c.revision,
    history.c.gone,
    history.c.as_of,
    history.c.recorded_at,
    history.c.cause,
    history.c.findings,
    history.c.phase,
    history.c.reason,
)
DELIVERY = (
    delivery.c.course_id,
    delivery.c.destination,
    delivery.c.wanted,
    delivery.c.wanted_counter,
    delivery.c.wanted_at,
    delivery.c.seen,
    delivery.c.seen_counter,
    delivery.c.seen_at,
    delivery.c.behind_since,
    delivery.c.attempts,
    delivery.c.next_attempt,
    delivery.c.route,
    delivery.c.remote,
    delivery.c.outcome,
    delivery.c.handed_to,
)
PARKED = (
    parked.c.id,
    parked.c.kind,
    parked.c.source,
    parked.c.reason,
    parked.c.path,
    parked_record.c.topic,
    parked_record.c.partition,
    parked_record.c.record_offset,
    parked.c.entry,
    parked.c.course_id,
    parked.c.destination,
    parked.c.state,
    parked.c.parked_at,
    parked.c.note,
)
RECORD = (
    parked_record.c.sent_at,
    parked_record.c.key,
    parked_record.c.value,
    parked_record.c.headers,
)


def stored_course(row: Sequence[Any]) -> StoredCourse:
    """Return the course of a row of `COURSE`."""
    course_id, source, patient_id, anchor, phase, revision, counter, state, gone, superseded_by = row
    patient = PatientKey(source, patient_id)
    return StoredCourse(course_id, patient, anchor, phase, revision, counter, state.encode(), gone, superseded_by)


def history_entry(row: _Row) -> HistoryEntry:
    """Return the entry of a row of `HISTORY`."""
    counter, revision, gone, as_of, recorded_at, cause, findings, phase, reason = row
    opened, closed = orjson.loads(findings)
    return HistoryEntry(
        counter,
        revision,
        gone,
        instant(as_of),
        instant(recorded_at),
        tuple(orjson.loads(cause)),
        tuple(opened),
        tuple(closed),
        phase,
        reason,
    )


def delivery_state(row: _Row) -> DeliveryState:
    """Return the delivery of a row of `DELIVERY`."""
    return DeliveryState(
        row.course_id,
        row.destination,
        row.wanted,
        row.wanted_counter,
        instant(row.wanted_at),
        row.seen,
        row.seen_counter,
        instant(row.seen_at),
        instant(row.behind_since),
        row.attempts,
        instant(row.next_attempt),
        row.route,
        ledger(row.remote),
        row.outcome,
        row.handed_to,
    )


def parked_item(row: _Row) -> ParkedItem:
    """Return the item of a row that begins with `PARKED`."""
    return ParkedItem(
        row.id,
        ParkedKind(row.kind),
        row.source,
        row.reason,
        row.path,
        row.topic,
        row.partition,
        row.record_offset,
        row.entry,
        row.course_id,
        row.destination,
        ParkedState(row.state),
        instant(row.parked_at),
        row.note,
    )


def kept_record(row: _Row) -> KeptRecord | None:
    """Return the record of a row with `PARKED` and `RECORD`; None for a delivery, which has none."""
    if row.topic is None:
        return None
    return KeptRecord(
        row.topic,
        row.partition,
        row.record_offset,
        instant(row.sent_at),
        row.key,
        row.value,
        tuple((name, None if value is None else base64.b64decode(value)) for name, value in orjson.loads(row.headers)),
    )


def headers_text(headers: tuple[tuple[str, bytes | None], ...]) -> str:
    """Return a record's headers as JSON: pairs of name and base64 value."""
    pairs = [(name, None if value is None else base64.b64encode(value).decode()) for name, value in headers]
    return orjson.dumps(pairs).decode()


def ledger(text: str | None) -> Ledger:
    """Return a delivery's ledger; an empty one where nothing is known."""
    return {} if text is None else dict(orjson.loads(text))


def ledger_text(remote: Ledger) -> str | None:
    """Return a ledger as JSON text with its roles sorted; None for an empty one."""
    return orjson.dumps(remote, option=orjson.OPT_SORT_KEYS).decode() if remote else None
