"""A worker whose lease has ended: it touches nothing of who took over, and nothing that it wrote is lost."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.store import ParkedState, Postponed, Write
from tests.integration.store.samples import (
    EHR,
    LATER,
    LEASE,
    NOW,
    SOON,
    course,
    delivery,
    done,
    failed,
    gone,
    update,
    write,
)

if TYPE_CHECKING:
    from service.store import Claimed, Store

OVER = NOW + LEASE
"""When the first worker's lease ends, and another takes over."""
REPORTED = OVER + timedelta(seconds=1)
"""When the first worker's word comes all the same."""
DONE = OVER + timedelta(seconds=2)
WRITTEN = (Write("create", "CarePlan", "a", "1"),)


def ledger(**roles: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """A ledger as a FHIR server's destination keeps it: its remotes alone."""
    return {"remotes": roles, "unresolved": []}


def remote(name: str, *, sure: bool = True) -> dict[str, Any]:
    """One resource in it."""
    return {"id": name, "version": "1", "digest": "d", "sure": sure}


async def two(store: Store) -> tuple[Claimed, Claimed]:
    """What the first worker claimed, and what the second did once the first's lease was over."""
    await write(store, update(course("c")), to=(EHR,))
    (first,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    (second,) = await store.deliveries.claim("ehr", OVER, 10, LEASE)
    return first, second


async def report(store: Store, claimed: Claimed, how: str) -> None:
    """Tell how the first worker's delivery ended, with what it wrote."""
    held = ledger(careplan=remote("a"))
    if how == "acknowledged":
        await store.deliveries.acknowledge([done(claimed, held, WRITTEN)], REPORTED)
    elif how == "postponed":
        await store.deliveries.postpone(
            [Postponed("c", "ehr", REPORTED, "timeout", held, writes=WRITTEN, lease=claimed.lease)], REPORTED
        )
    else:
        await store.deliveries.park_delivery(claimed, "refused", REPORTED, remote=held, writes=WRITTEN)


@pytest.mark.parametrize("how", ["acknowledged", "postponed", "parked"])
async def test_late_word_takes_a_delivery_from_nobody(how: str, store: Store) -> None:
    """While the second worker writes, nobody gets the delivery, and nobody is asked to look at it."""
    first, _ = await two(store)

    await report(store, first, how)

    assert [] == await store.deliveries.claim("ehr", DONE, 10, LEASE)
    state = await delivery(store, "c", "ehr")
    assert (None, None, 2) == (state.seen, state.outcome, state.attempts)
    assert [] == await store.operators.parked(ParkedState.OPEN)


@pytest.mark.parametrize("how", ["acknowledged", "postponed", "parked"])
async def test_what_a_late_worker_wrote_is_kept_and_the_plan_is_sent_once_more(how: str, store: Store) -> None:
    """Its writes may lie over those of who took over; they are audited whoever delivers by then."""
    first, second = await two(store)

    await report(store, first, how)
    assert await store.deliveries.acknowledge([done(second, ledger(flag=remote("f")))], DONE)

    (again,) = await store.deliveries.claim("ehr", DONE, 10, LEASE)
    assert {"careplan": remote("a"), "flag": remote("f")} == again.remote["remotes"]
    assert [WRITTEN[0]] == [each.write for each in await store.desk.audit("c")]
    assert not await store.deliveries.acknowledge([done(again)], DONE)


@pytest.mark.parametrize("how", ["acknowledged", "postponed", "parked"])
async def test_late_word_after_anothers_success_makes_the_plan_due_once_more(how: str, store: Store) -> None:
    """What both wrote is read at the destination before the next write: whose is the last, nobody can tell."""
    first, second = await two(store)
    await store.deliveries.acknowledge([done(second, ledger(careplan=remote("b"), flag=remote("f")))], OVER)

    await report(store, first, how)

    (again,) = await store.deliveries.claim("ehr", DONE, 10, LEASE)
    doubted = remote("b") | {"version": None, "digest": "", "hashes": []}
    assert {"careplan": doubted, "flag": remote("f")} == again.remote["remotes"]


async def test_acknowledgement_that_is_told_twice_counts_once(store: Store) -> None:
    """The database took it, and its answer to the worker was lost: no late word, and nothing is sent once more."""
    await write(store, update(course("c")), to=(EHR,))
    (claimed,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    report = done(claimed, ledger(careplan=remote("a")), WRITTEN)

    assert [False, False] == [await store.deliveries.acknowledge([report], SOON) for _ in range(2)]

    assert [] == await store.deliveries.claim("ehr", LATER, 10, LEASE)
    assert [WRITTEN[0]] == [each.write for each in await store.desk.audit("c")]


async def test_late_answer_tells_what_the_next_worker_could_only_guess(store: Store) -> None:
    """What is surely there wins over what an attempt only meant to write."""
    first, second = await two(store)
    meant = ledger(careplan=remote("ours", sure=False))
    await store.deliveries.park_delivery(second, "unknown", OVER, remote=meant)

    await report(store, first, "acknowledged")

    (again,) = await store.deliveries.claim("ehr", DONE, 10, LEASE)
    assert {"careplan": remote("a")} == again.remote["remotes"]


async def test_late_refusal_that_wrote_nothing_changes_nothing(store: Store) -> None:
    """There is nothing to make good."""
    first, second = await two(store)
    await store.deliveries.acknowledge([done(second)], OVER)

    await store.deliveries.park_delivery(first, "refused", REPORTED)

    assert [] == await store.deliveries.claim("ehr", LATER, 10, LEASE)


async def test_second_workers_failure_forgets_nothing_of_the_first(store: Store) -> None:
    """What was written by the one that was late stays in the ledger."""
    first, second = await two(store)
    await report(store, first, "postponed")

    await store.deliveries.postpone([failed(second, LATER, remote=ledger(flag=remote("f")))], DONE)

    assert [] == await store.deliveries.claim("ehr", DONE, 10, LEASE)
    (again,) = await store.deliveries.claim("ehr", LATER, 10, LEASE)
    assert {"careplan", "flag"} == set(again.remote["remotes"])


async def test_late_word_of_a_course_that_was_handed_over_reaches_its_heir(store: Store) -> None:
    """Even one of failure: what it wrote is the heir's."""
    await write(store, update(course("c")), to=(EHR,))
    (known,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    await store.deliveries.acknowledge([done(known, ledger(careplan=remote("a")))], NOW)
    await write(store, update(course("c", "r2")), to=(EHR,), now=NOW)
    (claimed,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    await write(store, update(course("heir"), gone=(gone("c", "heir"),)), to=(EHR,), now=NOW)

    made = ledger(careplan=remote("a"), flag=remote("f"))
    await store.deliveries.postpone([failed(claimed, LATER, remote=made)], REPORTED)

    (heir,) = await store.deliveries.claim("ehr", DONE, 10, LEASE)
    assert ("heir", made) == (heir.course_id, heir.remote)


async def test_only_after_an_attempt_that_was_never_heard_of_is_in_doubt_what_was_sent(store: Store) -> None:
    """Not after one that failed: it told what it had come to, be it of a doubt that it found."""
    sent = remote("a") | {"hashes": ["title=1f0c"]}
    await write(store, update(course("c")), to=(EHR,))
    (known,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    await store.deliveries.acknowledge([done(known, ledger(careplan=sent))], NOW)
    await write(store, update(course("c", "r2")), to=(EHR,), now=NOW)
    (failing,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    await store.deliveries.postpone([failed(failing, NOW)], NOW)
    (lost,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    assert [(False, sent)] * 2 == [(each.unheard, each.remote["remotes"]["careplan"]) for each in (failing, lost)]

    (second,) = await store.deliveries.claim("ehr", OVER, 10, LEASE)
    assert (True, sent | {"digest": "", "hashes": []}) == (second.unheard, second.remote["remotes"]["careplan"])
    await store.deliveries.postpone([failed(second, OVER, remote=second.remote)], OVER)
    (third,) = await store.deliveries.claim("ehr", OVER, 10, LEASE)
    assert (False, second.remote) == (third.unheard, third.remote)
