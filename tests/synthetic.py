"""Synthetic events as the service reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service.domain.facts import Fact, FactKey, merge
from service.inbound.reading import RecordReading, read_record
from service.inbound.records import Limits, Record, SourceContext
from service.inbound.relevance import Relevance
from service.sandbox.events import CLINIC, Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.domain.mappings import Mappings
    from service.sandbox.events import Resource

SOURCE = SourceContext("main", CLINIC)


def record(event: Event, offset: int = 0) -> Record:
    """Return the Kafka message that an event is sent as."""
    return Record(event.kind, 0, offset, event.time, event.key.encode(), event.value)


def read(event: Event, mappings: Mappings) -> RecordReading:
    """Return what the service reads in an event."""
    return read_record(record(event), SOURCE, Relevance.of(mappings), Limits())


def facts_in(resource: Resource, mappings: Mappings) -> list[Fact]:
    """Return the facts of a record that holds this resource."""
    value = json.dumps(resource).encode()
    one = Record(resource["resourceType"], 0, 0, datetime(2026, 1, 1, tzinfo=UTC), b"", value)
    return read_record(one, SOURCE, Relevance.of(mappings), Limits()).facts


def merged(facts: Iterable[Fact]) -> list[Fact]:
    """Return the newest fact of each resource."""
    newest: dict[FactKey, Fact] = {}
    for fact in facts:
        newest[fact.key] = merge(newest.get(fact.key), fact)
    return list(newest.values())


def facts_of(events: Iterable[Event], mappings: Mappings) -> list[Fact]:
    """Return the newest fact of each resource that the events tell of."""
    return merged(fact for event in events for fact in read(event, mappings).facts)
