"""What the stream missed, searched for at the EHR: the facts are those that the stream would have given."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.backfill.catching_up import CaughtUp, catch_up
from service.backfill.portions import topic_of
from service.rest.client import FhirClient
from service.sandbox.patients import generate
from tests.fhir_source import FhirSource
from tests.property.strategies import START
from tests.synthetic import SOURCE
from tests.workers import TOPICS, Clock, expected, stored, worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.backfill.portions import Position
    from service.domain.mappings import Mappings
    from service.sandbox.events import Event, Resource
    from service.store import Store

(ANNA,) = generate(7, 1, START)


def newest(events: Iterable[Event]) -> list[Resource]:
    """Return what an EHR holds after these events."""
    found = {event.key: event.resource for event in events}
    return [resource for resource in found.values() if resource is not None]


async def test_gap_is_filled_with_what_the_stream_would_have_brought(
    store: Store, mappings: Mappings, clock: Clock
) -> None:
    """Events that were missed, some of them followed by others: afterwards the courses are as if none had been."""
    one = worker(store, mappings, clock, topics=(*TOPICS, topic_of(SOURCE.id)))
    events = [event for event in ANNA.events if event.resource is not None]
    gap = slice(len(events) // 3, 2 * len(events) // 3)
    await one.take([event for place, event in enumerate(events) if place not in range(*gap.indices(len(events)))])
    assert expected(ANNA.patient_id, events, mappings) != await stored(store, ANNA.patient_id)

    positions: list[Position] = []

    async def kept(_: CaughtUp, position: Position) -> None:
        positions.append(position)

    since = events[gap.start].time + timedelta(minutes=1)
    async with FhirSource(newest(events)).answering() as ehr, FhirClient(ehr.base, timeout_s=10) as client:
        caught = await catch_up(client, one.intake, SOURCE, TOPICS, since=since, stored=kept, now=clock)
        rest = await catch_up(client, one.intake, SOURCE, TOPICS, since=since, position=positions[-1], now=clock)

    assert (True, 0, 0) == (caught.changed, caught.lacking, rest.found)
    assert 0 < caught.found < len(newest(events))
    assert expected(ANNA.patient_id, events, mappings) == await stored(store, ANNA.patient_id)
