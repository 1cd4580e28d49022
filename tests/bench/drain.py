"""Row 13: from one worker with everything waiting, until the newest plan of every course is acknowledged."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.store import Store
from tests.bench import figures
from tests.bench.bench import CLOSE, SHUFFLED
from tests.bench.figures import Figure, memory, rate
from tests.bench.installation import DESTINATION, install
from tests.bench.parts import PLAN_PARTITIONS
from tests.bench.recomputation import courses_equal
from tests.bench.worker import DEADLINE_S, BenchError, Usage, first_assigned, until_read, usage, working

if TYPE_CHECKING:
    from tests.bench.bench import Bench
    from tests.bench.installation import Installation
    from tests.bench.parts import Parts, Waiting
    from tests.bench.worker import Worker

LOOK_S = 0.1
"""How often the store is asked how many plans are not acknowledged (seconds)."""
PAGE = 500


async def drain(bench: Bench) -> list[Figure]:
    """Row 13, in the shuffled and in the backfill shape."""
    found = []
    for what, name in ((SHUFFLED, figures.DRAIN), (CLOSE, figures.DRAIN_BACKFILL)):
        waiting = await bench.waiting(what)
        took = await _drained(bench, waiting)
        found += [rate(13, name, waiting.records, took), memory(name, took)]
    return found


async def _drained(bench: Bench, waiting: Waiting) -> Usage:
    parts = bench.parts
    async with parts.database("postgresql") as url:
        installation = await install(parts, waiting.topics, url, plans=True)
        async with await Store.open(installation.url) as store:
            with working(parts, *installation.command) as worker:
                start = await first_assigned([worker])
                await until_read(parts, [worker], installation.group, waiting, start, url=installation.url)
                await until_delivered(store, worker)
                took = usage([worker], start, time.time())
            await _newest_everywhere(parts, installation, store)
        bench.courses += await courses_equal(installation.url, waiting.facts, parts.mappings)
    return took


async def until_delivered(store: Store, worker: Worker) -> None:
    """Return when the destination has acknowledged the newest plan of every course."""
    deadline = time.monotonic() + DEADLINE_S
    while (await store.deliveries.pending(DESTINATION)).count:
        if time.monotonic() > deadline:
            raise BenchError(f"Not every plan was delivered in time: {worker.log.read_text()[-3000:]}")
        worker.look()
        await asyncio.sleep(LOOK_S)


async def _newest_everywhere(parts: Parts, installation: Installation, store: Store) -> None:
    """Return if the newest record of every course carries its revision; raise BenchError if not.

    A course that was gone before its first plan was sent has no record.
    """
    seen = await _revisions(parts, str(installation.plans))
    wanted: dict[str, str] = {}
    page = await store.operators.patients(None, PAGE)
    while page:
        for record in (await store.operators.facts_and_courses(page)).values():
            courses = (each for each in record.courses if not each.gone or each.course_id in seen)
            wanted |= {course.course_id: course.revision for course in courses}
        page = await store.operators.patients(page[-1], PAGE)
    if seen != wanted:
        raise BenchError("The newest record of a course on the plan topic is not its newest plan.")


async def _revisions(parts: Parts, topic: str) -> dict[str, str]:
    """Return the revision of the newest record of each course on a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=parts.broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PLAN_PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[str, str] = {}
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for record in (await consumer.getmany(partition, timeout_ms=1000)).get(partition, ()):
                    found[record.key.decode()] = dict(record.headers)["revision"].decode()
        return found
    finally:
        await consumer.stop()
