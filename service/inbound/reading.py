"""Reading: what one record amounts to, sorted by what becomes of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from service.domain.facts import Fact, FactKey, PatientKey
from service.domain.value import Value
from service.inbound.changes import Change, Operation
from service.inbound.conformance import conform
from service.inbound.contained import with_questionnaire
from service.inbound.envelopes import open_record
from service.inbound.order import dated, order_of
from service.inbound.readers import read
from service.inbound.records import Reason, Unreadable
from service.inbound.references import patient_id, subject_token
from service.inbound.relevance import READ_TYPES
from service.inbound.repeats import without_repeats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from service.inbound.envelopes import Notice
    from service.inbound.records import Limits, Record, SourceContext
    from service.inbound.relevance import Relevance

_KIND = b"resourceType"
_BEGINS = re.compile(rb'\{ ?"resourceType" ?: ?"([A-Z][A-Za-z]{1,63})" ?,')
_ABSENT = frozenset({Operation.DELETE, Operation.MISSING})
_OPENED = READ_TYPES | {"Bundle"}


class Irrelevant(Value, frozen=True):
    """A version that is not ours, and what says how new it is: of few that is ever asked."""

    key: FactKey
    patient: PatientKey | None
    change: Change
    """With no more of its resource than `meta`."""
    record_time: datetime


class RecordReading(Struct):
    """What one record amounts to. Places count the record's changes from 0."""

    facts: list[Fact] = field(default_factory=list)
    """In the record's order; several may be of one resource."""
    irrelevant: list[Irrelevant] = field(default_factory=list)
    """Of our resource types and not ours: one may have to take the place of an older fact."""
    unreadable: list[tuple[int, Unreadable]] = field(default_factory=list)
    """By place."""
    fetch: list[tuple[int, Change]] = field(default_factory=list)
    """By place: named without being held."""
    subjects: list[tuple[int, Change, str]] = field(default_factory=list)
    """By place: ours, with the search token of a patient who is named by identifier alone; dated by its resource."""
    skipped: list[str] = field(default_factory=list)
    """Resource types of changes that nothing is to be done about."""
    notices: tuple[Notice, ...] = ()
    """What its notifications say of their subscriptions."""


def read_record(record: Record, source: SourceContext, relevance: Relevance, limits: Limits) -> RecordReading:
    """Return what a record amounts to. Never raises for what the record holds."""
    value = record.value
    if value is not None and not record.headers and source.envelope is None:
        # Most of a hospital's stream is not ours by its first words, and costs no more than these.
        other = _other(value, limits)
        if other is not None:
            return RecordReading(skipped=[other])
    opened = open_record(record, source, limits)
    reading = RecordReading(notices=opened.notices)
    _read_changes(opened.changes, record, source, relevance, limits, reading)
    if reading.facts:
        changes = without_repeats(opened.changes, record.value, limits)
        if changes is not opened.changes:
            reading = RecordReading(notices=opened.notices)
            _read_changes(changes, record, source, relevance, limits, reading)
    return reading


def _read_changes(  # noqa: PLR0913, PLR0917 - as read_change
    changes: Sequence[Change | Unreadable],
    record: Record,
    source: SourceContext,
    relevance: Relevance,
    limits: Limits,
    reading: RecordReading,
) -> None:
    for place, change in enumerate(changes):
        if isinstance(change, Change) and change.resource_type not in READ_TYPES:
            reading.skipped.append(change.resource_type)  # most of a stream
            continue
        read_change(change, place, record.timestamp, source, relevance, limits, reading)


def _other(value: bytes, limits: Limits) -> str | None:
    """Return the type of a resource that stands alone and is none of those that are read; None where that isn't plain.

    It is plain where an object on one line begins with its `resourceType`, and the word comes once: what is
    contained, written twice, or follows on another line is for whoever opens the record.
    """
    begins = _BEGINS.match(value)
    if begins is None or (kind := begins[1].decode()) in _OPENED or not value.endswith(b"}"):
        return None
    if len(value) > limits.bytes or value.count(_KIND) != 1 or b"\n" in value:
        return None
    return kind


def read_change(  # noqa: PLR0913, PLR0917 - of one record's changes, called for each
    change: Change | Unreadable,
    place: int,
    record_time: datetime,
    source: SourceContext,
    relevance: Relevance,
    limits: Limits,
    reading: RecordReading,
) -> None:
    """Add what one change amounts to, to a record's reading. Never raises for what the change holds."""
    if isinstance(change, Unreadable):
        reading.unreadable.append((place, change))
        return
    try:
        if change.resource_type not in READ_TYPES:
            reading.skipped.append(change.resource_type)
        elif change.resource_type == "Patient" and change.operation in _ABSENT:
            # The merge stays true: systems delete the Patient whom they have merged into another.
            reading.skipped.append(change.resource_type)
        elif change.operation in _ABSENT:
            reading.facts.append(read(change, source, record_time))
        elif change.resource is None:
            _add_named(change, place, source, reading)
        elif (fact := _fact(change, source, record_time, relevance, limits)) is not None:
            reading.facts.append(fact)
        elif change.resource_id:
            reading.irrelevant.append(_irrelevant(change, record_time, source))
        else:
            reading.skipped.append(change.resource_type)
    except Unreadable as problem:
        _set_aside(change, problem, place, record_time, source, reading)


def _add_named(change: Change, place: int, source: SourceContext, reading: RecordReading) -> None:
    """Add a change that only names its resource."""
    if change.resource_type == "Patient" and source.base is None:
        reading.skipped.append(change.resource_type)  # most were never merged: nobody is to look at all of them
    elif change.resource_id:
        reading.fetch.append((place, change))
    else:
        reading.unreadable.append((place, _of(change, Unreadable(Reason.NO_ID, change.path))))


def _set_aside(  # noqa: PLR0913, PLR0917 - as `read_change`
    change: Change,
    problem: Unreadable,
    place: int,
    record_time: datetime,
    source: SourceContext,
    reading: RecordReading,
) -> None:
    """Add what can't go on as it is: its patient is searched for, or it is unreadable."""
    token = _searched(change, problem, source)
    if token is None:
        reading.unreadable.append((place, _of(change, problem)))
    else:
        reading.subjects.append((place, dated(change, record_time, source.time_zone), token))


def _fact(
    change: Change, source: SourceContext, record_time: datetime, relevance: Relevance, limits: Limits
) -> Fact | None:
    """Return the fact that a change with its resource amounts to, None if it is not ours. Raises Unreadable."""
    told = with_questionnaire(change) if change.resource_type == "QuestionnaireResponse" else change
    if not relevance.decide(told.resource or {}, limits.items, change.path):
        return None
    fact = read(told, source, record_time)
    if source.enforces:
        conform(change, source.fhir_version)
    return fact


def _of(change: Change, problem: Unreadable) -> Unreadable:
    problem.resource_type = change.resource_type
    return problem


def _searched(change: Change, problem: Unreadable, source: SourceContext) -> str | None:
    """Return the token of the patient to search for, where that can mend the problem."""
    if not source.searches_subjects or source.base is None or problem.reason is not Reason.UNRESOLVED_SUBJECT:
        return None
    return subject_token(change.resource or {})


def _irrelevant(change: Change, record_time: datetime, source: SourceContext) -> Irrelevant:
    key = FactKey(source.id, change.resource_type, change.resource_id)
    resource = change.resource or {}
    try:
        patient = PatientKey(source.id, patient_id(resource, change.local, change.path, source.base))
    except Unreadable:
        patient = None
    return Irrelevant(key, patient, replace(change, resource={"meta": resource.get("meta")}), record_time)


def marker_of(version: Irrelevant, zone: ZoneInfo) -> Fact:
    """Return the marker that takes the place of older facts of a resource that is ours no longer."""
    change, record_time = version.change, version.record_time
    try:
        order = order_of(change, record_time, zone)
    except Unreadable:
        # Nobody mends a time in a resource that is not ours: the record's own will do.
        order = order_of(replace(change, resource={}), record_time, zone)
    return Fact(version.key, order, patient_id=None, reading=None)
