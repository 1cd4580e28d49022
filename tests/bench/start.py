"""Row 11: from the command to the first record that is committed, and what the imports take of it.

Peak memory, which belongs to this row too, is seen where the work is done: rows 1, 4, 9 and 13.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING

from service.sandbox.process import Child
from tests.bench import events, figures
from tests.bench.figures import Figure
from tests.bench.installation import install
from tests.bench.worker import BenchError, offsets, working

if TYPE_CHECKING:
    from tests.bench.bench import Bench

LOOK_S = 0.01
LONGEST_S = 60.0


async def start(bench: Bench) -> list[Figure]:
    """Row 11: broker and database are up, and one record waits."""
    parts = bench.parts
    waiting = await parts.write("one", islice(events.course(0, 1), 1))
    async with parts.database("postgresql") as url:
        installation = await install(parts, waiting.topics, url)
        async with offsets(parts, installation.group) as look:
            began = time.perf_counter()
            with working(parts, *installation.command) as worker:
                while not await look(waiting):
                    worker.look()
                    if time.perf_counter() - began > LONGEST_S:
                        raise BenchError(f"The first record was not read: {worker.log.read_text()[-3000:]}")
                    await asyncio.sleep(LOOK_S)
                first_s = time.perf_counter() - began
    return [
        Figure(11, figures.START, first_s, figures.SECONDS),
        Figure(11, figures.IMPORT, await _import_s(bench), figures.SECONDS),
    ]


async def _import_s(bench: Bench) -> float:
    """Return how long a Python takes that imports the service and ends."""
    began = time.perf_counter()
    log = bench.parts.folder / f"{bench.parts.name('import')}.log"
    child = Child("import", [sys.executable, "-c", "import service.cli"], log=log)
    while child.running:  # noqa: ASYNC110 - a process tells nobody that it ends
        await asyncio.sleep(LOOK_S)
    took = time.perf_counter() - began
    child.kill()
    return took
