"""Whatever Patients say of each other, and whenever: courses follow from the newest of it, and from all facts."""

from __future__ import annotations

import shutil
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.facts import PatientKey
from service.domain.merges import by_survivor
from service.domain.projection import project
from service.domain.state import dump
from service.sandbox.events import Event, instant
from service.sandbox.patients import generate
from service.store import Store
from tests.property.strategies import START, arrivals
from tests.property.test_workers import migrated, steps, tables, take_steps
from tests.synthetic import SOURCE
from tests.workers import END, Clock, Courses, facts_by_patient, stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from service.domain.facts import Fact
    from service.domain.mappings import Mappings

__all__ = ["tables"]  # the fixture

PATIENTS = generate(7, 2, START)
NAMES = [*(each.patient_id for each in PATIENTS), "nobody", "somebody"]
EVENTS = [event for each in PATIENTS for event in each.events]
KINDS = ("replaced-by", "replaces", "seealso")


@st.composite
def said(draw: st.DrawFn) -> list[Event]:
    """Draw versions of Patients, each with links to others or none."""
    links = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES)), max_size=2)
    versions = draw(st.lists(st.tuples(st.sampled_from(NAMES), links), max_size=6))
    return [_version(name, number, links) for number, (name, links) in enumerate(versions, 1)]


def _version(name: str, number: int, links: Sequence[tuple[str, str]]) -> Event:
    at = END + timedelta(minutes=number)
    resource = {
        "resourceType": "Patient",
        "id": name,
        "meta": {"versionId": str(number), "lastUpdated": instant(at)},
        "link": [{"type": kind, "other": {"reference": f"Patient/{other}"}} for kind, other in links],
    }
    return Event("Patient", f"Patient/{name}", resource, at)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), versions=said())
async def test_any_order_of_merges_and_facts_gives_the_same_courses(
    tables: Path,
    mappings: Mappings,
    data: st.DataObject,
    versions: list[Event],
) -> None:
    """Over two workers, with batches put off, sweeps and restarts; chains, circles and contradictions too."""
    everything = [*EVENTS, *versions]
    story = data.draw(steps(data.draw(arrivals(everything), label="arrived")), label="steps")
    clock = Clock(END - timedelta(weeks=30))
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{shutil.copy(await migrated(tables), folder)}"
        async with await Store.open(url) as store, await Store.open(url) as other:
            last = await take_steps(story, (store, other), mappings, clock)
            clock.at = END + timedelta(weeks=60)
            await last.intake.sweep()
            found = {name: await stored(store, name) for name in NAMES}
    facts: dict[PatientKey, list[Fact]] = {PatientKey(SOURCE.id, name): [] for name in NAMES} | facts_by_patient(
        everything, mappings
    )
    assert {
        key.patient_id: _courses(key, counted, clock, mappings) for key, counted in by_survivor(facts).items()
    } == found


def _courses(key: PatientKey, counted: Iterable[Fact], clock: Clock, mappings: Mappings) -> Courses:
    return {each.id: dump(each) for each in project(key, counted, clock(), mappings).courses}
