"""A clinic's source and a way to read one record of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import orjson
import pytest

from service.inbound.reading import RecordReading, read_record
from service.inbound.records import Limits, Record, SourceContext
from service.inbound.relevance import Relevance

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.domain.mappings import Mappings

RECEIVED = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def relevance(mappings: Mappings) -> Relevance:
    """Return what the standard mappings make relevant."""
    return Relevance.of(mappings)


@pytest.fixture(scope="session")
def source() -> SourceContext:
    """Return a clinic in New York, one of whose topics is keyed by bare Encounter ids."""
    return SourceContext("clinic", ZoneInfo("America/New_York"), key_types={"fhir.encounter": "Encounter"})


@pytest.fixture
def read_value(relevance: Relevance, source: SourceContext) -> Callable[..., RecordReading]:
    """Return a function that reads one record with this value: bytes, None, or what is to be JSON."""

    def read(
        value: object,
        *,
        key: bytes | None = None,
        topic: str = "fhir",
        limits: Limits | None = None,
        timestamp: datetime = RECEIVED,
    ) -> RecordReading:
        written = value if isinstance(value, bytes | None) else orjson.dumps(value)
        record = Record(topic, 0, 0, timestamp, key, written)
        return read_record(record, source, relevance, limits or Limits())

    return read
