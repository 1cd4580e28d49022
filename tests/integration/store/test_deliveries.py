"""Wanted against seen, at each destination."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from service.domain.facts import PatientKey
from service.domain.state import mark
from service.outbound.destination import Route
from service.rest.errors import UNANSWERED
from service.store import PATIENT_MISSING, Delivered, Destination, ParkedKind, ParkedState, Pending, Write
from tests.integration.store.samples import (
    BEN,
    EHR,
    LATER,
    LEASE,
    NOW,
    REMOTE,
    SOON,
    TOPIC,
    course,
    deliver,
    delivery,
    done,
    failed,
    gone,
    update,
    write,
)

if TYPE_CHECKING:
    from service.store import Ledger, Store


async def test_changed_course_is_claimed_with_its_state(store: Store) -> None:
    """A claim holds all that a destination needs, and the first attempt is counted."""
    await write(store, update(course("c")))

    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)

    assert ("c", "topic", "anna", "r1", 1, b'"r1"', False, 1, None, None, {}) == (
        claimed.course_id,
        claimed.destination,
        claimed.patient.patient_id,
        claimed.revision,
        claimed.counter,
        claimed.state,
        claimed.gone,
        claimed.attempts,
        claimed.seen,
        claimed.route,
        claimed.remote,
    )


async def test_acknowledged_delivery_is_not_claimed_again(store: Store) -> None:
    """Once seen equals wanted there is nothing to do, and the ledger is kept."""
    await write(store, update(course("c")))
    await deliver(store, "topic", REMOTE)

    assert [] == await store.deliveries.claim("topic", LATER, 10, LEASE)
    state = await delivery(store, "c", "topic")
    assert ("r1", NOW, None, REMOTE, "route") == (
        state.seen,
        state.seen_at,
        state.behind_since,
        state.remote,
        state.route,
    )


async def test_only_the_newest_revision_is_delivered(store: Store) -> None:
    """Revisions that nobody fetched in between are never sent; the wait is counted from the first."""
    await write(store, update(course("c", "r1")))
    await write(store, update(course("c", "r2")), now=SOON)

    assert Pending(1, NOW) == await store.deliveries.pending("topic")
    assert ["r2"] == [each.revision for each in await deliver(store, "topic", now=SOON)]
    assert Pending(0, None) == await store.deliveries.pending("topic")


async def test_course_that_changed_during_its_delivery_is_due_again(store: Store) -> None:
    """What the destination acknowledged is what was sent, not what is wanted by then."""
    await write(store, update(course("c", "r1")))
    (under_way,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await write(store, update(course("c", "r2")))
    assert [] == await store.deliveries.claim("topic", SOON, 10, LEASE)

    await store.deliveries.acknowledge([done(under_way)], SOON)

    assert "r1" == (await delivery(store, "c", "topic")).seen
    assert ["r2"] == [each.revision for each in await store.deliveries.claim("topic", SOON, 10, LEASE)]


async def test_course_that_changed_and_changed_back_during_its_delivery_is_sent_once_more(store: Store) -> None:
    """Nobody can know what reached the destination in between: equal revisions are not the same delivery."""
    await write(store, update(course("c", "r1")))
    (under_way,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await write(store, update(course("c", "r2")))
    await write(store, update(course("c", "r1")))

    await store.deliveries.acknowledge([done(under_way)], SOON)

    assert [3] == [each.counter for each in await store.deliveries.claim("topic", SOON, 10, LEASE)]


async def test_claimed_delivery_is_nobody_elses_until_its_lease_ends(store: Store, other: Store) -> None:
    """A worker that died is replaced when its lease is over."""
    await write(store, update(course("c")))
    await store.deliveries.claim("topic", NOW, 10, LEASE)

    assert [] == await other.deliveries.claim("topic", NOW + LEASE / 2, 10, LEASE)
    assert [2] == [each.attempts for each in await other.deliveries.claim("topic", NOW + LEASE, 10, LEASE)]


async def test_workers_that_claim_at_once_share_the_deliveries(store: Store, other: Store) -> None:
    """Each delivery goes to one worker."""
    await write(store, update(*(course(f"c{n}") for n in range(20))))

    claims = await asyncio.gather(*(each.deliveries.claim("topic", NOW, 4, LEASE) for each in (store, other) * 4))

    claimed = [each.course_id for claim in claims for each in claim]
    assert len(claimed) == len(set(claimed))
    assert all(len(claim) <= 4 for claim in claims)


async def test_failed_delivery_waits_for_its_next_attempt(store: Store) -> None:
    """It backs off with its reason, and other destinations are not held up."""
    await write(store, update(course("c")), to=(TOPIC, EHR))
    (claimed,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)

    await store.deliveries.postpone([failed(claimed, LATER, remote=REMOTE)], NOW)

    assert [] == await store.deliveries.claim("ehr", SOON, 10, LEASE)
    assert "unavailable" == (await delivery(store, "c", "ehr")).outcome
    assert [(2, REMOTE)] == [
        (each.attempts, each.remote) for each in await store.deliveries.claim("ehr", LATER, 10, LEASE)
    ]
    assert 1 == len(await store.deliveries.claim("topic", NOW, 10, LEASE))


async def test_new_revision_does_not_cut_a_backoff_short(store: Store) -> None:
    """A destination that is away is not tried more often because more happens."""
    await write(store, update(course("c")))
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await store.deliveries.postpone([failed(claimed, LATER)], NOW)

    await write(store, update(course("c", "r2")))

    assert [] == await store.deliveries.claim("topic", SOON, 10, LEASE)


async def test_late_failure_does_not_undo_anothers_success(store: Store) -> None:
    """A worker whose lease ended may report after the one that took over."""
    await write(store, update(course("c")))
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await deliver(store, "topic", now=NOW + LEASE)

    await store.deliveries.postpone([failed(claimed, NOW + LEASE)], NOW)

    assert [] == await store.deliveries.claim("topic", NOW + 2 * LEASE, 10, LEASE)


async def test_course_that_may_be_partly_written_is_retracted_however_it_was_tried_again(store: Store) -> None:
    """By a person, or by a newer revision: what an attempt left at the destination is never forgotten."""
    await write(store, update(course("by-a-person"), course("by-a-revision")))
    for claimed in await store.deliveries.claim("topic", NOW, 10, LEASE):
        await store.deliveries.park_delivery(claimed, "refused", NOW)
    await store.desk.retry(None, ["by-a-person"], NOW)
    await write(store, update(course("by-a-revision", "r2")))

    await write(store, update(gone=(gone("by-a-person"), gone("by-a-revision"))))

    assert [("by-a-person", True), ("by-a-revision", True)] == sorted(
        (each.course_id, each.gone) for each in await store.deliveries.claim("topic", LATER, 10, LEASE)
    )


async def test_what_a_refused_delivery_has_written_is_kept_and_audited(store: Store) -> None:
    """Also where a newer revision is wanted by then."""
    written = Write("create", "Goal", "g-1", "1")
    await write(store, update(course("a"), course("b")), to=(EHR,))
    claims = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    await write(store, update(course("b", "r2")), to=(EHR,))

    for claimed in claims:
        await store.deliveries.park_delivery(claimed, "refused", NOW, remote=REMOTE, writes=(written,))

    assert [REMOTE, REMOTE] == [(await delivery(store, each, "ehr")).remote for each in ("a", "b")]
    assert [("success", written), ("refused", None)] == [
        (each.outcome, each.write) for each in await store.desk.audit("a")
    ]


async def test_parked_delivery_waits_for_a_person(store: Store) -> None:
    """It is not tried again by itself, counts as behind, and stands among what is parked."""
    await park(store)

    assert [] == await store.deliveries.claim("topic", LATER, 10, LEASE)
    assert 1 == (await store.deliveries.pending("topic")).count
    (item,) = await store.operators.parked()
    assert (ParkedKind.DELIVERY, "main", "refused", "c", "topic") == (
        item.kind,
        item.source,
        item.reason,
        item.course_id,
        item.destination,
    )


async def test_retried_delivery_is_due_and_resolved_by_its_success(store: Store) -> None:
    """A person's retry ends with the destination's word."""
    await park(store)
    (item,) = await store.operators.parked()

    (retry,) = await store.operators.retry([item.id], SOON)
    await deliver(store, "topic", now=SOON)

    assert None is retry.record
    assert [ParkedState.RESOLVED] == [each.state for each in await store.operators.parked(None)]


async def test_newer_revision_is_tried_without_a_person(store: Store) -> None:
    """What was refused may be right by now; if it is not, the same item is open again."""
    await park(store)
    await write(store, update(course("c", "r2")))

    await park_claimed(store)

    assert ["refused"] == [each.reason for each in await store.operators.parked()]


async def test_delivery_whose_course_has_changed_is_not_parked(store: Store) -> None:
    """The refusal was of a plan that nobody wants any more."""
    await write(store, update(course("c")))
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await write(store, update(course("c", "r2")))

    await store.deliveries.park_delivery(claimed, "refused", NOW)

    assert [] == await store.operators.parked()
    assert ["r2"] == [each.revision for each in await store.deliveries.claim("topic", NOW, 10, LEASE)]


async def test_destination_that_is_added_later_wants_every_course(store: Store) -> None:
    """Also what it missed while it was not configured; never a course that is gone and that it never had."""
    await write(store, update(course("a"), course("b"), course("never-sent")))
    await write(store, update(gone=(gone("never-sent"),)))
    assert 2 == await store.deliveries.bring_up_to_date("ehr", NOW)
    await deliver(store, "ehr", REMOTE)
    await write(store, update(course("a", "r2"), gone=(gone("b"),)))

    assert 2 == await store.deliveries.bring_up_to_date("ehr", NOW)

    assert [("a", False), ("b", True)] == [
        (each.course_id, each.gone) for each in await store.deliveries.claim("ehr", NOW, 10, LEASE)
    ]
    assert 0 == await store.deliveries.bring_up_to_date("ehr", NOW)


async def test_destination_gets_the_courses_of_its_sources_alone(store: Store) -> None:
    """Whether it was there when they changed, or is brought up to date later."""
    theirs, all_ = Destination("theirs", sources=frozenset({"main"})), Destination("all")
    south = PatientKey("south", "anna")
    await write(store, update(course("n")), update(course("s"), patient=south), to=(theirs, all_))

    assert ["n"] == [each.course_id for each in await store.deliveries.claim("theirs", NOW, 10, LEASE)]
    assert 2 == len(await store.deliveries.claim("all", NOW, 10, LEASE))
    assert 0 == await store.deliveries.bring_up_to_date("theirs", NOW, sources=["main"])
    assert 1 == await store.deliveries.bring_up_to_date("new", NOW, sources=["south"])
    assert ["s"] == [each.course_id for each in await store.deliveries.claim("new", NOW, 10, LEASE)]


async def test_what_a_destination_has_of_a_source_that_it_no_longer_takes_becomes_due_once(store: Store) -> None:
    """Until it is taken back, however the course changes meanwhile; and again once the source is named again."""
    north, south = Destination("ehr", sources=frozenset({"main"})), PatientKey("south", "anna")
    await write(store, update(course("n")), update(course("s"), patient=south), to=(Destination("ehr"),))
    await deliver(store, "ehr", REMOTE)

    assert 1 == await store.deliveries.bring_up_to_date("ehr", NOW, sources=["main"])
    await write(store, update(course("s", "r2"), patient=south), to=(north,))
    (claimed,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    changed = await store.deliveries.acknowledge([replace(done(claimed), route=Route.OTHER_SOURCE)], NOW)

    assert ("s", False) == (claimed.course_id, changed)
    await write(store, update(course("s", "r3"), patient=south), to=(north,))
    assert 0 == await store.deliveries.bring_up_to_date("ehr", NOW, sources=["main"])
    assert [] == await store.deliveries.claim("ehr", NOW, 10, LEASE)
    assert 1 == await store.deliveries.bring_up_to_date("ehr", NOW, sources=["main", "south"])
    assert ["r3"] == [each.revision for each in await store.deliveries.claim("ehr", NOW, 10, LEASE)]


async def test_what_is_acknowledged_is_wanted_again_but_for_some_routes(store: Store) -> None:
    """Not what is gone, what is still due, nor what is another destination's."""
    await write(store, update(course("a"), course("b"), course("late"), course("gone")), to=(TOPIC, EHR))
    await deliver(store, "topic")
    for name in ("a", "b", "gone"):
        await deliver(store, "ehr", REMOTE, only=name, now=NOW + LEASE * ("a", "b", "gone").index(name))
    await write(store, update(course("late"), gone=(gone("gone"),)), to=(TOPIC, EHR))
    later = NOW + 9 * LEASE

    assert 0 == await store.deliveries.want_again("ehr", later, but_for=["route"])
    assert 2 == await store.deliveries.want_again("ehr", later)
    assert 0 == await store.deliveries.want_again("ehr", later)
    due = await store.deliveries.claim("ehr", later, 10, LEASE)
    assert {("a", "r1"), ("b", "r1"), ("late", None)} == {(each.course_id, each.seen) for each in due if not each.gone}


async def test_what_was_taken_under_other_terms_is_wanted_again_whatever_its_route(store: Store) -> None:
    """The route's name is the same where a Task is taken by now, or is no longer."""
    await write(store, update(*(course(each) for each in ("same", "other", "unknown"))), to=(EHR,))
    ledgers: dict[str, Ledger] = {"same": {"terms": "t2"}, "other": {"terms": "t1"}, "unknown": REMOTE}
    claims = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    await store.deliveries.acknowledge([done(each, ledgers[each.course_id]) for each in claims], NOW)

    assert 1 == await store.deliveries.want_again("ehr", LATER, but_for=["route"], terms="t2")
    (again,) = await store.deliveries.claim("ehr", LATER, 10, LEASE)
    assert "other" == again.course_id
    await store.deliveries.acknowledge([done(again)], LATER)
    assert 0 == await store.deliveries.want_again("ehr", LATER, kept_back=["route"], terms="t3")
    assert 2 == await store.deliveries.want_again("ehr", LATER, terms="t2")


async def test_rule_that_withholds_is_followed_when_it_changes(store: Store) -> None:
    """A course that has the label is due, to be taken back; once the rule goes, it is due again; no other ever is."""
    label, text = "http://terminology.hl7.org/CodeSystem/v3-ActCode|42CFRPart2", b'{"labels":[["s","42CFRPart2"]]}'
    await write(store, update(replace(course("labelled"), state=text), course("plain")), to=(EHR,))
    await deliver(store, "ehr", REMOTE)
    found = [
        await store.deliveries.bring_up_to_date("ehr", NOW, withheld=(mark(rule),)) for rule in (label, "42CFRPart2")
    ]
    (claimed,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    taken_back = Delivered(
        claimed.course_id, "ehr", claimed.revision, claimed.counter, "withheld", REMOTE, lease=claimed.lease
    )
    await store.deliveries.acknowledge([taken_back], NOW)
    found.append(await store.deliveries.bring_up_to_date("ehr", NOW, withheld=(mark("42CFRPart2"),)))
    found.append(await store.deliveries.bring_up_to_date("ehr", NOW))
    assert ("labelled", [0, 1, 0, 1]) == (claimed.course_id, found)


async def test_counts_tell_phases_parked_and_undelivered(store: Store) -> None:
    """What the metrics show."""
    await write(store, update(course("a"), course("b")), update(course("d"), patient=BEN))
    await write(store, update(course("a"), gone=(gone("b"),)))
    await deliver(store, "topic", only="a")

    counts = await store.operators.counts()

    assert ({"middle": 2}, {}, {"topic": 1}) == (counts.courses, counts.parked, counts.undelivered)


async def park(store: Store) -> None:
    """Park the first delivery of a course."""
    await write(store, update(course("c")))
    await park_claimed(store)


async def park_claimed(store: Store) -> None:
    """Park the one delivery that is due."""
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await store.deliveries.park_delivery(claimed, "refused", NOW)


async def test_paused_destination_gets_nothing_until_it_is_resumed(store: Store, other: Store) -> None:
    """In any worker; other destinations go on."""
    await write(store, update(course("c")), to=(TOPIC, EHR))
    await store.desk.pause("ehr", NOW)
    await store.desk.pause("ehr", SOON)

    assert [] == await other.deliveries.claim("ehr", LATER, 10, LEASE)
    assert 1 == len(await other.deliveries.claim("topic", NOW, 10, LEASE))
    assert [("ehr", NOW), ("topic", None)] == [
        (each.destination, each.paused_since) for each in await store.desk.standings(["ehr", "topic"])
    ]
    assert [True, False] == [await store.desk.resume("ehr"), await store.desk.resume("ehr")]
    assert 1 == len(await other.deliveries.claim("ehr", LATER, 10, LEASE))


async def test_all_that_waits_for_a_person_is_retried_at_once(store: Store) -> None:
    """At one destination; what is parked of it is being retried, and resolved by its success."""
    await write(store, update(course("a"), course("b")), to=(TOPIC, EHR))
    for destination in ("topic", "ehr"):
        for claimed in await store.deliveries.claim(destination, NOW, 10, LEASE):
            await store.deliveries.park_delivery(claimed, "refused", NOW)

    assert 2 == await store.desk.retry("ehr", None, SOON)

    assert {"a", "b"} == {each.course_id for each in await deliver(store, "ehr", now=SOON)}
    assert [] == await store.deliveries.claim("topic", SOON, 10, LEASE)
    states = {(each.destination, each.state) for each in await store.operators.parked(None)}
    assert {("ehr", ParkedState.RESOLVED), ("topic", ParkedState.OPEN)} == states


async def test_what_may_be_there_already_or_was_discarded_is_retried_only_where_it_is_named(store: Store) -> None:
    """Whoever retries all of a destination has not looked at each: nothing is created twice by that."""
    await write(store, update(course("closed"), course("lost"), course("refused")))
    for claimed in await store.deliveries.claim("topic", NOW, 10, LEASE):
        await store.deliveries.park_delivery(claimed, "refused" if claimed.course_id == "refused" else UNANSWERED, NOW)
    (closed,) = [each.id for each in await store.operators.parked() if each.course_id == "closed"]
    await store.operators.discard([closed], "It is there.", NOW)

    assert 1 == await store.desk.retry("topic", None, SOON)
    states = {each.course_id: each.state for each in await store.operators.parked(None)}
    assert {"closed": ParkedState.DISCARDED, "lost": ParkedState.OPEN, "refused": ParkedState.RETRYING} == states

    assert 1 == await store.desk.retry("topic", ["lost"], SOON)
    claims = {each.course_id: each for each in await store.deliveries.claim("topic", SOON, 10, LEASE)}
    assert {"lost": True, "refused": False} == {
        name: await store.deliveries.may_repeat(each) for name, each in claims.items()
    }


async def test_one_courses_delivery_is_retried_before_its_time(store: Store) -> None:
    """What backs off as well; what is up to date is left alone."""
    await write(store, update(course("a"), course("b"), course("d")))
    await deliver(store, "topic", only="d")
    for claimed in await store.deliveries.claim("topic", NOW + LEASE, 10, LEASE):
        await store.deliveries.postpone([failed(claimed, LATER)], NOW)

    assert 1 == await store.desk.retry(None, ["a", "d"], SOON)

    assert ["a"] == [each.course_id for each in await store.deliveries.claim("topic", SOON, 10, LEASE)]


async def test_what_stands_where_is_listed_page_by_page(store: Store) -> None:
    """By destination and course: all, or only what a destination is behind in; and how each destination stands."""
    await write(store, update(course("a"), course("b")), to=(TOPIC, EHR))
    await deliver(store, "ehr", REMOTE)
    (claimed,) = await store.deliveries.claim("topic", NOW, 1, LEASE)
    await store.deliveries.park_delivery(claimed, "refused", NOW)

    first = await store.desk.deliveries(None, behind=False, limit=3)
    last = await store.desk.deliveries(None, behind=False, after=("topic", "a"), limit=3)

    assert [("ehr", "a", 1), ("ehr", "b", 1), ("topic", "a", None)] == [
        (each.destination, each.course_id, each.seen_counter) for each in first
    ]
    assert [("topic", "b")] == [(each.destination, each.course_id) for each in last]
    assert ["a", "b"] == [each.course_id for each in await store.desk.deliveries("topic", behind=True)]
    assert [("ehr", 2, 0, 0), ("topic", 2, 2, 1), ("none", 0, 0, 0)] == [
        (each.destination, each.courses, each.behind, each.stopped)
        for each in await store.desk.standings(["ehr", "topic", "none"])
    ]


async def test_parked_delivery_that_may_mend_itself_is_tried_again(store: Store) -> None:
    """A person sees it meanwhile; its success resolves it."""
    await write(store, update(course("c")))
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await store.deliveries.park_delivery(claimed, PATIENT_MISSING, NOW, LATER)

    assert [] == await store.deliveries.claim("topic", SOON, 10, LEASE)
    assert [PATIENT_MISSING] == [each.reason for each in await store.operators.parked()]
    assert [1] == [each.stopped for each in await store.desk.standings(["topic"])]
    await deliver(store, "topic", now=LATER)
    assert [ParkedState.RESOLVED] == [each.state for each in await store.operators.parked(None)]


async def test_patient_who_appears_is_known_to_all_plans_of_theirs(store: Store) -> None:
    """The first that arrives makes the patient's others due, and nobody else's."""
    await write(store, update(course("a"), course("b")), update(course("of-ben"), patient=BEN))
    for claimed in await store.deliveries.claim("topic", NOW, 10, LEASE):
        again = SOON if claimed.course_id == "a" else LATER
        await store.deliveries.park_delivery(claimed, PATIENT_MISSING, NOW, again)

    assert ["a"] == [each.course_id for each in await deliver(store, "topic", now=SOON)]

    assert ["b"] == [each.course_id for each in await store.deliveries.claim("topic", SOON, 10, LEASE)]


async def test_what_was_written_and_refused_is_kept_for_good(store: Store) -> None:
    """Who, what, when, where, by which route, with what outcome; in the transaction of the delivery's own report."""
    await write(store, update(course("c")))
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await store.deliveries.park_delivery(claimed, "refused", NOW)
    await write(store, update(course("c", "r2")))
    made = Write("create", "CarePlan", "cp-1", "1"), Write("create", "Goal", "g-1", None)
    await deliver(store, "topic", now=SOON, writes=made)

    trail = await store.desk.audit("c")

    assert [(NOW, "r1", "refused", None), *((SOON, "r2", "success", each) for each in made)] == [
        (each.at, each.revision, each.outcome, each.write) for each in trail
    ]
    assert [None, "route", "route"] == [each.route for each in trail]
    assert {"topic"} == {each.destination for each in trail}
    assert all(each.agent.startswith("ipt-bridge ") for each in trail)
