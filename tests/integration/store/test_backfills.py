"""How far a backfill has come outlives whatever ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.store import BackfillJob
from tests.integration.store.samples import LATER, NOW

if TYPE_CHECKING:
    from service.store import Store

NEW = BackfillJob("a1", "main", "files", {}, {})
HALF = replace(NEW, position={"file": 2, "link": "p?x=\u00e9"}, counts={"relevant": 7})


async def begun(store: Store, *, anew: bool = False) -> BackfillJob:
    """Begin the job, or go on with it."""
    return await store.backfills.begin("a1", "main", "files", LATER, anew=anew)


async def test_job_begins_at_its_beginning(store: Store) -> None:
    """With nothing counted."""
    assert NEW == await begun(store)


async def test_job_goes_on_where_it_was_left(store: Store, other: Store) -> None:
    """Whoever goes on with it; another job is none of its business."""
    await begun(store)
    await store.backfills.begin("b2", "main", "files", NOW)
    await store.backfills.keep(HALF, NOW)
    assert HALF == await begun(other)


async def test_job_that_is_done_begins_again(store: Store) -> None:
    """To read once more what may have changed."""
    await begun(store)
    await store.backfills.keep(HALF, NOW, done=True)
    assert NEW == await begun(store)
    await store.backfills.keep(HALF, LATER)
    assert HALF == await begun(store)


async def test_job_can_be_begun_anew(store: Store) -> None:
    """Where a person says so."""
    await begun(store)
    await store.backfills.keep(HALF, NOW)
    assert NEW == await begun(store, anew=True)
