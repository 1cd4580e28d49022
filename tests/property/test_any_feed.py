"""The whole inbound path holds for any feed: whatever a record holds, nothing of it is lost and nothing raises.

Each specimen of each dialect, changed at any place, packed and damaged in any way.
"""

from __future__ import annotations

import base64
import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.inbound.envelopes import open_record
from service.inbound.record_files import records_in
from service.inbound.records import Limits, Reason, Record, SourceContext
from tests.property.records import read_record_of_a_clinic
from tests.property.test_any_bytes import fhir_words, json_values, put, spots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inbound.reading import RecordReading

SPECIMENS = Path(__file__).parents[1] / "specimens"
CONTENTS = [
    orjson.loads(path.read_bytes())
    for path in sorted(SPECIMENS.glob("*/*.json"))
    if not path.name.endswith((".expected.json", "discarded.json"))
]
WORDS = st.sampled_from(
    [
        *("delete", "DELETE", "DeleteResource", "event-notification", "heartbeat", "Bundle", "history", "Parameters"),
        *("operationType", "payload", "message", "attributes", "data", "changes", "changeType", "specversion", "type"),
        *("resourceFhirId", "topic", "value", "location", "request", "response", "notification-event", "Encounter/e-1"),
        *("e30=", "{}", "[]", "{", "<x/>", "\x00", "_", "4/4/4"),
    ]
)
SOURCE = SourceContext("clinic", ZoneInfo("America/New_York"), key_types={"fhir": "Encounter"})


HEADER_NAMES = st.sampled_from(
    ["ce_type", "ce_subject", "CE_specversion", "X-Medplum-Interaction", "x-medplum-deleted-resource", "Content-Type"]
)
PACKINGS: list[Any] = [
    *[bytes] * 5,
    gzip.compress,
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text + b"\n" + text,
    lambda text: b"[" + text + b"," + text + b"]",
    lambda text: orjson.dumps({"resource": base64.b64encode(text).decode()}),
    lambda text: orjson.dumps({"payload": {"operationType": "UPDATE", "payload": text.decode(errors="replace")}}),
    lambda text: text.decode(errors="replace").encode("utf-16"),
]


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Draw a record: a specimen with up to three of its values replaced, then packed or damaged."""
    content = draw(st.sampled_from(CONTENTS))
    for _ in range(draw(st.integers(0, 3))):
        content = put(content, draw(st.sampled_from(spots(content))), draw(json_values | fhir_words | WORDS))
    default = Record("fhir", 0, 0, datetime(2026, 3, 2, 12, 0, tzinfo=UTC), None, None)
    record = next(records_in(orjson.dumps(content), default, ZoneInfo("UTC")))
    value = record.value
    if value is not None:
        value = draw(st.sampled_from(PACKINGS))(value)
        if draw(st.booleans()) and draw(st.booleans()):
            place = draw(st.integers(0, len(value)))
            value = value[:place] + draw(st.binary(max_size=6)) + value[place + draw(st.integers(0, 6)) :]
    key = draw(st.none() | st.just(record.key) | st.binary(max_size=20))
    extra = draw(
        st.lists(st.tuples(HEADER_NAMES, st.none() | st.binary(max_size=20) | WORDS.map(str.encode)), max_size=2)
    )
    return replace(record, value=value, key=key, headers=(*record.headers, *extra))


def ends(reading: RecordReading) -> list[Sequence[object]]:
    """Return all that the changes of a record can end as."""
    return [reading.facts, reading.irrelevant, reading.unreadable, reading.fetch, reading.skipped]


def told(reading: RecordReading) -> tuple[object, ...]:
    """Return what can be compared of a reading."""
    parked = [(place, problem.code, problem.path) for place, problem in reading.unreadable]
    return reading.facts, reading.irrelevant, parked, reading.fetch, reading.skipped


@settings(deadline=None)
@given(records())
def test_nothing_of_any_record_is_lost(record: Record) -> None:
    """Each change ends as a fact, as not ours, or parked with a reason of ours; a record with none says why."""
    opened = open_record(record, SOURCE, Limits())
    reading = read_record_of_a_clinic(record)

    assert len(opened.changes) == sum(len(each) for each in ends(reading))
    for _, problem in reading.unreadable:
        assert isinstance(problem.reason, Reason)
        assert problem.path is None or problem.path.isascii()


@settings(deadline=None)
@given(records(), st.sampled_from([Limits(bytes=64), Limits(depth=3), Limits(items=1), Limits(entries=1)]))
def test_nothing_is_lost_at_a_limit(record: Record, limits: Limits) -> None:
    """What a limit keeps out is parked; the rest of the record is read."""
    changes = open_record(record, SOURCE, limits).changes
    reading = read_record_of_a_clinic(record, limits)

    assert len(changes) == sum(len(each) for each in ends(reading))


@settings(deadline=None)
@given(records())
def test_a_record_is_read_the_same_again(record: Record) -> None:
    """Nothing is remembered from one record to the next, nor taken from a clock."""
    assert told(read_record_of_a_clinic(record)) == told(read_record_of_a_clinic(record))
