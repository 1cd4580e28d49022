"""One record of a clinic in New York, read with the standard mappings."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from service.domain.mapping_files import parse
from service.inbound.reading import RecordReading, read_record
from service.inbound.records import Limits, Record, SourceContext
from service.inbound.relevance import Relevance
from tests.conftest import MAPPINGS

_FILES = {path.relative_to(MAPPINGS).as_posix(): path.read_bytes() for path in MAPPINGS.rglob("*") if path.is_file()}
_RELEVANCE = Relevance.of(parse(_FILES))
A_CLINIC = SourceContext("clinic", ZoneInfo("America/New_York"), key_types={"fhir": "Encounter"})
_RECEIVED = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def read_record_of_a_clinic(record: Record, limits: Limits | None = None) -> RecordReading:
    """Return what a record amounts to."""
    return read_record(record, A_CLINIC, _RELEVANCE, limits or Limits())


def read(value: bytes | None, key: bytes | None = None) -> RecordReading:
    """Return what a record amounts to."""
    return read_record_of_a_clinic(Record("fhir", 0, 0, _RECEIVED, key, value))
