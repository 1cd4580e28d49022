"""The intake on both databases: what several workers store is what all facts say."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from service.domain.course import FindingState
from service.domain.state import load
from service.sandbox.disorder import shuffle
from service.sandbox.encounters import OFFICE_VISIT
from service.sandbox.events import Event, instant
from service.sandbox.patients import generate, stream
from service.sandbox.stories import Archetype
from service.store import Store, StoreError
from service.store.dialects import create_engine
from tests.property.strategies import START
from tests.synthetic import SOURCE, read
from tests.workers import END, PLANS, Clock, expected, projected, recorded, stored, weekly, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path
    from typing import Any

    from service.domain.mappings import Mappings
    from tests.workers import Worker

PATIENTS = generate(7, 6, START)
ANNA, BEN = PATIENTS[0], PATIENTS[1]
SELF_HARM = next(patient for patient in PATIENTS if patient.story.archetype is Archetype.SELF_HARM)
OF_ANNA, OF_BEN = list(ANNA.events), list(BEN.events)
DAY = timedelta(days=1)


def a_session(events: Sequence[Event], mappings: Mappings) -> Event:
    """Return the newest version of a session that was held, one of the last."""
    newest = {event.key: event for event in events}
    return [
        event
        for event in newest.values()
        if event.kind == "Encounter"
        and event.resource is not None
        and event.resource["status"] == "finished"
        and read(event, mappings).facts
    ][-2]


def rewritten(event: Event, **elements: Any) -> Event:  # noqa: ANN401 - any element of a resource
    """Return the next version of an event's resource, written a day later."""
    at = event.time + DAY
    meta = {"versionId": "99", "lastUpdated": instant(at)}
    return Event(event.kind, event.key, (event.resource or {}) | {"meta": meta} | elements, at)


def deleted(event: Event) -> Event:
    """Return the tombstone of an event's resource, written two days later."""
    return Event(event.kind, event.key, None, event.time + 2 * DAY)


async def execute(url: str, statement: str) -> None:
    """Change the database as somebody else does."""
    engine = create_engine(url, 1)
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@contextlib.asynccontextmanager
async def without_history(url: str) -> AsyncIterator[None]:
    """Let every transaction that would change a course fail in its middle while the block lasts."""
    await execute(url, "ALTER TABLE history RENAME TO elsewhere")
    yield
    await execute(url, "ALTER TABLE elsewhere RENAME TO history")


async def test_workers_that_take_turns_store_what_all_facts_say(one: Worker, two: Worker, mappings: Mappings) -> None:
    """After every batch each course is what an independent projection of all facts gives."""
    events = shuffle(stream(PATIENTS), 7)
    for place, start in enumerate(range(0, len(events), 30)):
        await (one, two)[place % 2].take(events[start : start + 30])
        seen = events[: start + 30]
        assert {each.patient_id: expected(each.patient_id, seen, mappings) for each in PATIENTS} == {
            each.patient_id: await stored(one.store, each.patient_id) for each in PATIENTS
        }


async def test_worker_alone_stores_what_all_facts_say(one: Worker, mappings: Mappings) -> None:
    """What it remembers from batch to batch is what it would read."""
    for start in range(0, len(OF_ANNA), 5):
        await one.take(OF_ANNA[start : start + 5])
        seen = OF_ANNA[: start + 5]
        assert expected(ANNA.patient_id, seen, mappings) == await stored(one.store, ANNA.patient_id)


async def test_courses_that_change_are_counted(one: Worker) -> None:
    """Each time one gets another revision; what changes nothing is not counted."""
    await one.take(OF_ANNA)
    first = one.counted("courses_changed", source=SOURCE.id)
    await one.take(OF_ANNA)
    again = one.counted("courses_changed", source=SOURCE.id)
    await one.take([deleted(event) for event in OF_ANNA])
    assert (1, 1, 2) == (first, again, one.counted("courses_changed", source=SOURCE.id))


async def test_fact_that_another_worker_deleted_does_not_come_back(
    one: Worker, two: Worker, mappings: Mappings
) -> None:
    """What a worker remembers of a patient ends when another one changes the patient."""
    gone = deleted(a_session(OF_ANNA, mappings))
    await one.take(OF_ANNA[:-1])
    await two.take([gone])
    await one.take(OF_ANNA[-1:])
    await one.take([rewritten(a_session(OF_ANNA[:20], mappings), status="cancelled")])
    everything = [*OF_ANNA, gone, rewritten(a_session(OF_ANNA[:20], mappings), status="cancelled")]
    assert expected(ANNA.patient_id, everything, mappings) == await stored(one.store, ANNA.patient_id)


async def test_fact_that_moves_to_another_patient_leaves_the_first(
    one: Worker, two: Worker, mappings: Mappings
) -> None:
    """Both patients' courses are projected again, whoever remembers them, there and back."""
    moved = rewritten(a_session(OF_ANNA, mappings), subject={"reference": f"Patient/{BEN.patient_id}"})
    back = rewritten(moved, subject={"reference": f"Patient/{ANNA.patient_id}"})
    everything = [*OF_ANNA, *OF_BEN]
    await one.take(everything)
    for taker, batch in ((two, [moved]), (one, [OF_ANNA[0], OF_BEN[-1]]), (one, [back]), (two, [deleted(back)])):
        await taker.take(batch)
        everything += batch
        for patient in (ANNA.patient_id, BEN.patient_id):
            assert expected(patient, everything, mappings) == await stored(one.store, patient)


async def test_version_that_is_no_longer_ours_takes_the_fact_away(one: Worker, two: Worker, mappings: Mappings) -> None:
    """A session that was coded anew as an office visit counts no more, whichever worker reads it."""
    first = rewritten(a_session(OF_ANNA, mappings), type=[{"coding": [OFFICE_VISIT]}])
    second = rewritten(a_session(OF_ANNA[:20], mappings), type=[{"coding": [OFFICE_VISIT]}])
    await one.take(OF_ANNA)
    before = await stored(one.store, ANNA.patient_id)
    await one.take([first])
    await two.take([second])
    await one.take([deleted(OF_ANNA[-1])])
    everything = [*OF_ANNA, first, second, deleted(OF_ANNA[-1])]
    assert expected(ANNA.patient_id, everything, mappings) == await stored(one.store, ANNA.patient_id)
    assert before != await stored(one.store, ANNA.patient_id)


async def test_sweep_of_another_worker_comes_between(
    one: Worker, two: Worker, clock: Clock, mappings: Mappings
) -> None:
    """Courses that time alone has changed are where the next batch goes on."""
    half = len(OF_ANNA) // 2
    clock.at = OF_ANNA[half].time
    await one.take(OF_ANNA[:half])
    clock.at += timedelta(weeks=10)
    assert 1 == await two.intake.sweep()
    assert expected(ANNA.patient_id, OF_ANNA[:half], mappings, as_of=clock.at) == await stored(
        one.store, ANNA.patient_id
    )
    await one.take(OF_ANNA[half:])
    assert expected(ANNA.patient_id, OF_ANNA, mappings, as_of=clock.at) == await stored(one.store, ANNA.patient_id)


async def test_failed_transaction_leaves_nothing_stored_and_nothing_remembered(
    one: Worker, url: str, mappings: Mappings
) -> None:
    """The batch after it knows nothing of it, and the failed one can be processed again."""
    await one.take(OF_ANNA[:20])
    async with without_history(url):
        with pytest.raises(StoreError):
            await one.take(OF_ANNA[20:30])
    assert expected(ANNA.patient_id, OF_ANNA[:20], mappings) == await stored(one.store, ANNA.patient_id)
    await one.take(OF_ANNA[30:])
    without = [*OF_ANNA[:20], *OF_ANNA[30:]]
    assert expected(ANNA.patient_id, without, mappings) == await stored(one.store, ANNA.patient_id)
    await one.take(OF_ANNA[20:30])
    assert expected(ANNA.patient_id, OF_ANNA, mappings) == await stored(one.store, ANNA.patient_id)


async def test_fact_of_a_failed_transaction_counts_once(one: Worker, url: str) -> None:
    """A batch that is tried again is no more facts than one that went well at once."""
    async with without_history(url):
        with pytest.raises(StoreError):
            await one.take(weekly(1, 12))
    await one.take(weekly(1, 12))
    assert 12 == one.counted("facts", source="main", effect="merged")


async def test_batch_is_projected_as_of_when_the_database_was_its_own(
    tmp_path: Path, mappings: Mappings, clock: Clock
) -> None:
    """Not as of when it began to wait for another's transaction: an older projection would follow a newer one."""
    async with await Store.open(f"sqlite:///{tmp_path}/store.sqlite") as store:
        await store.migrate()
        taking = worker(store, mappings, clock)
        async with store.transaction():
            waiting = asyncio.create_task(taking.take(weekly(1, 4)))
            await asyncio.sleep(0.2)
            clock.at += timedelta(hours=1)
        await waiting
        assert clock.at == (await recorded(store, "b1")).projected_as_of


async def test_batch_that_says_nothing_new_changes_no_course(one: Worker, two: Worker) -> None:
    """The same events again, with either worker, are no revision."""
    assert await one.take(OF_ANNA)
    assert [False, False] == [await one.take(OF_ANNA), await two.take(OF_ANNA)]
    counters = [each.counter for each in (await recorded(one.store, ANNA.patient_id)).courses]
    assert [1] * len(counters) == counters


async def test_every_course_of_a_large_batch_is_wanted_and_remembered(
    store: Store, mappings: Mappings, clock: Clock
) -> None:
    """With more patients than are projected at once each plan is wanted once, and the next batch goes on from there."""
    taker = worker(store, mappings, clock, to=[PLANS])
    charts = [weekly(number, 6) for number in range(300)]
    for first, last in ((0, 3), (3, 6)):
        await taker.take([event for chart in charts for event in chart[first:last]])
        assert 300 == sum((await store.operators.counts()).courses.values())
        assert 300 == (await store.deliveries.pending(PLANS.name)).count
    for number in (0, 150, 299):
        assert expected(f"b{number}", charts[number], mappings) == await stored(store, f"b{number}")
        (course,) = (await recorded(store, f"b{number}")).courses
        (delivery,) = await store.operators.deliveries(course.course_id)
        assert (course.revision, course.counter) == (delivery.wanted, delivery.wanted_counter)


async def test_a_task_that_a_clinician_completes_answers_its_finding(one: Worker, mappings: Mappings) -> None:
    """It comes in a topic like any other event, and is stored; when it is taken back, the finding is open again."""
    chart = list(SELF_HARM.events)
    await one.take(chart)
    (course,) = projected(SELF_HARM.patient_id, chart, mappings).courses
    finding = course.findings[0]
    done = Event("Encounter", "Task/t-1", _task(f"{course.id}/task/{finding.id}", "completed", 1), END - DAY)
    back = Event("Encounter", "Task/t-1", _task(f"{course.id}/task/{finding.id}", "in-progress", 2), END)
    for event, state in ((done, FindingState.ANSWERED), (back, FindingState.OPEN)):
        await one.take([event])
        chart.append(event)
        assert expected(SELF_HARM.patient_id, chart, mappings) == await stored(one.store, SELF_HARM.patient_id)
        (told,) = (await stored(one.store, SELF_HARM.patient_id)).values()
        assert ("safety.self-harm-item", state) == (finding.rule, load(told).findings[0].state)


def _task(identifier: str, status: str, version: int) -> dict[str, Any]:
    return {
        "resourceType": "Task",
        "id": "t-1",
        "meta": {"versionId": str(version), "lastUpdated": instant(END - DAY)},
        "identifier": [{"system": "https://ipt-bridge.org/fhir/course", "value": identifier}],
        "status": status,
        "intent": "proposal",
        "for": {"reference": f"Patient/{SELF_HARM.patient_id}"},
        "lastModified": instant(END - DAY),
    }
