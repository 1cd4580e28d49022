"""Patients whose projection is put off while a backlog is read, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.commands import operations
from service.domain.facts import PatientKey
from service.intake import PUT_OFF_S
from service.sandbox.patients import generate
from service.settings import Settings
from tests.property.strategies import START
from tests.workers import Clock, expected, facts_by_patient, projected, recorded, references, stored

if TYPE_CHECKING:
    from service.commands.operations import Verified
    from service.domain.mappings import Mappings
    from tests.workers import Worker

ANNA, BEN = generate(7, 2, START)
OF_ANNA, OF_BEN = list(ANNA.events), list(BEN.events)
KEY = PatientKey("main", ANNA.patient_id)
WAIT = timedelta(seconds=PUT_OFF_S)
MOMENT = timedelta(microseconds=1)


async def verified(url: str) -> Verified:
    """Return what `ipt-bridge verify` finds."""
    return await operations.verify(Settings.model_validate({"store": {"url": url}}), progress=False)


async def test_batch_that_is_put_off_stores_facts_and_no_courses(one: Worker, mappings: Mappings) -> None:
    """Nothing is lost should the worker end now."""
    assert not await one.take(OF_ANNA, put_off=True)
    record = await recorded(one.store, ANNA.patient_id)
    facts = facts_by_patient(OF_ANNA, mappings)[KEY]
    assert (references(facts), [], None) == (references(record.facts), record.courses, record.projected_as_of)


async def test_patients_put_off_are_counted(one: Worker) -> None:
    """By the worker and by the database: each patient once, whatever the number of batches."""
    await one.take(OF_ANNA[:20])
    for batch in (OF_ANNA[20:25], OF_ANNA[25:], OF_BEN):
        await one.take(batch, put_off=True)
    assert (2, 2) == (one.intake.put_off, (await one.store.operators.counts()).put_off)
    assert await one.intake.catch_up()
    assert (0, 0) == (one.intake.put_off, (await one.store.operators.counts()).put_off)


async def test_verify_reports_patients_put_off_and_does_not_call_them_different(one: Worker, url: str) -> None:
    """Their courses are those of before; only the patients that are projected are held against their facts."""
    await one.take([*OF_ANNA[:30], *OF_BEN])
    await one.take(OF_ANNA[30:], put_off=True)
    before = await verified(url)
    await one.intake.catch_up()
    after = await verified(url)
    assert ((2, 1, ()), (2, 0, ())) == (
        (before.patients, before.put_off, before.different),
        (after.patients, after.put_off, after.different),
    )


async def test_catching_up_projects_each_patient_once_with_all_facts_as_cause(one: Worker, mappings: Mappings) -> None:
    """Many events of a backlog cost one projection, and one revision that names them all."""
    for start in range(0, len(OF_ANNA), 8):
        await one.take(OF_ANNA[start : start + 8], put_off=True)
    assert 0 == one.counted("projections")
    assert await one.intake.catch_up()
    assert not await one.intake.catch_up()
    assert 1 == one.counted("projections")
    assert expected(ANNA.patient_id, OF_ANNA, mappings) == await stored(one.store, ANNA.patient_id)
    (course,) = (await recorded(one.store, ANNA.patient_id)).courses
    (revision,) = await one.store.operators.history(course.course_id)
    assert set(references(facts_by_patient(OF_ANNA, mappings)[KEY])) <= set(revision.cause)


async def test_worker_that_starts_takes_up_what_another_left(one: Worker, two: Worker, mappings: Mappings) -> None:
    """Without waiting: the other may be gone."""
    await one.take(OF_ANNA, put_off=True)
    assert 0 == await two.intake.sweep()
    assert 1 == await two.store.take_up(two.vitals.now())
    assert 1 == await two.intake.sweep()
    assert expected(ANNA.patient_id, OF_ANNA, mappings) == await stored(one.store, ANNA.patient_id)
    assert 0 == await two.store.take_up(two.vitals.now())


async def test_patient_of_a_worker_that_ended_falls_due_by_itself(
    one: Worker, two: Worker, clock: Clock, mappings: Mappings
) -> None:
    """After a while the sweeper of any worker projects it, and later batches are stored over that."""
    await one.take(OF_ANNA[:-5], put_off=True)
    clock.at += WAIT - MOMENT
    assert 0 == await two.intake.sweep()
    clock.at += MOMENT
    assert 1 == await two.intake.sweep()
    await two.take(OF_ANNA[-5:])
    assert expected(ANNA.patient_id, OF_ANNA, mappings, as_of=clock.at) == await stored(one.store, ANNA.patient_id)


async def test_patient_put_off_still_falls_due_when_time_alone_says_so(
    one: Worker, clock: Clock, mappings: Mappings
) -> None:
    """Putting off makes nobody wait longer than without it."""
    clock.at = OF_ANNA[30].time
    await one.take(OF_ANNA[:30])
    due = projected(ANNA.patient_id, OF_ANNA[:30], mappings, as_of=clock.at).next_due
    assert due is not None
    clock.at = due - WAIT / 2
    await one.take(OF_ANNA[30:40], put_off=True)
    assert ([], [KEY]) == (
        await one.store.due_patients(due - MOMENT, 10),
        await one.store.due_patients(due, 10),
    )


async def test_worker_may_sweep_what_it_has_put_off_itself(one: Worker, clock: Clock, mappings: Mappings) -> None:
    """One that fell due in a long backlog is projected with all its facts, and stays so when the worker catches up."""
    await one.take(OF_ANNA[:30])
    await one.take(OF_ANNA[30:], put_off=True)
    clock.at += WAIT
    assert 1 == await one.intake.sweep()
    assert expected(ANNA.patient_id, OF_ANNA, mappings, as_of=clock.at) == await stored(one.store, ANNA.patient_id)
    await one.intake.catch_up()
    assert expected(ANNA.patient_id, OF_ANNA, mappings, as_of=clock.at) == await stored(one.store, ANNA.patient_id)


async def test_worker_catches_up_with_what_another_has_changed_since(
    one: Worker, two: Worker, mappings: Mappings
) -> None:
    """Whoever projects last, projects all facts."""
    await one.take(OF_ANNA[:20])
    await one.take(OF_ANNA[20:30], put_off=True)
    await two.take(OF_ANNA[30:])
    await one.intake.catch_up()
    assert expected(ANNA.patient_id, OF_ANNA, mappings) == await stored(one.store, ANNA.patient_id)


async def test_two_workers_that_put_the_same_patient_off_project_it_once(
    one: Worker, two: Worker, mappings: Mappings
) -> None:
    """The first to catch up projects the facts of both."""
    await one.take(OF_ANNA[::2], put_off=True)
    await two.take(OF_ANNA[1::2], put_off=True)
    for each in (one, two):
        assert await each.intake.catch_up()
        assert expected(ANNA.patient_id, OF_ANNA, mappings) == await stored(one.store, ANNA.patient_id)
    assert (1, 0) == (one.counted("projections"), two.counted("projections"))


async def test_batch_after_patients_were_put_off_is_projected_with_them(one: Worker, mappings: Mappings) -> None:
    """A batch that is not put off projects all of a patient's facts, and catching up afterwards changes nothing."""
    await one.take(OF_ANNA[:20])
    await one.take(OF_ANNA[20:30], put_off=True)
    await one.take(OF_ANNA[30:])
    await one.intake.catch_up()
    assert expected(ANNA.patient_id, OF_ANNA, mappings) == await stored(one.store, ANNA.patient_id)
