"""What waits for an answer of its EHR: once for each resource, for one worker at a time, until it is answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from service.store import Awaited, Later, Pending
from tests.integration.store.samples import ANNA, LATER, LEASE, NOW, SOON, fact, key, parked, record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.store import ClaimedAwaited, Parked, Store

MANY = 10


def awaited(name: str = "e", *, at: int = 0, offset: int = 7, subject: str | None = None) -> Awaited:
    """A change that names an Encounter, so many seconds after `NOW`."""
    return Awaited(key(name), f"v{at}", NOW + timedelta(seconds=at), record(offset), entry=at, subject=subject)


async def wait(store: Store, *changes: Awaited) -> None:
    """Let them wait, in a transaction of its own."""
    async with store.transaction() as transaction:
        await transaction.await_(changes, NOW)


async def settle(store: Store, answered: Iterable[ClaimedAwaited], *items: Parked) -> None:
    """Settle what was answered, in a transaction that may park something."""
    async with store.transaction() as transaction:
        await transaction.park(items, NOW)
        await transaction.settle(list(answered), SOON)


async def claim(store: Store, limit: int = MANY, source: str = "main") -> list[ClaimedAwaited]:
    """Claim what is due now."""
    return await store.awaiting.claim(source, NOW, limit, LEASE)


async def test_what_waits_comes_with_its_record(store: Store) -> None:
    """Byte for byte: a subject can be searched for as soon as its EHR answers, whenever that is."""
    await wait(store, awaited(subject="urn:mrn|7"))
    (claimed,) = await claim(store)
    assert (awaited(subject="urn:mrn|7"), 1, 0, None) == (
        claimed.awaited,
        claimed.asked,
        claimed.attempts,
        claimed.known_version,
    )


async def test_several_changes_of_a_resource_wait_as_one(store: Store) -> None:
    """The newest counts, in whatever order they come, in one batch or several."""
    await wait(store, awaited(at=2, offset=2), awaited(at=3, offset=3), awaited(at=1, offset=1))
    await wait(store, awaited(at=0, offset=0))
    (claimed,) = await claim(store)
    assert (awaited(at=3, offset=3), 2) == (claimed.awaited, claimed.asked)
    assert Pending(1, NOW) == await store.awaiting.pending("main")


async def test_two_workers_never_ask_for_the_same(store: Store, other: Store) -> None:
    """Each takes what the other has not."""
    await wait(store, *(awaited(name) for name in ("a", "b", "c")))
    one, two = await claim(store, 2), await claim(other, 2)
    assert (["a", "b"], ["c"]) == (names(one), names(two))


async def test_lease_that_ends_lets_another_worker_ask(store: Store, other: Store) -> None:
    """A worker that is gone holds nothing up."""
    await wait(store, awaited())
    await claim(store)
    assert [] == await claim(other)
    assert ["e"] == names(await other.awaiting.claim("main", NOW + LEASE, MANY, LEASE))


async def test_sources_wait_apart(store: Store) -> None:
    """The same id of two sources are two resources, and one's trouble is not the other's."""
    twin = replace(awaited(), key=key("e")._replace(source="other"))
    await wait(store, awaited(), twin)
    assert [twin] == [each.awaited for each in await claim(store, source="other")]
    assert Pending(1, NOW) == await store.awaiting.pending("other")
    assert Pending(0, None) == await store.awaiting.pending("third")


async def test_answered_change_waits_no_longer_and_its_record_is_not_kept(store: Store) -> None:
    """Nothing of a patient stays that nothing is done with."""
    await wait(store, awaited())
    await settle(store, await claim(store))
    assert Pending(0, None) == await store.awaiting.pending("main")
    # A record is kept once for each place in a topic: another content there shows that the first is gone.
    another = replace(record(), value=b"another")
    await settle(store, [], replace(parked(), record=another))
    (item,) = await store.operators.parked()
    content = await store.operators.parked_content(item.id)
    assert another == (content and content.record)


async def test_record_stays_for_what_else_is_kept_of_it(store: Store) -> None:
    """What is parked of it keeps its content, be it parked before or as its answer is stored."""
    await wait(store, awaited("a"), awaited("b"))
    first, second = await claim(store)
    await settle(store, [first], parked("http-403", entry=0))
    await settle(store, [second])
    (item,) = await store.operators.parked()
    content = await store.operators.parked_content(item.id)
    assert record() == (content and content.record)


async def test_change_that_comes_while_its_resource_is_fetched_asks_again(store: Store) -> None:
    """The answer may be of before it; the row is due at once, with the newer change."""
    await wait(store, awaited(at=1, offset=1))
    claimed = await claim(store)
    await wait(store, awaited(at=2, offset=2))
    await settle(store, claimed)
    (again,) = await store.awaiting.claim("main", SOON, MANY, LEASE)
    assert awaited(at=2, offset=2) == again.awaited


async def test_failed_attempt_waits_as_long_as_it_is_told(store: Store) -> None:
    """Attempts are counted; being passed over is none."""
    await wait(store, awaited())
    (claimed,) = await claim(store)
    await store.awaiting.postpone([Later(claimed, SOON, "timeout")])
    assert [] == await claim(store)
    (claimed,) = await store.awaiting.claim("main", SOON, MANY, LEASE)
    await store.awaiting.postpone([Later(claimed, LATER, None)])
    (claimed,) = await store.awaiting.claim("main", LATER, MANY, LEASE)
    assert 1 == claimed.attempts


async def test_version_of_the_stored_fact_is_told(store: Store) -> None:
    """What is there already need not be fetched."""
    async with store.transaction() as transaction:
        await transaction.lock([ANNA])
        await transaction.merge([fact("e", version=4), fact("f", version=-1)])
        await transaction.await_([awaited("e"), awaited("f"), awaited("g")], NOW)
    assert [4, None, None] == [each.known_version for each in sorted(await claim(store), key=name)]


def name(claimed: ClaimedAwaited) -> str:
    """Return the id of what was claimed."""
    return claimed.awaited.key.resource_id


def names(claimed: Iterable[ClaimedAwaited]) -> list[str]:
    """Return the ids of what was claimed, in order."""
    return sorted(map(name, claimed))
