"""Row 12: courses recomputed from their facts in a second, as `ipt-bridge verify` does it.

Run by itself it is that process. Argument: the configuration of an installation whose store is full.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from service.cli import GARBAGE
from service.commands import operations
from service.configuration import load_settings
from tests.bench import figures
from tests.bench.bench import SHUFFLED
from tests.bench.figures import Figure, rate
from tests.bench.installation import install
from tests.bench.worker import BenchError, Usage, reading, working
from tests.bench.workload import run

if TYPE_CHECKING:
    from tests.bench.bench import Bench


async def verify(bench: Bench) -> list[Figure]:
    """Row 12, over a store as row 1 leaves it."""
    parts = bench.parts
    waiting = await bench.waiting(SHUFFLED)
    async with parts.database("postgresql") as url:
        installation = await install(parts, waiting.topics, url)
        with working(parts, *installation.command) as worker:
            await reading(parts, worker, installation.group, waiting, url=installation.url)
        said = await run(parts, "verify", installation.config)
    if said["different"] or said["courses"] < len(waiting.facts):
        raise BenchError(f"verify has recomputed {said['courses']} courses; {said['different']} patients differ.")
    return [rate(12, figures.VERIFY, said["courses"], Usage(said["seconds"], said["cpu_s"], 0.0))]


async def _timed(config: Path) -> dict[str, float]:
    settings = load_settings(config)
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    started, cpu = time.perf_counter(), time.process_time()
    found = await operations.verify(settings, progress=False)
    return {
        "courses": found.courses,
        "different": len(found.different),
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
    }


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(asyncio.run(_timed(Path(sys.argv[1])))).decode())
