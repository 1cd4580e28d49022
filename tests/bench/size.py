"""Row 9: the intake, and one sweep, with few and with very many courses in the store.

The same number of patients is touched at each size, half of the events for known and half for new ones,
so that only the size differs.
"""

from __future__ import annotations

import asyncio
import gc
import time
from datetime import timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import asyncpg

from service import app
from service.inbound.relevance import Relevance
from service.intake import DUE_AT_ONCE
from service.store import Store
from tests.bench import events, figures
from tests.bench.figures import Figure, memory, rate
from tests.bench.installation import install
from tests.bench.multiplied import COPIES, EACH, copied, patient_id
from tests.bench.parts import SOURCE, facts_in, plain
from tests.bench.recomputation import courses_equal
from tests.bench.worker import BenchError, reading, working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.domain.facts import Fact, FactKey
    from tests.bench.bench import Bench
    from tests.bench.events import Event
    from tests.bench.installation import Installation
    from tests.bench.multiplied import Templates

LATER = 10
"""Events of each known patient."""
NEW = 8
"""Events of each new patient."""
SAMPLE = 100
"""Patients that nothing was read of, held against their events too."""

BY_THEMSELVES = 5
"""Patients that may fall due while a sweep is measured, besides those that it is to find."""

SETTLED_S = 0.3
"""How long PostgreSQL's counters stay as they are before they are believed (seconds)."""

_READS = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'patient'"
_DUE = "UPDATE patient SET next_due = $1 WHERE source = $2 AND patient_id = ANY($3)"


async def size(bench: Bench) -> list[Figure]:
    """Row 9."""
    parts = bench.parts
    found = []
    for courses in bench.scale.sizes:
        made = await bench.templates()
        full = await bench.filled(courses)
        numbers = _known(bench, courses)
        waiting = await bench.written(f"size-{courses}", partial(_stream, bench, made, numbers))
        async with parts.database("postgresql", copy_of=full) as url:
            installation = await install(parts, waiting.topics, url)
            with working(parts, *installation.command) as worker:
                took = await reading(parts, worker, installation.group, waiting, url=installation.url)
            name = figures.size(courses)
            found += [rate(9, name, waiting.records, took), memory(name, took)]
            sample = range(0, courses, max(1, courses // SAMPLE))
            expected = _expected(bench, made, {*numbers, *sample}, waiting.facts)
            bench.courses += await courses_equal(installation.url, expected, parts.mappings, whole=False)
            found += await _sweep(bench, installation, courses)
    return found


def _known(bench: Bench, courses: int) -> Sequence[int]:
    """Return which of the patients in the store have later events, spread over all."""
    count = min(courses, max(1, bench.scale.size_events // 2 // LATER))
    step = courses // count
    return range(0, count * step, step)


def _stream(bench: Bench, made: Templates, known: Sequence[int]) -> list[Event]:
    new = bench.scale.size_events // 2 // NEW
    stream = [event for patient in range(new) for event in events.course(patient, NEW)]
    for number in known:
        old = made.of(number)
        stream += [copied(event, old, COPIES + number) for event in events.course(old, EACH + LATER)[EACH:]]
    Random("size").shuffle(stream)  # noqa: S311 - the same order in every run
    return stream


def _expected(
    bench: Bench, made: Templates, numbers: set[int], later: dict[str, dict[FactKey, Fact]]
) -> dict[str, dict[FactKey, Fact]]:
    """Return the facts of those patients that have later events, and of those of these numbers."""
    relevance = Relevance.of(bench.parts.mappings)
    expected = {patient: dict(facts) for patient, facts in later.items()}
    for number in numbers:
        old = made.of(number)
        own = expected.setdefault(patient_id(COPIES + number), {})
        for event in events.course(old, EACH):
            own |= {fact.key: fact for fact in facts_in(copied(event, old, COPIES + number), relevance)}
    return expected


async def _sweep(bench: Bench, installation: Installation, courses: int) -> list[Figure]:
    """Measure a sweep that finds a given number of patients due, the second of two; and how it looks for them."""
    settings = installation.settings
    vitals = app.vitals_of(settings)
    due = min(courses // 2, bench.scale.due)
    took = []
    async with await Store.open(installation.url) as store:
        intake = app.intake(settings, store, vitals, app.all_mappings(settings))
        for _ in range(2):
            await _let_fall_due(installation, courses, due)
            gc.collect()
            gc.freeze()
            started, cpu = time.perf_counter(), time.process_time()
            swept = await intake.sweep()
            ended, cpu_ended = time.perf_counter(), time.process_time()
            gc.unfreeze()
            # Of a million patients, one may fall due by itself meanwhile.
            if not due <= swept <= due + BY_THEMSELVES:
                raise BenchError(f"{due} patients were due, and the sweeper found {swept}.")
            took.append((ended - started, (cpu_ended - cpu) / swept))
    await _let_fall_due(installation, courses, due)
    before = await _reads(installation)
    async with await Store.open(installation.url) as store:
        await store.due_patients(app.now(), DUE_AT_ONCE)
    seconds, cpu_s_each = took[-1]
    return [
        Figure(9, figures.sweep(courses), 1000 * seconds, figures.MS, 1000 * cpu_s_each),
        Figure(9, figures.looked_at(courses), await _reads(installation) - before, figures.ROWS_READ),
    ]


async def _reads(installation: Installation) -> float:
    """Return how many rows of patients have been read so far, once all connections have told theirs."""
    connection = await asyncpg.connect(plain(installation.url))
    try:
        reads, last = -1.0, -2.0
        while reads != last:
            last, reads = reads, float(await connection.fetchval(_READS))
            await asyncio.sleep(SETTLED_S)
        return reads
    finally:
        await connection.close()


async def _let_fall_due(installation: Installation, courses: int, due: int) -> None:
    """Let so many patients fall due, spread over all."""
    at = round((app.now() - timedelta(seconds=1)).timestamp() * 1_000_000)
    ids = [patient_id(COPIES + number * (courses // due)) for number in range(due)]
    connection = await asyncpg.connect(plain(installation.url))
    try:
        await connection.execute(_DUE, at, SOURCE, ids)
    finally:
        await connection.close()
