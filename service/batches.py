"""Batches: what records and EHRs' answers hold, sorted by what is to be stored of it; and records that are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from traceback import extract_tb
from typing import TYPE_CHECKING

import structlog

from service.domain.facts import FactKey
from service.inbound.records import Reason, Record
from service.store.values import Awaited, KeptRecord, Parked
from service.tally import Tally

if TYPE_CHECKING:
    from datetime import datetime

    from service.domain.facts import Fact
    from service.inbound.changes import Change
    from service.inbound.reading import Irrelevant, RecordReading
    from service.inbound.records import SourceContext, Unreadable
    from service.store.values import ClaimedAwaited

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Batch:
    """Records, and what was read in them."""

    records: list[Record] = field(default_factory=list)
    bytes: int = 0
    """Of the records' values."""
    facts: list[Fact] = field(default_factory=list)
    not_ours: list[Irrelevant] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    awaited: list[Awaited] = field(default_factory=list)
    """What EHRs are to be asked for."""
    settled: list[ClaimedAwaited] = field(default_factory=list)
    """What they were asked for, and is dealt with by this batch."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Records by source and outcome."""
    latest: dict[str, datetime] = field(default_factory=dict)
    """Time of the last record of each source."""
    told: Tally = field(default_factory=Tally)
    """What the store is to be told of the sources."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an EHR says to what was awaited."""

    claimed: ClaimedAwaited
    change: Change | Unreadable | None
    """None: the version that was named is known."""
    version: str | None = None
    """Of the resource that was fetched; None where the same version should be fetched again."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of answers."""

    changed: bool
    """Whether any course is another than before."""
    parked: frozenset[FactKey]
    """Resources that are before a person."""


def set_aside(reading: RecordReading, record: KeptRecord, source: SourceContext, batch: Batch) -> str:
    """Add to a batch what of a record can't go on yet; return the record's outcome."""
    fetches = source.base is not None
    for entry, unreadable in reading.unreadable:
        batch.parked.append(Parked(source.id, unreadable.code, unreadable.path, record, entry))
    awaited: list[tuple[int, Change, str | None]] = [*reading.subjects]
    for entry, change in reading.fetch:
        if fetches:
            awaited.append((entry, change, None))
        else:
            batch.parked.append(Parked(source.id, Reason.REFERENCE_ONLY, change.path, record, entry))
    for entry, change, token in awaited:
        key = FactKey(source.id, change.resource_type, change.resource_id)
        time = change.last_updated or record.timestamp
        batch.awaited.append(Awaited(key, change.version_id, time, record, entry, token))
    batch.told.count_set_aside(source.id, reading, fetches=fetches)
    return "parked" if reading.unreadable or (reading.fetch and not fetches) else "awaited"


def park_answer(claimed: ClaimedAwaited, reason: str, path: str | None, batch: Batch) -> None:
    """Add to a batch that what was awaited is for a person: it waits no longer."""
    awaited = claimed.awaited
    batch.parked.append(Parked(awaited.key.source, reason, path, awaited.record, awaited.entry))
    batch.settled.append(claimed)


def log_defect(error: Exception) -> None:
    """Log where a reader fails: neither message nor traceback, for the message of an error on data may hold some."""
    place = extract_tb(error.__traceback__)[-1]
    log.error(
        "a record can't be read for a defect, and is parked; please report it",
        error=type(error).__name__,
        at=f"{place.name}:{place.lineno}",
    )


def record_of(kept: KeptRecord) -> Record:
    """Return the record that was kept, as it came."""
    return Record(kept.topic, kept.partition, kept.offset, kept.timestamp, kept.key, kept.value, kept.headers)


def kept(record: Record) -> KeptRecord:
    """Return a record as it is kept."""
    return KeptRecord(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
    )
