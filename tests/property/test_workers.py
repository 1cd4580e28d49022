"""However a patient's events are shared out to workers, what they store is what all facts say."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.store import Store
from tests.property.strategies import arrivals, batches, patients
from tests.workers import END, Clock, expected, recorded, stored, worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.sandbox.events import Event
    from service.sandbox.patients import SyntheticPatient
    from tests.workers import Worker

FEW = settings(
    max_examples=25,
    deadline=None,
    # Drawing a patient plays a whole course; each example has a database of its own.
    suppress_health_check=[HealthCheck.too_slow],
)
WORKERS = st.integers(0, 1)


@dataclass(frozen=True)
class Step:
    """What happens to one batch, and after it."""

    worker: int
    batch: list[Event]
    put_off: bool
    passes: timedelta
    """How much time before the batch."""
    sweeps: int | None
    """Which worker looks afterwards for patients that fell due."""
    catches_up: int | None
    """Which worker projects afterwards what it has put off."""
    restarts: int | None
    """Which worker ends afterwards, and starts again."""


@st.composite
def steps(draw: st.DrawFn, events: Sequence[Event]) -> list[Step]:
    """Draw a split of the events, who takes each batch, and what happens in between."""
    rarely = st.none() | WORKERS
    return [
        Step(
            draw(WORKERS),
            batch,
            draw(st.booleans()),
            timedelta(seconds=draw(st.sampled_from([0, 30, 60, 7 * 86_400]))),
            draw(rarely),
            draw(rarely),
            draw(rarely),
        )
        for batch in draw(batches(events))
    ]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a database file with its tables."""
    return tmp_path_factory.mktemp("tables")


async def migrated(folder: Path) -> Path:
    """Return a database file with its tables, made once."""
    file = folder / "empty.sqlite"
    if not file.exists():
        async with await Store.open(f"sqlite:///{file}") as store:
            await store.migrate()
    return file


async def take_steps(story: Sequence[Step], stores: tuple[Store, Store], mappings: Mappings, clock: Clock) -> Worker:
    """Let two workers take the steps, and both catch up; return one that has just started."""

    async def started(place: int) -> Worker:
        await stores[place].take_up(clock())
        return worker(stores[place], mappings, clock)

    workers = [await started(0), await started(1)]
    for step in story:
        clock.at += step.passes
        await workers[step.worker].take(step.batch, put_off=step.put_off)
        if step.sweeps is not None:
            await workers[step.sweeps].intake.sweep()
        if step.catches_up is not None:
            await workers[step.catches_up].intake.catch_up()
        if step.restarts is not None:
            workers[step.restarts] = await started(step.restarts)
    for each in workers:
        await each.intake.catch_up()
    return await started(0)


@FEW
@given(data=st.data(), patient=patients())
async def test_any_split_over_two_workers_gives_the_same_courses(
    tables: Path, mappings: Mappings, data: st.DataObject, patient: SyntheticPatient
) -> None:
    """With batches put off, sweeps, restarts and time between: as of the last projection, and of one day for all."""
    story = data.draw(steps(data.draw(arrivals(patient.events), label="arrived")), label="steps")
    clock = Clock(END - timedelta(weeks=30))
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{shutil.copy(await migrated(tables), folder)}"
        async with await Store.open(url) as store, await Store.open(url) as other:
            last = await take_steps(story, (store, other), mappings, clock)
            await last.intake.sweep()
            as_of = (await recorded(store, patient.patient_id)).projected_as_of or clock()
            assert expected(patient.patient_id, patient.events, mappings, as_of=as_of) == await stored(
                store, patient.patient_id
            )
            clock.at = END + timedelta(weeks=60)
            await last.intake.sweep()
            assert expected(patient.patient_id, patient.events, mappings, as_of=clock()) == await stored(
                store, patient.patient_id
            )
