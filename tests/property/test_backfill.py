"""History that is loaded and the stream give the same facts, whichever is read first, and however they overlap."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.backfill.lines import Lines
from service.backfill.pages import page_of, records_of, resources, versions_of
from service.backfill.portions import UNKNOWN_TIME, record_of
from service.inbound.reading import read_record
from service.inbound.records import Limits
from service.inbound.relevance import Relevance
from tests.property.strategies import arrivals, batches, patients
from tests.synthetic import SOURCE, merged, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.domain.facts import Fact, FactKey
    from service.domain.mappings import Mappings
    from service.inbound.records import Record
    from service.sandbox.events import Event, Resource
    from service.sandbox.patients import SyntheticPatient

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MOST = 1_000_000


@pytest.fixture(scope="module")
def relevance(mappings: Mappings) -> Relevance:
    """What is ours under the standard mappings."""
    return Relevance.of(mappings)


def held(events: Iterable[Event]) -> list[Resource]:
    """Return what an EHR holds after these events: the newest version of what is not deleted."""
    newest = {event.key: event.resource for event in events}
    return [resource for resource in newest.values() if resource is not None]


def as_lines(resources: Sequence[Resource], packed: bool) -> list[Record]:  # noqa: FBT001 - drawn
    """Return the records of an export's file."""
    content = b"\n".join(orjson.dumps(each) for each in resources)
    lines = Lines(0, MOST)
    chunk = gzip.compress(content) if packed else content
    found = [*lines.feed(chunk), *lines.finish()]
    return [record_of(SOURCE.id, line.text, UNKNOWN_TIME) for line in found if line.text]


def as_pages(found: Sequence[Resource], size: int) -> list[Record]:
    """Return the records of a search's pages."""
    bodies = [
        {"resourceType": "Bundle", "entry": [{"resource": each} for each in found[start : start + size]]}
        for start in range(0, len(found), size)
    ]
    pages = [resources(page_of(orjson.dumps(body))) for body in bodies]
    return [record for page in pages for record in records_of(page, SOURCE.id, UNKNOWN_TIME)]


def as_history(events: Sequence[Event], size: int) -> list[dict[str, object]]:
    """Return the pages of all that happened, the newest first, as a server keeps it: with every third thing deleted.

    Each of those is written again: in the end there is what there was.
    """
    entries: list[dict[str, object]] = []
    for number, event in enumerate(events):
        entry: dict[str, object] = {"request": {"method": "DELETE", "url": event.key}}
        if event.broken is not None:
            continue
        if event.resource is not None:
            entry = {"resource": event.resource, "request": {"method": "PUT", "url": event.key}}
            if number % 3 == 0:
                version = int(event.resource["meta"]["versionId"]) - 1
                entries.append({"request": {"method": "DELETE", "url": f"{event.key}/_history/{version}"}})
        entries.append(entry)
    entries.reverse()
    return [
        {"resourceType": "Bundle", "type": "history", "entry": entries[start : start + size]}
        for start in range(0, len(entries), size)
    ]


def facts(records: Iterable[Record], relevance: Relevance) -> list[Fact]:
    """Return the facts of records."""
    return [fact for record in records for fact in read_record(record, SOURCE, relevance, Limits()).facts]


def streamed(events: Iterable[Event], mappings: Mappings) -> list[Fact]:
    """Return the facts of events."""
    return [fact for event in events for fact in read(event, mappings).facts]


def live(found: Iterable[Fact]) -> dict[FactKey, Fact]:
    """Return the newest facts that are no markers, order and digest included."""
    return {fact.key: fact for fact in merged(found) if fact.reading is not None}


@QUICK
@given(patient=patients(), packed=st.booleans(), size=st.integers(1, 40))
def test_files_and_pages_give_the_facts_that_the_stream_gives(
    mappings: Mappings, relevance: Relevance, patient: SyntheticPatient, *, packed: bool, size: int
) -> None:
    """Order and digest of each fact are the same: nothing replaces anything when both are read."""
    expected = live(streamed(patient.events, mappings))
    left = held(patient.events)
    assert expected == live(facts(as_lines(left, packed), relevance))
    assert expected == live(facts(as_pages(left, size), relevance))


@QUICK
@given(patient=patients(), size=st.integers(1, 40))
def test_every_version_of_a_server_gives_the_facts_that_the_stream_gives(
    mappings: Mappings, relevance: Relevance, patient: SyntheticPatient, size: int
) -> None:
    """Its deletes too, which say nothing of their age, and on whatever page they stand."""
    found: list[Fact] = []
    above = max(event.time for event in patient.events)
    for page in as_history(patient.events, size):
        records, above = versions_of(page_of(orjson.dumps(page)), SOURCE, above)
        found += facts(records, relevance)
    assert live(streamed(patient.events, mappings)) == live(found)


@QUICK
@given(data=st.data(), patient=patients(), size=st.integers(1, 40))
def test_history_may_be_loaded_before_within_or_after_the_stream(
    mappings: Mappings, relevance: Relevance, data: st.DataObject, patient: SyntheticPatient, size: int
) -> None:
    """As the EHR held it at any moment, between any batches of the stream's events in any order."""
    expected = live(streamed(patient.events, mappings))
    until = data.draw(st.integers(0, len(patient.events)), label="loaded after so many events")
    loaded = facts(as_pages(held(patient.events[:until]), size), relevance)
    arrived = data.draw(batches(data.draw(arrivals(patient.events), label="arrived")), label="batches")
    place = data.draw(st.integers(0, len(arrived)), label="loaded before this batch")
    parts = [streamed(batch, mappings) for batch in arrived]
    parts.insert(place, loaded)
    assert expected == live(fact for part in parts for fact in part)
