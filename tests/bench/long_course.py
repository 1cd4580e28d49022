"""Row 10: what one more event costs when the patient has few and when it has very many facts.

A weekly course of that length is in the store; then come more events of it, one after the other, each a
batch and a transaction of its own. The first one of a patient after the worker has started is told apart: from the
second on, the worker may know the patient.

Run by itself it is that worker. Arguments: the configuration of an installation, its two topics, facts
that each patient has, patients.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import orjson

from service import app
from service.cli import GARBAGE
from service.configuration import load_settings
from service.store import Store
from tests.bench import events, figures
from tests.bench.figures import Figure
from tests.bench.installation import install
from tests.bench.multiplied import record
from tests.bench.parts import newest_facts
from tests.bench.recomputation import courses_equal
from tests.bench.workload import run

if TYPE_CHECKING:
    from service.intake import Intake
    from service.settings import Settings
    from tests.bench.bench import Bench
    from tests.bench.events import Event

MORE = 6
"""Events that come to each patient; all but the first count as those of a patient who is known."""
LAST = events.FIRST + 52 * events.WEEK
"""About when the last session of every course is held, however long it is."""
NOW = LAST + 4 * events.WEEK
BATCH = 500


async def long_course(bench: Bench) -> list[Figure]:
    """Row 10."""
    parts = bench.parts
    found: list[Figure] = []
    for facts in bench.scale.lengths:
        topics = await parts.topics("long")
        async with parts.database("postgresql") as url:
            installation = await install(parts, topics, url)
            patients = bench.scale.long_patients
            said = await run(parts, "long_course", installation.config, *topics, facts, patients)
            written = [event for number in range(patients) for event in _course(number, facts)]
            expected = newest_facts([*written, *_warming(patients)], parts.mappings)
            bench.courses += await courses_equal(installation.url, expected, parts.mappings)
        found += [
            Figure(10, figures.one_more(facts), 1000 * said["warm"][0], figures.MS, 1000 * said["warm"][1]),
            Figure(10, figures.one_more(facts, cold=True), 1000 * said["cold"][0], figures.MS, 1000 * said["cold"][1]),
        ]
    return found


def _course(patient: int, facts: int) -> list[Event]:
    weeks = (facts + MORE + 1) // 2
    return events.course(patient, facts + MORE, first=LAST - weeks * events.WEEK)


def _warming(patients: int) -> list[Event]:
    return events.course(patients, 2)


async def _timed(config: Path, topics: tuple[str, str], facts: int, patients: int) -> dict[str, tuple[float, float]]:
    settings = load_settings(config)
    courses = [_course(patient, facts) for patient in range(patients)]
    async with await Store.open(settings.store.sqlalchemy_url()) as store:
        loading = _intake(settings, store)
        for course in courses:
            for start in range(0, facts, BATCH):
                batch = course[start : min(facts, start + BATCH)]
                await loading.process(await loading.read([record(topics, event) for event in batch]))
        # One patient more, so that the first measured event does not compile the statements.
        worker = _intake(settings, store)
        for event in _warming(patients):
            await worker.process(await worker.read([record(topics, event)]))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        took = [[await _took(worker, topics, event) for event in course[facts : facts + MORE]] for course in courses]
    return {"cold": _median([each[:1] for each in took]), "warm": _median([each[1:] for each in took])}


def _intake(settings: Settings, store: Store) -> Intake:
    """Return an intake as a worker has it when it starts, at an instant that does not move."""
    vitals = replace(app.vitals_of(settings), now=lambda: NOW)
    return app.intake(settings, store, vitals, app.all_mappings(settings))


async def _took(worker: Intake, topics: tuple[str, str], event: Event) -> tuple[float, float]:
    one = record(topics, event)
    started, cpu = time.perf_counter(), time.process_time()
    await worker.process(await worker.read([one]))
    return time.perf_counter() - started, time.process_time() - cpu


def _median(rounds: list[list[tuple[float, float]]]) -> tuple[float, float]:
    """Return medians of wall and CPU time (seconds)."""
    times = [each for one in rounds for each in one]
    return median(wall for wall, _ in times), median(cpu for _, cpu in times)


if __name__ == "__main__":
    config, encounters, responses, facts, patients = sys.argv[1:]
    found = asyncio.run(_timed(Path(config), (encounters, responses), int(facts), int(patients)))
    sys.stdout.write(orjson.dumps(found).decode())
