"""The command: which rows, at which scale, and where the results go."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tests.bench import drain, intake_rows, latency, long_course, plans, size, start, verify
from tests.bench.bench import Bench
from tests.bench.machine import machine
from tests.bench.parts import parts
from tests.bench.report import Report
from tests.bench.scale import FULL, QUICK, TOY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from tests.bench.figures import Figure
    from tests.bench.scale import Scale

MISSED = 1
WIDE = 150
"""Columns of the table where no terminal says how many it has."""
ROWS: dict[int, Callable[[Bench], Awaitable[list[Figure]]]] = {
    1: intake_rows.intake,
    2: intake_rows.floor,
    3: intake_rows.naive,
    4: intake_rows.sparse,
    5: intake_rows.backfill,
    6: plans.plans,
    7: latency.latency,
    8: intake_rows.processes,
    9: size.size,
    10: long_course.long_course,
    11: start.start,
    12: verify.verify,
    13: drain.drain,
}


async def measured(scale: Scale, rows: Collection[int]) -> Report:
    """Return what these rows say, all of them once in each repetition."""
    figures: list[list[Figure]] = []
    with parts() as real:
        async with AsyncExitStack() as keep:
            bench = Bench(real, scale, keep)
            compression = await real.compress_wal()
            for repetition in range(1, scale.repetitions + 1):
                figures.append([])
                for number in sorted(rows):
                    for figure in await ROWS[number](bench):
                        figures[-1].append(figure)
                        bench.say(f"{repetition}/{scale.repetitions}  {figure.what}: {figure.value:,.1f} {figure.unit}")
            on = machine(await real.postgresql_version()) | {"wal_compression": compression}
            return Report(scale, figures, courses=bench.courses, machine=on)


def main(arguments: Sequence[str]) -> int:
    """Measure, show and write; return the exit code: 1 where a target is missed."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic of a moment ago has no leader yet
    chosen = _options().parse_args(arguments)
    rows = chosen.rows or ROWS.keys()
    scale = TOY if chosen.toy else QUICK if chosen.quick else FULL
    report = asyncio.run(measured(scale, rows))
    report.show(Console() if sys.stdout.isatty() else Console(width=WIDE))
    if chosen.json:
        chosen.json.write_bytes(report.json())
    if chosen.markdown:
        chosen.markdown.write_text(report.markdown())
    if chosen.picture:
        report.draw(chosen.picture)
    return MISSED if report.missed and scale is not TOY else 0


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="make bench ARGS=…", description="How fast it is, on real parts.")
    options.add_argument("--quick", action="store_true", help="a look in two minutes: smaller, every row once")
    options.add_argument("--toy", action="store_true", help="so small that the figures say nothing: to test the bench")
    options.add_argument("--rows", type=_rows, help="only these, as 1,2,4")
    options.add_argument("--json", type=Path, metavar="PATH", help="write every figure, and the machine, as JSON")
    options.add_argument("--markdown", type=Path, metavar="PATH", help="write the table as Markdown")
    options.add_argument("--picture", type=Path, metavar="PATH", help="write bars on a log scale as PNG")
    return options


def _rows(text: str) -> set[int]:
    rows = {int(number) for number in text.split(",")}
    if not rows <= ROWS.keys():
        raise argparse.ArgumentTypeError(f"the rows are {min(ROWS)} to {max(ROWS)}")
    return rows
