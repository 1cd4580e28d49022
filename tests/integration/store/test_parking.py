"""What is parked, and what people do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.store import ParkedItem, ParkedKind, ParkedState
from tests.integration.store.samples import LATER, NOW, fact, parked, record

if TYPE_CHECKING:
    from service.store import Parked, Store


async def park(store: Store, *items: Parked) -> None:
    """Park in a transaction of its own."""
    async with store.transaction() as transaction:
        await transaction.park(items, NOW)


async def only(store: Store) -> ParkedItem:
    """The one thing that is parked, in whatever state."""
    (item,) = await store.operators.parked(None)
    return item


async def test_record_is_kept_whole(store: Store) -> None:
    """Key, value and headers come back byte for byte; the list tells place and reason."""
    await park(store, parked())

    item = await only(store)
    content = await store.operators.parked_content(item.id)

    assert ("not-json", "Encounter.subject", "encounters", 0, 7, -1, ParkedKind.RECORD, ParkedState.OPEN, NOW) == (
        item.reason,
        item.path,
        item.topic,
        item.partition,
        item.offset,
        item.entry,
        item.kind,
        item.state,
        item.parked_at,
    )
    assert record() == (content and content.record)


async def test_replayed_batch_parks_once(store: Store) -> None:
    """The same place in the same topic is the same item."""
    batch = (parked(), parked(offset=8, entry=0), parked(offset=8, entry=1))
    await park(store, *batch)
    first = await store.operators.parked()

    await park(store, *batch, *batch)

    assert first == await store.operators.parked()
    assert [ParkedKind.RECORD, ParkedKind.CHANGE, ParkedKind.CHANGE] == [each.kind for each in first]


async def test_list_goes_on_after_an_id(store: Store) -> None:
    """Pages follow each other by id."""
    await park(store, *(parked(offset=n) for n in range(5)))

    first = await store.operators.parked(limit=2)
    rest = await store.operators.parked(after=first[-1].id)

    assert [0, 1] == [each.offset for each in first]
    assert [2, 3, 4] == [each.offset for each in rest]


async def test_retry_gives_the_record_back_and_ends_in_resolved(store: Store) -> None:
    """What the intake could read the second time is closed, and stays on file."""
    await park(store, parked())
    item = await only(store)

    (retry,) = await store.operators.retry([item.id], LATER)
    async with store.transaction() as transaction:
        await transaction.resolve([item.id], LATER)

    assert (record(), ParkedState.RETRYING) == (retry.record, retry.item.state)
    assert ParkedState.RESOLVED == (await only(store)).state
    assert [] == await store.operators.retry([item.id], LATER)


async def test_retry_that_was_killed_leaves_nothing_hidden(store: Store) -> None:
    """What it had not read yet is listed and counted as before, and can be tried again."""
    await park(store, parked(), parked(offset=8))
    ids = [each.id for each in await store.operators.parked()]
    before = await store.operators.counts(), (await store.sources.overview("main", NOW)).parked
    await store.operators.retry(ids, LATER)

    assert ids == [each.id for each in await store.operators.parked()]
    assert before == (await store.operators.counts(), (await store.sources.overview("main", NOW)).parked)
    assert ids == [each.item.id for each in await store.operators.retry(ids, LATER)]


async def test_retry_that_fails_is_open_again_with_its_new_reason(store: Store) -> None:
    """The same item, told anew."""
    await park(store, parked("not-json"))
    item = await only(store)
    await store.operators.retry([item.id], LATER)

    await park(store, parked("no-subject"))

    assert (item.id, "no-subject", ParkedState.OPEN) == (
        (await only(store)).id,
        (await only(store)).reason,
        (await only(store)).state,
    )


async def test_discarded_item_stays_with_its_reason(store: Store) -> None:
    """Nothing is deleted; a replay does not bring it back before a person."""
    await park(store, parked())
    item = await only(store)

    assert 1 == await store.operators.discard([item.id], "a test message", LATER)
    await park(store, parked())

    assert [] == await store.operators.parked()
    assert (ParkedState.DISCARDED, "a test message") == ((await only(store)).state, (await only(store)).note)
    assert 0 == await store.operators.discard([item.id], "again", LATER)


async def test_counts_tell_open_items_by_kind_and_reason(store: Store) -> None:
    """Only what waits for a person counts."""
    await park(store, parked(offset=1), parked(offset=2), parked("no-subject", offset=3, entry=4))
    first = (await store.operators.parked())[0]
    await store.operators.discard([first.id], "seen to", LATER)

    assert {("record", "not-json"): 1, ("change", "no-subject"): 1} == (await store.operators.counts()).parked


async def test_markers_are_pruned_and_live_facts_are_not(store: Store) -> None:
    """Only markers that are older than asked go."""
    second = 1_000_000
    today = int(NOW.timestamp()) * second
    old, fresh = fact("old", None, at=today - second), fact("fresh", None, at=today)
    live = fact("live", at=today - second)
    async with store.transaction() as transaction:
        await transaction.merge([old, fresh, live])

    assert 1 == await store.operators.prune_markers(NOW)

    async with store.transaction() as transaction:
        assert {fresh.key, live.key} == set(await transaction.known([old.key, fresh.key, live.key]))
