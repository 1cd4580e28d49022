"""Writing while the caller goes on, and two who want the same rows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from service.store import Delivered, Lease, Store, StoreError
from tests.integration.store.samples import (
    ANNA,
    BEN,
    EHR,
    LEASE,
    NOW,
    REMOTE,
    TOPIC,
    course,
    deliver,
    delivery,
    fact,
    gone,
    update,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.sandbox.postgres import Postgres
    from service.store import PatientUpdate, Transaction


IMPOSSIBLE = "\ud800"
"""Half a character: no database holds it."""


async def begin(transaction: Transaction, *updates: PatientUpdate) -> None:
    """Lock the patients, and begin to write."""
    await transaction.lock(each.patient for each in updates)
    transaction.begin_to_write(updates, [TOPIC], NOW)


async def test_what_is_asked_for_next_sees_what_was_begun(store: Store) -> None:
    """Each question waits for the writes before it, in their order."""
    async with store.transaction() as transaction:
        await transaction.lock([ANNA])
        before = await transaction.lock([ANNA])
        transaction.begin_to_write([update(course("c"))], [TOPIC], NOW)
        transaction.begin_to_write([update(course("c", "r2"), course("d"))], [TOPIC], NOW)
        found = (await transaction.courses_of([ANNA]))[ANNA]
        after = await transaction.lock([ANNA])
    assert [("c", "r2", 2), ("d", "r1", 1)] == [(each.course_id, each.revision, each.counter) for each in found]
    assert before[ANNA].version + 2 == after[ANNA].version


async def test_all_that_was_begun_is_wanted_once_in_its_last_revision(store: Store) -> None:
    """Whatever was begun, and however many times: the deliveries of a transaction are written at its end."""
    async with store.transaction() as transaction:
        await begin(transaction, update(course("c"), course("d")))
        await begin(transaction, update(course("c", "r2")), update(course("b"), patient=BEN))
    assert [("r2", 2), ("r1", 1), ("r1", 1)] == [
        (each.wanted, each.wanted_counter) for each in [await delivery(store, name, "topic") for name in "cdb"]
    ]


async def test_write_that_fails_rolls_all_back_and_leaves_nothing_running(store: Store) -> None:
    """Its error surfaces, at the end at the latest, and what was begun before and after it is gone too."""
    running = asyncio.all_tasks()

    async def fail() -> None:
        async with store.transaction() as transaction:
            await transaction.merge([fact("e")])
            await begin(transaction, update(course("c")))
            await begin(transaction, update(course(f"d{IMPOSSIBLE}")))
            transaction.begin_to_write([update(course("e"))], [TOPIC], NOW)

    with pytest.raises(StoreError):
        await fail()
    assert running == asyncio.all_tasks()
    assert ({ANNA: []}, []) == (
        await store.operators.facts_of([ANNA]),
        await store.operators.courses_of_patient("anna"),
    )
    assert ("c",) == await write(store, update(course("c")))


async def test_error_of_the_caller_waits_for_the_write_under_way(store: Store) -> None:
    """The transaction is rolled back when nothing uses it any more, and the connection serves the next one."""
    running = asyncio.all_tasks()

    async def fail() -> None:
        async with store.transaction() as transaction:
            await begin(transaction, *(update(course(f"c{number}")) for number in range(50)))
            raise ZeroDivisionError

    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await fail()
    assert running == asyncio.all_tasks()
    assert [] == await store.operators.courses_of_patient("anna")
    assert ("c",) == await write(store, update(course("c")))


async def test_worker_that_is_stopped_while_it_writes_leaves_nothing_stored(store: Store, other: Store) -> None:
    """A cancelled transaction is rolled back, and the store goes on: what it writes then, others see."""

    async def linger() -> None:
        async with store.transaction() as transaction:
            await begin(transaction, *(update(course(f"c{number}")) for number in range(50)))
            await transaction.finish()
            await asyncio.sleep(60)

    for wait in (0.0, 0.001, 0.005, 0.02, 0.1):
        task = asyncio.create_task(linger())
        await asyncio.sleep(wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [] == await store.operators.courses_of_patient("anna")
    assert ("c",) == await write(store, update(course("c")))
    assert ["c"] == [each.course_id for each in await other.operators.courses_of_patient("anna")]


@pytest.fixture
def postgresql(postgres: Postgres) -> str:
    """URL of an empty PostgreSQL database."""
    return postgres.create_database(f"locks_{time.monotonic_ns()}")


NAMES = [f"c{number:02}" for number in range(40)]
ROUNDS = 40
"""Of each in a race, at least: the two go on until both have done so many."""


async def race(writing: Callable[[int], PatientUpdate], url: str) -> tuple[int, int]:
    """Let one worker write and another acknowledge deliveries of the same courses; how many rounds each did."""
    async with await Store.open(url) as store, await Store.open(url) as other:
        await store.migrate()
        await write(store, update(*(course(name) for name in NAMES)), to=(TOPIC, EHR))
        for name in ("topic", "ehr"):
            await deliver(store, name, REMOTE)
        wrote = acknowledged = 0

        async def write_on() -> None:
            nonlocal wrote
            while min(wrote, acknowledged) < ROUNDS:
                await write(store, writing(wrote), to=(TOPIC, EHR))
                wrote += 1

        async def acknowledge_on() -> None:
            nonlocal acknowledged
            while min(wrote, acknowledged) < ROUNDS:
                for name in ("topic", "ehr"):
                    claims = {each.course_id: each for each in await other.deliveries.claim(name, NOW, 100, LEASE)}
                    taken = [
                        Delivered(each, name, "r", acknowledged, "route", REMOTE, lease=lease)
                        for each in reversed(NAMES)
                        for lease in [claims[each].lease if each in claims else Lease(NOW, NOW)]
                    ]
                    await other.deliveries.acknowledge(taken, NOW)
                acknowledged += 1

        await asyncio.gather(write_on(), acknowledge_on())
        return wrote, acknowledged


async def test_writing_courses_and_acknowledging_their_plans_never_meet_head_on(postgresql: str) -> None:
    """Whoever locks several deliveries does so in one order: no deadlock, which would fail one of the two."""

    def changed(number: int) -> PatientUpdate:
        return update(*(course(name, f"r{number}") for name in reversed(NAMES)))

    assert ROUNDS == min(await race(changed, postgresql))


async def test_courses_that_are_gone_and_acknowledged_never_meet_head_on(postgresql: str) -> None:
    """The same where some of the courses are taken over by others, and come back."""
    half = len(NAMES) // 2

    def exchanged(number: int) -> PatientUpdate:
        first, second = (NAMES[:half], NAMES[half:]) if number % 2 else (NAMES[half:], NAMES[:half])
        taken_over = tuple(gone(old, new) for old, new in zip(first, second, strict=True))
        return replace(update(*(course(name, f"r{number}") for name in second)), gone=taken_over)

    assert ROUNDS == min(await race(exchanged, postgresql))
