"""How far each destination has been told of the audit trail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from service.store import Write
from service.store.dialects import create_engine
from tests.integration.store.samples import LATER, LEASE, NOW, SOON, course, deliver, update, write

if TYPE_CHECKING:
    from service.store import Store

HANGS_S = 20.0
"""After so long a test says that what it waits for does not come (seconds)."""
MADE = Write("create", "CarePlan", "cp-1", "1"), Write("create", "Goal", "g-1", "1")


async def test_what_was_written_is_claimed_once_in_order(store: Store, other: Store) -> None:
    """By one worker at a time, from where the last one got to; what was refused tells of no access."""
    await write(store, update(course("c")))
    (claimed,) = await store.deliveries.claim("topic", NOW, 10, LEASE)
    await store.deliveries.park_delivery(claimed, "refused", NOW)
    assert 0 == await store.audit_marks.waiting("topic")
    await write(store, update(course("c", "r2")))
    await deliver(store, "topic", writes=MADE)
    assert (2, 0) == (await store.audit_marks.waiting("topic"), await store.audit_marks.waiting("ehr"))

    first = await store.audit_marks.claim("topic", NOW, 10, LEASE)
    assert first is not None
    assert list(MADE) == [each.entry.write for each in first.rows]
    assert ["anna", "anna"] == [each.patient.patient_id for each in first.rows]
    assert None is await other.audit_marks.claim("topic", SOON, 10, LEASE)
    assert await store.audit_marks.told(first, first.rows[0].entry.row)

    second = await other.audit_marks.claim("topic", LATER, 10, LEASE)
    assert second is not None
    assert [MADE[1]] == [each.entry.write for each in second.rows]
    assert not await store.audit_marks.told(first, first.rows[1].entry.row)
    assert await other.audit_marks.told(second, second.rows[0].entry.row)
    await other.audit_marks.release(second)
    assert None is await store.audit_marks.claim("topic", LATER, 10, LEASE)


async def test_nobody_is_told_anything_before_the_wait_is_over_or_while_it_is_paused(store: Store) -> None:
    """After a failure, and at a person's word."""
    await write(store, update(course("c")))
    await deliver(store, "topic", writes=MADE)
    claimed = await store.audit_marks.claim("topic", NOW, 10, LEASE)
    assert claimed is not None
    await store.audit_marks.release(claimed, SOON)
    assert None is await store.audit_marks.claim("topic", NOW, 10, LEASE)
    await store.desk.pause("topic", NOW)
    assert None is await store.audit_marks.claim("topic", SOON, 10, LEASE)
    await store.desk.resume("topic")
    assert await store.audit_marks.claim("topic", SOON, 10, LEASE) is not None


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has one writer: nothing is under way meanwhile
async def test_no_write_that_is_committed_late_is_passed_by(store: Store, url: str) -> None:
    """PostgreSQL gives rows their numbers before they are committed: while one is under way, nothing is claimed.

    Nor is it waited for until it ends, as every acknowledgement would queue behind.
    """
    await write(store, update(course("c")))
    engine = create_engine(url, 1)
    columns = "at, agent, course_id, destination, revision, counter, outcome, action, resource_type, resource_id"
    late = f"INSERT INTO audit ({columns}) VALUES (1, 'a', 'c', 'topic', 'r', 1, 'success', 'create', 'Goal', 'late')"  # noqa: S608 - all of it stands here
    async with engine.connect() as connection:
        await connection.execute(text(late))
        await deliver(store, "topic", writes=MADE)
        async with asyncio.timeout(HANGS_S):
            assert None is await store.audit_marks.claim("topic", NOW, 10, LEASE)
        await connection.commit()
    await engine.dispose()
    claimed = await store.audit_marks.claim("topic", NOW, 10, LEASE)
    assert claimed is not None
    assert ["late", "cp-1", "g-1"] == [each.entry.write.resource_id for each in claimed.rows if each.entry.write]
