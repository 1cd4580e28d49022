"""Writing courses, their history, and what becomes of those that are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.store import HistoryEntry, PatientUpdate, StoredCourse
from tests.integration.store.samples import (
    ANNA,
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
    gone,
    update,
    write,
)

if TYPE_CHECKING:
    from service.store import Store

BOTH = (TOPIC, EHR)


async def stored(store: Store, course_id: str) -> StoredCourse:
    """The one course with this id."""
    (found,) = await store.operators.courses(course_id)
    return found


async def test_first_revision_is_stored_and_counted(store: Store) -> None:
    """A course begins with counter 1."""
    assert ("c",) == await write(store, update(course("c")))

    expected = StoredCourse("c", ANNA, "Encounter/c", "middle", "r1", 1, b'"r1"', gone=False)
    assert [expected] == await store.operators.courses_of_patient("anna")
    async with store.transaction() as transaction:
        assert {ANNA: [expected], BEN: []} == await transaction.courses_of([ANNA, BEN])


async def test_same_revision_writes_nothing(store: Store) -> None:
    """A projection that found what is stored leaves counter, history and deliveries alone."""
    await write(store, update(course("c")))
    await deliver(store, "topic")

    assert () == await write(store, update(course("c")))
    assert 1 == len(await store.operators.history("c"))
    assert 0 == (await store.deliveries.pending("topic")).count


async def test_history_keeps_each_revision_with_its_causes(store: Store) -> None:
    """Each tells which facts caused it, which findings it opened and closed, its phase, and why that went back."""
    await write(store, update(course("c", cause=("Encounter/1",), opened=("f1", "f2"))))
    second = replace(course("c", "r2", cause=("Encounter/2",), closed=("f1",)), reason="corrected")
    await write(store, update(second), now=LATER)

    assert [
        HistoryEntry(1, "r1", False, NOW, NOW, ("Encounter/1",), ("f1", "f2"), (), "middle"),  # noqa: FBT003 - a row's value
        HistoryEntry(2, "r2", False, NOW, LATER, ("Encounter/2",), (), ("f1",), "middle", "corrected"),  # noqa: FBT003 - as above
    ] == await store.operators.history("c")


async def test_patient_falls_due_when_the_projection_said(store: Store) -> None:
    """The sweeper finds the patients whose courses time alone changes, longest due first."""
    await write(store, update(due=SOON), update(patient=BEN, due=NOW))

    assert [BEN] == await store.due_patients(NOW, 10)
    assert [BEN, ANNA] == await store.due_patients(SOON, 10)
    assert [BEN] == await store.due_patients(SOON, 1)

    await write(store, update(), update(patient=BEN, due=LATER))

    assert [] == await store.due_patients(SOON, 10)


async def test_course_that_is_gone_is_retracted_where_it_was_sent(store: Store) -> None:
    """Its last state stays; each destination that has its plan is to get the retraction."""
    await write(store, update(course("c")))
    await deliver(store, "topic")

    assert ("c",) == await write(store, update(gone=(gone("c"),)))

    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    assert (True, "c-retracted", 2, b'"r1"') == (claimed.gone, claimed.revision, claimed.counter, claimed.state)
    assert [False, True] == [each.gone for each in await store.operators.history("c")]


async def test_course_that_is_gone_before_it_was_sent_needs_no_retraction(store: Store) -> None:
    """No destination hears of a course that none has heard of."""
    await write(store, update(course("c")))
    await write(store, update(gone=(gone("c"),)))

    assert [] == await store.deliveries.claim("topic", LATER, 10, LEASE)
    assert 0 == (await store.deliveries.pending("topic")).count


async def test_course_that_is_gone_already_is_left_alone(store: Store) -> None:
    """Saying it twice changes nothing."""
    await write(store, update(course("c")))
    await write(store, update(gone=(gone("c"),)))

    assert () == await write(store, update(gone=(gone("c"),)))


async def test_course_that_comes_back_is_revived_with_the_next_counter(store: Store) -> None:
    """The same id, the same state: yet another revision, to be delivered over the retraction."""
    await write(store, update(course("c")))
    await deliver(store, "topic")
    await write(store, update(gone=(gone("c"),)))
    await deliver(store, "topic")

    await write(store, update(course("c")))

    assert (False, 3) == ((await stored(store, "c")).gone, (await stored(store, "c")).counter)
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    assert (False, "r1", 3) == (claimed.gone, claimed.revision, claimed.counter)


async def test_course_that_takes_anothers_place_goes_on_with_its_resources(store: Store) -> None:
    """A clinician's CarePlan stays the same one; a topic gets a retraction for the old key."""
    await write(store, update(course("old")), to=BOTH)
    await deliver(store, "ehr", REMOTE)
    await deliver(store, "topic")

    await write(store, update(course("new"), gone=(gone("old", "new"),)), to=BOTH)

    assert [("new", REMOTE, "route")] == [
        (each.course_id, each.remote, each.route) for each in await store.deliveries.claim("ehr", NOW, 10, LEASE)
    ]
    assert [("new", False), ("old", True)] == sorted(
        (each.course_id, each.gone) for each in await store.deliveries.claim("topic", NOW, 10, LEASE)
    )
    assert ("new", {}) == (
        (await delivery(store, "old", "ehr")).handed_to,
        (await delivery(store, "old", "ehr")).remote,
    )
    assert "new" == (await stored(store, "old")).superseded_by


async def test_resources_go_back_when_the_first_course_comes_back(store: Store) -> None:
    """An anchor that moves there and back leaves one set of resources, with the course that stands."""
    await write(store, update(course("a")), to=BOTH)
    await deliver(store, "ehr", REMOTE)
    await write(store, update(course("b"), gone=(gone("a", "b"),)), to=BOTH)
    await deliver(store, "ehr")

    await write(store, update(course("a"), gone=(gone("b", "a"),)), to=BOTH)

    assert [("a", REMOTE)] == [(each.course_id, each.remote) for each in await deliver(store, "ehr")]
    assert {} == (await delivery(store, "b", "ehr")).remote
    assert 0 == (await store.deliveries.pending("ehr")).count


async def test_course_without_known_resources_is_retracted_for_itself(store: Store) -> None:
    """While a first delivery is under way nobody knows what it made: the old course is retracted afterwards."""
    await write(store, update(course("old")), to=(EHR,))
    (under_way,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)
    await write(store, update(course("new"), gone=(gone("old", "new"),)), to=(EHR,))
    await deliver(store, "ehr", only="new")

    await store.deliveries.acknowledge([done(under_way, REMOTE)], SOON)

    (claimed,) = await store.deliveries.claim("ehr", SOON, 10, LEASE)
    assert ("old", True, REMOTE) == (claimed.course_id, claimed.gone, claimed.remote)


async def test_successor_has_the_last_word_over_a_delivery_under_way(store: Store) -> None:
    """It waits for the old course's attempt to end, and is sent after it."""
    await write(store, update(course("old")), to=(EHR,))
    await deliver(store, "ehr", REMOTE)
    await write(store, update(course("old", "r2")), to=(EHR,))
    (under_way,) = await store.deliveries.claim("ehr", NOW, 10, LEASE)

    await write(store, update(course("new"), gone=(gone("old", "new"),)), to=(EHR,))
    waiting = await store.deliveries.claim("ehr", SOON, 10, LEASE)
    await store.deliveries.acknowledge([done(under_way, REMOTE)], SOON)

    assert [] == waiting
    assert ["new"] == [each.course_id for each in await store.deliveries.claim("ehr", SOON, 10, LEASE)]
    assert {} == (await delivery(store, "old", "ehr")).remote


async def test_patients_projected_with_other_mappings_fall_due(store: Store) -> None:
    """A changed threshold reaches every course, with no new event."""
    async with store.transaction() as transaction:
        await transaction.lock([ANNA])
        await transaction.write([PatientUpdate(ANNA, None, NOW, mappings="old")], [], NOW)
    assert 0 == await store.project_again(ANNA.source, "old", NOW)
    assert [] == await store.due_patients(NOW, 10)
    assert 1 == await store.project_again(ANNA.source, "new", NOW)
    assert [ANNA] == await store.due_patients(NOW, 10)
