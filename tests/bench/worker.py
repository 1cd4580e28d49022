"""Processes under measurement: from the instant their group gave them partitions until all is read and committed.

Start-up is a row of its own. CPU time and memory are those of the processes; the broker's and the
database's are not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import orjson
import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.sandbox.process import Child
from service.store import Store
from tests.bench.assigned import ASSIGNED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from tests.bench.parts import Parts, Waiting

LOOK_S = 0.025
"""How often the committed offsets and the memory are looked at (seconds)."""
START_S = 60.0
DEADLINE_S = 900.0
_MB = 1024 * 1024


class BenchError(Exception):
    """A row could not be measured, or its result is wrong; the message says what was found."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What something took."""

    seconds: float
    cpu_s: float
    peak_mb: float
    """Most resident memory of one process."""


@dataclass(slots=True)
class Worker:
    """One process under measurement."""

    child: Child
    log: Path
    peak_mb: float = 0.0

    def cpu_s(self) -> float:
        """Return the CPU time that the process has taken (seconds)."""
        times = psutil.Process(self.child.pid).cpu_times()
        return times.user + times.system

    def look(self) -> None:
        """Note the memory that it has; raise BenchError if it has ended."""
        if not self.child.running:
            raise BenchError(f"A worker ended: {self.log.read_text()[-3000:]}")
        self.peak_mb = max(self.peak_mb, psutil.Process(self.child.pid).memory_info().rss / _MB)

    def assigned(self) -> tuple[int, float]:
        """Return how many partitions it was last given, and when (seconds since 1970); 0 before the first."""
        lines = [line for line in self.log.read_bytes().splitlines() if ASSIGNED.encode() in line]
        if not lines:
            return 0, 0.0
        event = orjson.loads(lines[-1])
        return event["count"], datetime.fromisoformat(event["timestamp"]).timestamp()


@contextlib.contextmanager
def working(parts: Parts, *command: str) -> Iterator[Worker]:
    """Run this Python with these arguments while the block lasts."""
    log = parts.folder / f"{parts.name('worker')}.log"
    child = Child(command[1], [sys.executable, *command], log=log)
    try:
        yield Worker(child, log)
    finally:
        child.kill()


async def reading(parts: Parts, worker: Worker, group: str, waiting: Waiting, *, url: str | None = None) -> Usage:
    """Return what a worker takes to read everything that waits; with `url`, until every patient is projected too."""
    start_s, cpu_s = await first_assigned([worker])
    return await until_read(parts, [worker], group, waiting, (start_s, cpu_s), url=url)


async def first_assigned(workers: Sequence[Worker], each: int | None = None) -> tuple[float, float]:
    """Return the instant at which each worker has its partitions (seconds since 1970), and their CPU time then.

    `each` is how many; None for any.
    """
    deadline = time.monotonic() + START_S
    while True:
        given = [worker.assigned() for worker in workers]
        if all(count == each or (count and each is None) for count, _ in given):
            return max(at for _, at in given), sum(worker.cpu_s() for worker in workers)
        if time.monotonic() > deadline:
            raise BenchError(f"A worker was given no partitions: {workers[0].log.read_text()[-3000:]}")
        for worker in workers:
            worker.look()
        await asyncio.sleep(LOOK_S / 5)


async def until_read(
    parts: Parts,
    workers: Sequence[Worker],
    group: str,
    waiting: Waiting,
    start: tuple[float, float],
    *,
    url: str | None = None,
) -> Usage:
    """Return what the workers took, since an instant with their CPU time then, until all offsets are committed.

    With the `url` of the service's database also until no patient is left whose projection was put off.
    """
    async with AsyncExitStack() as stack:
        look = await stack.enter_async_context(offsets(parts, group))
        store = await stack.enter_async_context(await Store.open(url)) if url else None
        deadline = time.monotonic() + DEADLINE_S
        while not await look(waiting) or (store and (await store.operators.counts()).put_off):
            if time.monotonic() > deadline:
                raise BenchError(f"{waiting.topics} were not read in time: {workers[0].log.read_text()[-3000:]}")
            for worker in workers:
                worker.look()
            await asyncio.sleep(LOOK_S)
        now = time.time()
    return usage(workers, start, now)


def usage(workers: Sequence[Worker], start: tuple[float, float], now: float) -> Usage:
    """Return what the workers took from an instant, with their CPU time then, until another."""
    cpu_s = sum(worker.cpu_s() for worker in workers) - start[1]
    return Usage(now - start[0], cpu_s, max(worker.peak_mb for worker in workers))


class Offsets:
    """What one group has committed."""

    def __init__(self, admin: AIOKafkaAdminClient, group: str) -> None:
        self._admin = admin
        self._group = group
        self._coordinator: int | None = None

    async def __call__(self, waiting: Waiting) -> bool:
        """Return whether the group has read everything that waits."""
        try:
            if self._coordinator is None:
                self._coordinator = await self._admin.find_coordinator(self._group)
            found = await self._admin.list_consumer_group_offsets(self._group, self._coordinator)
        except KafkaError:  # the very first group waits for Kafka's own topic of offsets
            return False
        return all(tp in found and found[tp].offset >= end for tp, end in waiting.ends.items())


@contextlib.asynccontextmanager
async def offsets(parts: Parts, group: str) -> AsyncIterator[Offsets]:
    """Give a way to ask what a group has committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=parts.broker.bootstrap)
    await admin.start()
    try:
        yield Offsets(admin, group)
    finally:
        await admin.close()
