"""Row 7: how long after an event the first plan that tells of it is on the output topic.

Events of known courses come as they do in a hospital, each independent of the others (Poisson). Measured
are the held sessions among them, which a plan names; the others are sent and not measured. An event's
time begins when it was to be sent, so that a sender that is late counts as latency.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import re
import time
from random import Random
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer

from service.store import Store
from tests.bench import events, figures
from tests.bench.drain import until_delivered
from tests.bench.events import ENCOUNTER
from tests.bench.figures import Figure
from tests.bench.installation import install
from tests.bench.parts import topic_of
from tests.bench.worker import BenchError, first_assigned, until_read, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiokafka import AIOKafkaProducer

    from tests.bench.bench import Bench
    from tests.bench.events import Event
    from tests.bench.parts import Parts

PERCENTILES = (50, 95, 99)
EACH_LATER = 8
"""Events that are sent of each patient whose course is known."""
ARRIVAL_S = 30.0
"""Longest wait for the last plan (seconds)."""
_HELD = re.compile(rb'"Encounter/([^"]+)"')

Arrivals = list[tuple[float, bytes]]
"""When a plan arrived, and the plan."""


async def latency(bench: Bench) -> list[Figure]:
    """Row 7."""
    found = []
    for kind, name in (("postgresql", "PostgreSQL"), ("sqlite", "SQLite")):
        found += await _of_store(bench, kind, name)
    return found


async def _of_store(bench: Bench, kind: str, name: str) -> list[Figure]:
    parts, scale = bench.parts, bench.scale
    counts = [round(events_s * scale.latency_s) for events_s in scale.rates]
    known, later = _events(math.ceil(sum(counts) / EACH_LATER))
    found: list[Figure] = []
    async with parts.database(kind) as url, parts.producer() as producer:
        topics = await parts.topics("latency")
        waiting = await parts.send(producer, topics, known)
        installation = await install(parts, topics, url, plans=True)
        async with await Store.open(installation.url) as store:
            with working(parts, *installation.command) as worker:
                start = await first_assigned([worker])
                await until_read(parts, [worker], installation.group, waiting, start, url=installation.url)
                for events_s, count in zip(scale.rates, counts, strict=True):
                    await until_delivered(store, worker)
                    sent, later = later[:count], later[count:]
                    cpu_s = worker.cpu_s()
                    async with _arriving(parts, str(installation.plans)) as arrivals:
                        times = await _sent(producer, topics, sent, events_s, arrivals)
                    cpu = 1000 * (worker.cpu_s() - cpu_s) / count
                    found += [
                        Figure(7, figures.latency(events_s, name, percentile), value, figures.MS, cpu)
                        for percentile, value in _percentiles(times)
                    ]
    return found


def _events(patients: int) -> tuple[list[Event], list[Event]]:
    """Return what makes the courses known, and what is sent later, in the order of no patient's chart."""
    known: list[Event] = []
    later: list[Event] = []
    for patient in range(patients):
        course = events.course(patient, 8 + EACH_LATER)
        known += course[:8]
        later += course[8:]
    Random("latency").shuffle(later)  # noqa: S311 - the same order in every run
    return known, later


async def _sent(
    producer: AIOKafkaProducer, topics: tuple[str, str], sent: Sequence[Event], events_s: int, arrivals: Arrivals
) -> list[float]:
    """Send events at a rate and return how long the plan of each measured one took (seconds)."""
    rng = Random(f"arrivals/{events_s}")  # noqa: S311 - the same gaps in every run
    due = time.perf_counter()
    began: dict[bytes, float] = {}
    for event in sent:
        due += rng.expovariate(events_s)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await producer.send(topic_of(topics, event), event.value, key=event.key.encode())
        if event.kind == ENCOUNTER:
            began[event.key.partition("/")[2].encode()] = due
    took: dict[bytes, float] = {}
    looked = 0
    deadline = time.perf_counter() + ARRIVAL_S
    while took.keys() != began.keys():
        if time.perf_counter() > deadline:
            raise BenchError(f"{len(began) - len(took)} events were in no plan.")
        await asyncio.sleep(0.1)
        for at, plan in arrivals[looked:]:
            looked += 1
            for id_ in began.keys() & set(_HELD.findall(plan)):
                took.setdefault(id_, at - began[id_])
    return list(took.values())


@contextlib.asynccontextmanager
async def _arriving(parts: Parts, topic: str) -> AsyncIterator[Arrivals]:
    """Note what arrives on a topic from now on."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=parts.broker.bootstrap, auto_offset_reset="latest")
    await consumer.start()
    await consumer.seek_to_end()
    arrivals: Arrivals = []

    async def note() -> None:
        async for record in consumer:
            arrivals.append((time.perf_counter(), record.value))

    noting = asyncio.create_task(note())
    gc.collect()
    gc.freeze()  # the data sets of other rows would be walked in the midst of it
    try:
        yield arrivals
    finally:
        gc.unfreeze()
        noting.cancel()
        await asyncio.gather(noting, return_exceptions=True)
        await consumer.stop()


def _percentiles(times: Sequence[float]) -> list[tuple[int, float]]:
    ordered = sorted(times)
    return [(each, 1000 * ordered[min(len(ordered) - 1, len(ordered) * each // 100)]) for each in PERCENTILES]
