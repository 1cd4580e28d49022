"""Rows 1, 4, 5 and 8: the service's intake, until the course rows are committed and the offsets too; 2 and 3."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tests.bench import figures
from tests.bench.bench import CLOSE, MOSTLY_OTHERS, PREFIX, SHUFFLED
from tests.bench.figures import Figure, memory, rate
from tests.bench.installation import install
from tests.bench.parts import PARTITIONS
from tests.bench.recomputation import courses_equal
from tests.bench.worker import Usage, first_assigned, reading, until_read, working

if TYPE_CHECKING:
    from tests.bench.bench import Bench


async def intake(bench: Bench) -> list[Figure]:
    """Row 1: one process, PostgreSQL and SQLite."""
    postgresql = await _read(bench, SHUFFLED, "postgresql")
    sqlite = await _read(bench, SHUFFLED, "sqlite")
    records = (await bench.waiting(SHUFFLED)).records
    return [
        rate(1, figures.POSTGRESQL, records, postgresql),
        rate(1, figures.SQLITE, records, sqlite),
        memory(figures.POSTGRESQL, postgresql),
        memory(figures.SQLITE, sqlite),
    ]


async def floor(bench: Bench) -> list[Figure]:
    """Row 2."""
    waiting = await bench.waiting(SHUFFLED)
    group, target = bench.parts.name("group"), await bench.parts.plan_topic()
    command = ("-m", "tests.bench.floor", bench.parts.broker.bootstrap, group, target, *waiting.topics)
    with working(bench.parts, *command) as worker:
        took = await reading(bench.parts, worker, group, waiting)
    return [rate(2, figures.FLOOR, waiting.records, took)]


async def naive(bench: Bench) -> list[Figure]:
    """Row 3."""
    waiting = await bench.waiting(PREFIX)
    parts = bench.parts
    group, target = parts.name("group"), await parts.plan_topic()
    async with parts.database("postgresql") as url:
        command = ("-m", "tests.bench.naive", parts.broker.bootstrap, group, url, target, *waiting.topics)
        with working(parts, *command) as worker:
            took = await reading(parts, worker, group, waiting)
    return [rate(3, figures.NAIVE, waiting.records, took)]


async def sparse(bench: Bench) -> list[Figure]:
    """Row 4."""
    took = await _read(bench, MOSTLY_OTHERS, "postgresql")
    records = (await bench.waiting(MOSTLY_OTHERS)).records
    return [rate(4, figures.SPARSE, records, took), memory(figures.SPARSE, took)]


async def backfill(bench: Bench) -> list[Figure]:
    """Row 5."""
    took = await _read(bench, CLOSE, "postgresql")
    return [rate(5, figures.BACKFILL, (await bench.waiting(CLOSE)).records, took)]


async def processes(bench: Bench) -> list[Figure]:
    """Row 8: all records come to be seen at the same instant, when the workers have shared the partitions."""
    one, records = await _gated(bench, 1)
    two, _ = await _gated(bench, 2)
    return [rate(8, figures.ONE, records, one), rate(8, figures.TWO, records, two)]


async def _read(bench: Bench, what: str, kind: str) -> Usage:
    waiting = await bench.waiting(what)
    parts = bench.parts
    async with parts.database(kind) as url:
        installation = await install(parts, waiting.topics, url)
        with working(parts, *installation.command) as worker:
            took = await reading(parts, worker, installation.group, waiting, url=installation.url)
        bench.courses += await courses_equal(installation.url, waiting.facts, parts.mappings)
    return took


async def _gated(bench: Bench, workers: int) -> tuple[Usage, int]:
    parts = bench.parts
    async with AsyncExitStack() as stack:
        waiting, producer = await stack.enter_async_context(parts.gated("gated", bench.events(SHUFFLED)))
        url = await stack.enter_async_context(parts.database("postgresql"))
        installation = await install(parts, waiting.topics, url)
        running = [stack.enter_context(working(parts, *installation.command)) for _ in range(workers)]
        await first_assigned(running, 2 * PARTITIONS // workers)
        start = time.time(), sum(worker.cpu_s() for worker in running)
        await producer.commit_transaction()
        took = await until_read(parts, running, installation.group, waiting, start, url=installation.url)
        bench.courses += await courses_equal(installation.url, waiting.facts, parts.mappings)
    return took, waiting.records
