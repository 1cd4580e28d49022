"""Merges of patients on both databases: facts move to the survivor, courses follow, and it can be taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from service.domain.facts import PatientKey
from service.domain.projection import project
from service.domain.state import dump
from service.sandbox.events import Event, instant
from service.sandbox.patients import generate
from service.store import Delivered, Destination
from tests.property.strategies import START
from tests.synthetic import SOURCE
from tests.workers import END, PLANS, Clock, expected, facts_by_patient, recorded, stored, worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.domain.mappings import Mappings
    from service.store import Ledger, Store
    from tests.workers import Courses, Worker

ANNA, BEN = generate(7, 2, START)
OF_ANNA, OF_BEN = list(ANNA.events), list(BEN.events)
EHR = Destination(PLANS.name, takes_over=True)
REMOTE = {"careplan": {"id": "cp-1", "version": "1", "hash": "h"}}


def patient(name: str, version: int, *links: tuple[str, str]) -> Event:
    """A version of a Patient, written a day after all else, with links of a type to others."""
    resource = {
        "resourceType": "Patient",
        "id": name,
        "meta": {"versionId": str(version), "lastUpdated": instant(END.replace(hour=version))},
        "link": [{"type": kind, "other": {"reference": f"Patient/{other}"}} for kind, other in links],
    }
    return Event("Patient", f"Patient/{name}", resource, END)


MERGED = patient(ANNA.patient_id, 2, ("replaced-by", BEN.patient_id))
APART = patient(ANNA.patient_id, 3)


@pytest.fixture
def one(store: Store, mappings: Mappings, clock: Clock) -> Worker:
    """A worker that delivers to an EHR."""
    return worker(store, mappings, clock, to=[EHR])


def as_one(events: Iterable[Event], mappings: Mappings) -> Courses:
    """Return the courses that Ben has with the facts of both."""
    facts = [fact for each in facts_by_patient(events, mappings).values() for fact in each]
    key = PatientKey(SOURCE.id, BEN.patient_id)
    return {each.id: dump(each) for each in project(key, facts, END, mappings).courses}


async def of_both(store: Store) -> tuple[Courses, Courses]:
    """Return what is stored for Anna, and for Ben."""
    return await stored(store, ANNA.patient_id), await stored(store, BEN.patient_id)


@pytest.mark.parametrize(
    "batches",
    [
        [[*OF_ANNA, *OF_BEN], [MERGED]],
        [[MERGED], [*OF_ANNA, *OF_BEN]],
        [OF_ANNA, [MERGED], OF_BEN],
        [[MERGED, *OF_ANNA, *OF_BEN]],
        [OF_BEN, OF_ANNA[:20], [patient(BEN.patient_id, 4, ("replaces", ANNA.patient_id))], OF_ANNA[20:]],
    ],
)
@pytest.mark.parametrize("put_off", [False, True])
async def test_facts_count_for_the_survivor_whatever_comes_first(
    batches: Sequence[Sequence[Event]], one: Worker, mappings: Mappings, *, put_off: bool
) -> None:
    """The merge or the facts, in one batch or several, projected at once or later; `verify` sees the same."""
    for batch in batches:
        await one.take(batch, put_off=put_off)
    await one.intake.catch_up()
    assert ({}, as_one([*OF_ANNA, *OF_BEN], mappings)) == await of_both(one.store)
    for each in (ANNA, BEN):
        record = await recorded(one.store, each.patient_id)
        assert not record.put_off
        key = PatientKey(SOURCE.id, each.patient_id)
        again = project(key, record.facts, END, mappings).courses
        assert {course.id: dump(course) for course in again} == await stored(one.store, each.patient_id)


@pytest.mark.parametrize(
    "batches",
    [
        [[*OF_ANNA, *OF_BEN], [MERGED], [APART]],
        [[*OF_ANNA, *OF_BEN], [APART], [MERGED]],
        [[APART], [MERGED], [*OF_ANNA, *OF_BEN]],
        [[MERGED], [*OF_ANNA, *OF_BEN], [APART]],
        [[MERGED, APART, *OF_ANNA], OF_BEN],
    ],
)
async def test_merge_is_taken_back_by_a_newer_version(
    batches: Sequence[Sequence[Event]], one: Worker, mappings: Mappings
) -> None:
    """Also where that comes before the older version that said so."""
    for batch in batches:
        await one.take(batch)
    assert apart(mappings) == await of_both(one.store)


GONE = Event("Patient", f"Patient/{ANNA.patient_id}", None, END.replace(hour=3))


@pytest.mark.parametrize(
    "batches",
    [
        [[*OF_ANNA, *OF_BEN], [MERGED], [GONE]],
        [[*OF_ANNA, *OF_BEN], [GONE], [MERGED]],
        [[GONE], [MERGED], [*OF_ANNA, *OF_BEN]],
        [[MERGED, GONE, *OF_ANNA], OF_BEN],
    ],
)
async def test_merge_stays_where_the_replaced_patient_is_deleted(
    batches: Sequence[Sequence[Event]], one: Worker, mappings: Mappings
) -> None:
    """Many systems delete who was merged into another; the sessions are the survivor's all the same."""
    for batch in batches:
        await one.take(batch)
    assert ({}, as_one([*OF_ANNA, *OF_BEN], mappings)) == await of_both(one.store)


def apart(mappings: Mappings) -> tuple[Courses, Courses]:
    """Return what each has alone, with no store between."""
    everything = [*OF_ANNA, *OF_BEN]
    return expected(ANNA.patient_id, everything, mappings), expected(BEN.patient_id, everything, mappings)


async def test_plan_in_the_ehr_goes_with_the_course_there_and_back(
    one: Worker, other: Store, mappings: Mappings, clock: Clock
) -> None:
    """The survivor's course goes on with the same CarePlan; another worker may take the merge back."""
    await one.take(OF_ANNA)
    (before,) = await deliver(one.store)
    await one.take([MERGED])
    assert {} == await held(one.store, before)
    (after,) = await deliver(one.store)
    assert (REMOTE, True) == (await held(one.store, after), before != after)

    await worker(other, mappings, clock, to=[EHR]).take([APART])
    assert ([before], REMOTE, {}) == (
        await deliver(one.store),
        await held(one.store, before),
        await held(one.store, after),
    )


async def deliver(store: Store) -> list[str]:
    """Deliver what is due to the EHR, under one id; the courses that are not retracted."""
    claimed = await store.deliveries.claim(EHR.name, END, 10, timedelta(minutes=1))
    reports = [
        Delivered(each.course_id, EHR.name, each.revision, each.counter, "create-update", REMOTE, lease=each.lease)
        for each in claimed
    ]
    await store.deliveries.acknowledge(reports, END)
    return [each.course_id for each in claimed if not each.gone]


async def held(store: Store, course: str) -> Ledger:
    """Return what the EHR has of a course."""
    (state,) = await store.operators.deliveries(course)
    return state.remote


async def test_chain_and_circle_of_merges_end(one: Worker, mappings: Mappings) -> None:
    """Through somebody in between who has no facts; a circle leaves each with their own."""
    between = [patient(ANNA.patient_id, 2, ("replaced-by", "x")), patient("x", 2, ("replaced-by", BEN.patient_id))]
    await one.take([*OF_ANNA, *OF_BEN])
    for event in between:
        await one.take([event])
    assert ({}, as_one([*OF_ANNA, *OF_BEN], mappings)) == await of_both(one.store)
    await one.take([patient(BEN.patient_id, 5, ("replaced-by", ANNA.patient_id))])
    assert apart(mappings) == await of_both(one.store)


async def test_time_goes_on_for_the_survivor(one: Worker, clock: Clock, mappings: Mappings) -> None:
    """The sweeper projects the facts of both."""
    await one.take([*OF_ANNA, *OF_BEN, MERGED])
    clock.at = END.replace(year=END.year + 1)
    await one.intake.sweep()
    facts = [fact for each in facts_by_patient([*OF_ANNA, *OF_BEN], mappings).values() for fact in each]
    courses = project(PatientKey(SOURCE.id, BEN.patient_id), facts, clock.at, mappings).courses
    assert ({}, {each.id: dump(each) for each in courses}) == await of_both(one.store)


async def test_who_asks_for_the_patient_who_was_replaced_is_shown_the_survivor_s_courses(one: Worker) -> None:
    """Somebody in the clinic still has the old number."""
    await one.take([*OF_ANNA, *OF_BEN, MERGED])
    operators = one.store.operators
    of_anna = await operators.courses_of_patient(ANNA.patient_id, SOURCE.id)
    of_ben = await operators.courses_of_patient(BEN.patient_id)
    assert of_ben == [each for each in of_anna if not each.gone]
    assert of_ben
