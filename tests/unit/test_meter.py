"""The conformance meter: a small share of the time, fairly among sources, and paths alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from msgspec.structs import replace

from service.inbound.records import Limits, Record, SourceContext
from service.meter import MOST_BYTES, MOST_RESOURCES, SHARE, Meter
from service.tally import Tally

ENCOUNTER = {"resourceType": "Encounter", "id": "e-1", "status": "finished", "class": {"code": "AMB"}}
ODD = ENCOUNTER | {"id": "e_1", "Jane Roe": 1}
COST_S = 0.5


class Clock:
    """A clock that goes on by `COST_S` whenever it is read."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        """Return the time."""
        self.at += COST_S
        return self.at


def record(value: Any, topic: str = "a") -> Record:  # noqa: ANN401 - any JSON
    """Return a record that holds this."""
    return Record(topic, 0, 0, datetime(2026, 3, 2, tzinfo=UTC), None, orjson.dumps(value))


def meter(clock: Clock, *, version: str = "R4") -> Meter:
    """Return a meter of two sources, each with a topic of its name."""
    sources = {name: SourceContext(name, ZoneInfo("UTC"), fhir_version=version) for name in ("a", "b")}
    return Meter(sources, Limits(), clock)


def test_deviations_are_counted_by_path_and_resources_by_what_they_are() -> None:
    """Never a value, and no name that FHIR doesn't know."""
    clock, tally = Clock(), Tally()
    made = meter(clock)
    made.sample([record(ODD)], tally)
    clock.at += 10_000
    made.sample([record(ENCOUNTER)], tally)

    assert {("a", "Encounter", "deviating"): 1, ("a", "Encounter", "conformant"): 1} == tally.counts
    assert {("a", "Encounter.?"): 1, ("a", "Encounter.id"): 1} == tally.deviations


def test_resources_are_held_against_the_version_of_their_source() -> None:
    """An R4 Encounter is none of R5's."""
    tally = Tally()
    meter(Clock(), version="R5").sample([record(ENCOUNTER)], tally)

    assert ("a", "Encounter.class") in tally.deviations


def test_samples_take_their_share_of_the_time_and_no_more() -> None:
    """After each one the source rests until the share is kept."""
    clock, tally, rounds = Clock(), Tally(), 4000
    made = meter(clock)
    for _ in range(rounds):
        made.sample([record(ENCOUNTER)], tally)

    spent = tally.counts.total() * COST_S
    assert 0 < spent <= SHARE * clock.at


def test_every_source_is_sampled_however_quiet() -> None:
    """One record among many of another's."""
    tally = Tally()
    meter(Clock()).sample([*(record(ENCOUNTER) for _ in range(50)), record(ENCOUNTER, "b")], tally)

    assert {("a", "Encounter", "conformant"): 1, ("b", "Encounter", "conformant"): 1} == tally.counts


def test_what_is_large_or_not_read_or_not_json_is_passed_over() -> None:
    """And of a Bundle a few entries are enough."""
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": ENCOUNTER}] * 50}
    large = record(ENCOUNTER | {"text": "x" * MOST_BYTES})
    broken = replace(record(ENCOUNTER), value=b"{")
    tally = Tally()
    meter(Clock()).sample([large, broken, record({"resourceType": "Observation"})], tally)
    assert not tally

    meter(Clock()).sample([record(bundle)], tally)
    assert MOST_RESOURCES == tally.counts["a", "Encounter", "conformant"]
