"""What the store knows of each source: counts, event numbers and their gaps, deviations."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from service.domain.event_numbers import Numbered
from service.store import FeedCount, FeedRate, GapClosed
from service.store.sources import MOST_GAPS
from tests.integration.store.samples import NOW, parked

if TYPE_CHECKING:
    from service.store import EventGap, Store

SOURCE = "main"
SUBSCRIPTION = "Subscription/s-1"
MINUTE = timedelta(minutes=1)
PATIENCE = 5 * MINUTE


async def see(store: Store, *numbers: int, minute: int = 0) -> None:
    """Store that a batch brought these numbers, in records of this minute and at that time."""
    at = NOW + minute * MINUTE
    async with store.transaction() as transaction:
        seen = [Numbered(number, at) for number in numbers]
        await transaction.tell((), {}, {(SOURCE, SUBSCRIPTION): seen}, at)


async def noticed(store: Store, minute: int) -> list[tuple[int, int]]:
    """Return first and last number of the gaps that are noticed in this minute."""
    return [(gap.first, gap.last) for gap in await store.sources.notice_gaps(PATIENCE, NOW + minute * MINUTE)]


async def open_gaps(store: Store) -> tuple[EventGap, ...]:
    """Return the gaps that are open."""
    return (await store.sources.overview(SOURCE, NOW)).gaps


async def test_counts_add_up_over_batches_and_workers(store: Store, other: Store) -> None:
    """By kind and outcome, in the last day and ever."""
    counts = [FeedCount(SOURCE, "Encounter", "relevant", 3, NOW), FeedCount(SOURCE, "other", "irrelevant", 9, NOW)]
    for each in (store, other, store):
        async with each.transaction() as transaction:
            await transaction.tell(counts, {}, {}, NOW)

    later = await store.sources.overview(SOURCE, NOW + timedelta(hours=23))
    assert (FeedRate("Encounter", "relevant", 9, 9), FeedRate("other", "irrelevant", 27, 27)) == later.rates
    assert NOW == later.latest
    much_later = await store.sources.overview(SOURCE, NOW + timedelta(hours=25))
    assert [0, 0] == [rate.day for rate in much_later.rates]
    assert () == (await store.sources.overview("elsewhere", NOW)).rates


async def test_counts_of_hours_long_past_go_and_what_was_ever_counted_stays(store: Store) -> None:
    """So that the table stays small."""
    async with store.transaction() as transaction:
        await transaction.tell([FeedCount(SOURCE, "Encounter", "relevant", 3, NOW)], {}, {}, NOW)
    await store.sources.prune_counts(NOW + timedelta(days=30))

    assert (FeedRate("Encounter", "relevant", 0, 3),) == (await store.sources.overview(SOURCE, NOW)).rates


async def test_counts_of_a_batch_that_fails_are_not_stored(store: Store) -> None:
    """They belong to its transaction."""

    async def fail() -> None:
        async with store.transaction() as transaction:
            await transaction.tell([FeedCount(SOURCE, "Encounter", "relevant", 3, NOW)], {}, {}, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert () == (await store.sources.overview(SOURCE, NOW)).rates


async def test_deviations_and_what_is_parked_are_told_the_most_frequent_first(store: Store) -> None:
    """By path, and by reason."""
    for paths in ({(SOURCE, "Encounter.class"): 2}, {(SOURCE, "Encounter.class"): 1, (SOURCE, "Encounter.?"): 1}):
        async with store.transaction() as transaction:
            await transaction.tell((), paths, {}, NOW)
            await transaction.park([parked()], NOW)
    found = await store.sources.overview(SOURCE, NOW)

    assert [("Encounter.class", 3), ("Encounter.?", 1)] == list(found.deviations.items())
    assert {} == (await store.sources.overview("elsewhere", NOW)).deviations
    assert {"not-json": 1} == (await store.sources.overview(parked().source, NOW)).parked


async def test_gap_is_noticed_once_it_has_stayed_open(store: Store, other: Store) -> None:
    """By one worker, once; what comes in time is none."""
    await see(store, 1, 2, 5, 6)
    await see(other, 4, minute=1)

    assert [] == await noticed(store, 4)
    assert [(3, 3)] == await noticed(store, 5)
    assert [] == await noticed(other, 6)
    (gap,) = await open_gaps(store)
    assert (SOURCE, SUBSCRIPTION, 1, NOW + 5 * MINUTE) == (gap.source, gap.subscription, gap.missing, gap.noticed_at)
    assert {SOURCE: 1} == await store.sources.open_gaps()


async def test_workers_that_look_at_once_notice_a_gap_once(store: Store, other: Store) -> None:
    """One log line, one search."""
    await see(store, 1, 3)

    found = await asyncio.gather(*(noticed(each, 6) for each in (store, other, store, other)))

    assert [[], [], [], [(2, 2)]] == sorted(found)


async def test_numbers_that_several_workers_see_at_once_are_all_kept(store: Store, other: Store) -> None:
    """None overwrites what the other has written."""
    await asyncio.gather(*(see((store, other)[number % 2], number) for number in range(1, 21)))

    assert [] == await noticed(store, 60)


async def test_gap_that_arrives_after_all_is_closed(store: Store) -> None:
    """A partition may be read an hour late; half of it closes nothing."""
    await see(store, 1, 4)
    assert [(2, 3)] == await noticed(store, 5)
    await see(store, 2, minute=6)
    assert [] == await noticed(store, 7)
    assert 1 == len(await open_gaps(store))
    await see(store, 3, minute=8)

    assert [] == await noticed(store, 9)
    found = await store.sources.overview(SOURCE, NOW)
    assert ((), {GapClosed.ARRIVED: 1}) == (found.gaps, found.gaps_closed)


async def test_gap_is_searched_for_by_one_worker_at_a_time_and_again_after_its_lease(
    store: Store, other: Store
) -> None:
    """A worker that ends in the middle leaves it to another."""
    await see(store, 1, 3)
    await noticed(store, 5)
    now = NOW + 5 * MINUTE

    first = await store.sources.claim_gap([SOURCE], MINUTE, now)
    assert (2, 1) == (first and first.first, first and first.attempts)
    assert await other.sources.claim_gap([SOURCE], MINUTE, now) is None
    assert await other.sources.claim_gap(["elsewhere"], MINUTE, now + MINUTE) is None
    again = await other.sources.claim_gap([SOURCE], MINUTE, now + MINUTE)
    assert 2 == (again and again.attempts)
    assert again is not None
    await other.sources.postpone_gap(again, now + 9 * MINUTE)
    assert await store.sources.claim_gap([SOURCE], MINUTE, now + 8 * MINUTE) is None


async def test_gap_that_was_searched_for_is_not_noticed_again(store: Store) -> None:
    """Its numbers count as seen."""
    await see(store, 1, 3)
    await noticed(store, 5)
    claimed = await store.sources.claim_gap([SOURCE], MINUTE, NOW + 5 * MINUTE)
    assert claimed is not None
    await store.sources.close_gap(claimed, GapClosed.SEARCHED, NOW + 6 * MINUTE)

    assert [] == await noticed(store, 60)
    assert {GapClosed.SEARCHED: 1} == (await store.sources.overview(SOURCE, NOW)).gaps_closed


async def test_person_closes_the_gaps_of_a_source(store: Store) -> None:
    """Where nothing can be searched, and the events were brought in another way."""
    await see(store, 1, 3, 5)
    await noticed(store, 5)

    assert 0 == await store.sources.settle_gaps("elsewhere", NOW)
    assert 2 == await store.sources.settle_gaps(SOURCE, NOW)
    assert () == await open_gaps(store)
    assert [] == await noticed(store, 60)


async def test_each_of_many_gaps_is_noticed_once_and_all_are_settled(store: Store) -> None:
    """More than are shown at a time."""
    await see(store, *range(1, 2 * MOST_GAPS + 40, 2))
    count = len(await noticed(store, 5))
    assert MOST_GAPS < count

    assert [] == await noticed(store, 6)
    assert ({SOURCE: count}, MOST_GAPS) == (await store.sources.open_gaps(), len(await open_gaps(store)))
    assert count == await store.sources.settle_gaps(SOURCE, NOW)
    assert {} == await store.sources.open_gaps()


async def test_gap_of_a_subscription_that_was_made_anew_stays_open(store: Store) -> None:
    """The same numbers in its new life don't fill it."""
    await see(store, 1, 3)
    assert [(2, 2)] == await noticed(store, 5)
    await see(store, 1, 2, 3, minute=30)

    assert [] == await noticed(store, 40)
    assert 1 == len(await open_gaps(store))
    await store.sources.settle_gaps(SOURCE, NOW)
    await see(store, 5, minute=41)
    assert [(4, 4)] == await noticed(store, 50)
