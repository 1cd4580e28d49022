"""Claims of several workers while the courses change."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from service.store import Pending, Write
from tests.integration.store.samples import ANNA, NOW, TOPIC, course, delivery, done, update, write

if TYPE_CHECKING:
    from service.store import Store

REVISIONS = 60
LEASE = timedelta(days=1)


async def test_no_claim_is_older_than_what_was_delivered(store: Store, other: Store) -> None:
    """However claims, changes and acknowledgements meet, counters go up, and the last revision is the last sent."""
    writing = asyncio.create_task(revise(store))
    sent: list[int] = []
    await asyncio.gather(*(send(each, sent, writing) for each in (store, other, store, other)))

    assert sorted(set(sent)) == sent
    assert REVISIONS == sent[-1]
    assert f"r{REVISIONS - 1}" == (await delivery(store, "c", "topic")).seen
    assert Pending(0, None) == await store.deliveries.pending("topic")


async def test_longest_due_is_claimed_first(store: Store) -> None:
    """As many as are asked for, and in the order in which they fell due."""
    for number in (3, 1, 2):
        await write(store, update(course(f"c{number}")), now=NOW + timedelta(seconds=number))

    claimed = await store.deliveries.claim("topic", NOW + timedelta(seconds=9), 2, LEASE)

    assert ["c1", "c2"] == [each.course_id for each in claimed]


async def test_acknowledgement_says_whether_the_course_is_due_again(store: Store) -> None:
    """Who delivers need not look for it in vain."""
    await write(store, update(course("c", "r1")))
    (first,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await write(store, update(course("c", "r2")))

    assert await store.deliveries.acknowledge([done(first)], NOW)
    (second,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    assert not await store.deliveries.acknowledge([done(second)], NOW)


async def test_acknowledgement_and_the_wish_for_a_newer_revision_do_not_wait_for_each_other(
    store: Store, other: Store
) -> None:
    """Each holds rows that the other one needs only to refer to: PostgreSQL would have to end one of the two."""
    await write(store, update(course("c", "r1")))
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    told = done(claimed, writes=(Write("create", "CarePlan", "cp-1", "1"),))

    async with store.transaction() as transaction:
        await transaction.lock([ANNA])
        await transaction.write([update(course("c", "r2"))], [TOPIC], NOW)
        acknowledging = asyncio.create_task(other.deliveries.acknowledge([told], NOW))
        # SQLite lets it begin only once the transaction has ended.
        await asyncio.wait({acknowledging}, timeout=0.5)

    await acknowledging
    state = await delivery(store, "c", "topic")
    assert ("r1", "r2") == (state.seen, state.wanted)


async def revise(store: Store) -> None:
    """Give a course one revision after the other."""
    for number in range(REVISIONS):
        await write(store, update(course("c", f"r{number}")))


async def send(store: Store, sent: list[int], writing: asyncio.Task[None]) -> None:
    """Claim, note what is sent and acknowledge it, until all is written and nothing is left."""
    while True:
        last = writing.done()
        claimed = await store.deliveries.claim("topic", NOW, 10, LEASE)
        sent += [each.counter for each in claimed]
        if claimed:
            await store.deliveries.acknowledge([done(each) for each in claimed], NOW)
        elif last and not (await store.deliveries.pending("topic")).count:
            return
        await asyncio.sleep(0)
