"""Merging, locking and finding facts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.domain.facts import EncounterReading, Fact, FactKey, OrderKey, PatientKey, merge
from service.store import Merged
from tests.integration.store.samples import ANNA, BEN, fact, key

if TYPE_CHECKING:
    from service.store import Store


async def keep(store: Store, *facts: Fact) -> list[Merged]:
    """Merge in a transaction of its own."""
    async with store.transaction() as transaction:
        return await transaction.merge(facts)


async def statuses(store: Store, patient: PatientKey = ANNA) -> list[str]:
    """The statuses of a patient's live facts."""
    found = (await store.operators.facts_of([patient]))[patient]
    return sorted(each.reading.status for each in found if isinstance(each.reading, EncounterReading))


async def test_newer_version_replaces_the_older_one(store: Store) -> None:
    """Of two readings of one resource the newer stays, and is reported."""
    await keep(store, fact("e", at=1))

    merged = await keep(store, fact("e", at=2))

    assert [Merged(key("e"), ANNA, None)] == merged
    assert ["status-2-1-d"] == await statuses(store)


async def test_older_version_that_comes_late_changes_nothing(store: Store) -> None:
    """An older reading is neither stored nor reported."""
    await keep(store, fact("e", at=2))

    assert [] == await keep(store, fact("e", at=1))
    assert ["status-2-1-d"] == await statuses(store)


async def test_duplicate_changes_nothing(store: Store) -> None:
    """The same reading again is not reported."""
    await keep(store, fact("e"))

    assert [] == await keep(store, fact("e"), fact("e"))


async def test_newest_of_one_batch_wins(store: Store) -> None:
    """A batch may hold one resource several times, in any order."""
    await keep(store, fact("e", at=2), fact("e", at=3), fact("e", at=1))

    assert ["status-3-1-d"] == await statuses(store)


async def test_version_decides_at_the_same_instant_and_the_digest_after_it(store: Store) -> None:
    """The order is total: instant, version, then digest."""
    await keep(store, fact("e", version=9, digest="a"))
    await keep(store, fact("e", version=10, digest="0"))
    await keep(store, fact("e", version=10, digest="b"))
    await keep(store, fact("e", version=10, digest="a"))

    assert ["status-1-10-b"] == await statuses(store)


async def test_delete_names_the_patient_that_lost_the_fact(store: Store) -> None:
    """A delete knows no patient; the store knows whose fact it was."""
    await keep(store, fact("e", at=1))

    merged = await keep(store, fact("e", None, at=2))

    assert [Merged(key("e"), None, ANNA)] == merged
    assert [] == await statuses(store)


async def test_version_older_than_a_delete_does_not_rise_again(store: Store) -> None:
    """A marker of something unknown keeps out what was before it."""
    await keep(store, fact("e", None, at=2))

    assert [] == await keep(store, fact("e", at=1))


async def test_fact_that_changes_its_patient_names_both(store: Store) -> None:
    """The one who got the fact and the one who lost it are both to be projected."""
    await keep(store, fact("e", ANNA, at=1))

    assert [Merged(key("e"), BEN, ANNA)] == await keep(store, fact("e", BEN, at=2))
    assert [] == await statuses(store, ANNA)
    assert ["status-2-1-d"] == await statuses(store, BEN)


async def test_known_tells_existing_facts_and_whose_they_are(store: Store) -> None:
    """A marker is known too, and is nobody's."""
    await keep(store, fact("e"), fact("m", None))

    async with store.transaction() as transaction:
        known = await transaction.known([key("e"), key("m"), key("unheard-of")])

    assert {key("e"): ANNA, key("m"): None} == known


async def test_whole_fact_comes_back(store: Store) -> None:
    """Nothing of a fact is lost on its way, other languages and control characters in ids included."""
    patient = PatientKey("main", "Ünïcode \x01 'x'")
    kept = fact("e\U0001f600", patient, at=1_770_000_000_123_456)

    await keep(store, kept)

    assert {patient: [kept]} == await store.operators.facts_of([patient])


async def test_patient_is_known_once_locked(store: Store) -> None:
    """Locking makes the patient's row."""
    async with store.transaction() as transaction:
        await transaction.lock([ANNA])

    async with store.transaction() as transaction:
        assert {ANNA} == await transaction.known_patients([ANNA, BEN])
    assert [ANNA] == await store.operators.patients(None, 10)


async def test_error_rolls_the_whole_batch_back(store: Store) -> None:
    """A transaction is stored altogether or not at all, and other people's errors pass through it."""

    async def fail() -> None:
        async with store.transaction() as transaction:
            await transaction.merge([fact("e")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert [] == await statuses(store)


async def test_two_workers_on_one_patient_do_not_interleave(store: Store, other: Store) -> None:
    """Whoever locks second sees all that the first has written: no update is lost."""

    async def add(worker: Store, name: str) -> int:
        async with worker.transaction() as transaction:
            await transaction.lock([ANNA])
            before = len((await transaction.facts_of([ANNA]))[ANNA])
            await asyncio.sleep(0)
            await transaction.merge([fact(name)])
        return before

    seen = await asyncio.gather(*(add(worker, f"e{n}-{id(worker)}") for n in range(5) for worker in (store, other)))

    assert list(range(10)) == sorted(seen)


ORDERS = st.builds(
    OrderKey, st.integers(0, 2), st.integers(-1, 1), st.booleans(), st.sampled_from(["", "0a", "a0", "ff"])
)


@st.composite
def readings(draw: st.DrawFn) -> Fact:
    """Draw a reading of one of two resources, of one of two patients or a marker; equal orders mean equal content."""
    order = draw(ORDERS)
    name = draw(st.sampled_from(["x", "y"]))
    whose = None if order.deleted or not order.digest else (ANNA, BEN)[(order.last_updated + order.version) % 2]
    seed = fact(name, whose)
    return Fact(seed.key, order, seed.patient_id, seed.reading)


@given(batches=st.lists(st.lists(readings(), max_size=4), max_size=5))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has a source of its own
)
async def test_any_order_of_batches_ends_as_the_pure_merge_does(store: Store, batches: list[list[Fact]]) -> None:
    """The store holds what `domain.facts.merge` makes of the same readings, and reports just what changed."""
    source = uuid4().hex
    expected: dict[FactKey, Fact] = {}
    for batch in batches:
        before = dict(expected)
        moved = [replace(each, key=each.key._replace(source=source)) for each in batch]
        for each in moved:
            expected[each.key] = merge(expected.get(each.key), each)

        merged = await keep(store, *moved)

        assert {name for name, each in expected.items() if each != before.get(name)} == {each.key for each in merged}

    async with store.transaction() as transaction:
        known = await transaction.known(expected)
    assert {name: each.patient_id for name, each in expected.items()} == {
        name: patient and patient.patient_id for name, patient in known.items()
    }
    live = await store.operators.facts_of([PatientKey(source, each.patient_id) for each in (ANNA, BEN)])
    assert {name: each for name, each in expected.items() if each.reading} == {
        each.key: each for facts in live.values() for each in facts
    }
