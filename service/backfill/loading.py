"""Loading: portions into the intake in large batches, each patient projected as seldom as can be, progress kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from service.backfill.patience import insisting
from service.backfill.portions import Portion, Refusal
from service.batches import Batch
from service.rest.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from service.intake import Intake
    from service.store import BackfillJob, Store

BATCH_BYTES = 16 * 1024 * 1024
"""A batch that holds so much is stored, however few its records are."""
KEEP_S = 10.0
"""And so is one that waits so long for more (seconds)."""
MOST_PUT_OFF = 20_000
"""Patients that wait to be projected."""
MOST_FACTS = 100_000
"""Facts that wait with them: some 25 MB."""
PUT_OFF_S = 45.0
"""Patients are projected at this interval at the least (seconds): before they fall due for a running service, which
would not know what changed them."""


@dataclass(frozen=True, slots=True)
class Told:
    """How a backfill stands, for whoever watches."""

    done: int
    total: int | None
    """In any unit; None: not known."""
    records: int
    """Read by this run."""
    stage: str
    """What is under way; empty for reading."""


class Loading:
    """One run of a backfill's job."""

    def __init__(  # noqa: PLR0913 - where to, how far, and who is told
        self,
        store: Store,
        intake: Intake,
        job: BackfillJob,
        now: Callable[[], datetime],
        told: Callable[[Told], object],
        *,
        batch_size: int,
    ) -> None:
        """`intake` is this run's own; `told` hears of each portion; a batch holds so many records, and a portion."""
        self._batch_size = batch_size
        self._store = store
        self._intake = intake
        self._job = job
        self._now = now
        self._told = told
        self._counts: Counter[str] = Counter(job.counts)
        self._facts = 0
        self._clock = asyncio.get_running_loop().time
        self._projected_at = self._kept_at = self._clock()

    async def run(self, portions: AsyncIterator[Portion]) -> Counter[str]:
        """Store all portions, project who they touched, and return what was counted, by earlier runs of the job too.

        Counted are `read`, `relevant`, `irrelevant`, `awaited` and `parked` records, `courses` that changed, and
        resources `lacking`.

        Raises what `portions` raises, a refusal once all that came before it is stored, and StoreError while the
        database is away for long: what is stored stays, and the same job goes on after it.
        """
        batch, lacking, read = Batch(), 0, 0
        last: Portion | None = None
        refused: Permanent | Refusal | None = None
        try:
            async for portion in portions:
                await self._intake.read(portion.records, batch)
                lacking += portion.lacking
                last = portion
                read += len(portion.records)
                self._told(Told(portion.done, portion.total, read, portion.stage))
                waits = self._clock() - self._kept_at
                if len(batch.records) >= self._batch_size or batch.bytes >= BATCH_BYTES or waits >= KEEP_S:
                    await self._keep(batch, portion, lacking)
                    batch, lacking = Batch(), 0
        except (Permanent, Refusal) as error:
            refused = error
        if last is not None:
            await self._keep(batch, last, lacking)
        await self._catch_up()
        await insisting(self._intake.tell)
        # Patients whom a run that was ended had put off: it may have kept no position yet.
        await insisting(partial(self._store.take_up, self._now()))
        await insisting(self._intake.sweep)
        self._take_over()
        await self._save(done=refused is None)
        if refused is not None:
            raise refused
        return self._counts

    async def _keep(self, batch: Batch, portion: Portion, lacking: int) -> None:
        """Store a batch, then where to go on after it."""
        await insisting(partial(self._intake.process, batch, put_off=True))
        self._facts += len(batch.facts)
        waited = self._clock() - self._projected_at
        if self._facts >= MOST_FACTS or self._intake.put_off >= MOST_PUT_OFF or waited >= PUT_OFF_S:
            await self._catch_up()
        self._counts["read"] += len(batch.records)
        self._counts["lacking"] += lacking
        self._take_over()
        self._job = replace(self._job, position=portion.position)
        await self._save()
        self._kept_at = self._clock()

    async def _catch_up(self) -> None:
        await insisting(self._intake.catch_up)
        self._facts, self._projected_at = 0, self._clock()

    def _take_over(self) -> None:
        """Take over what the intake has counted."""
        self._counts.update(self._intake.stored)
        self._intake.stored.clear()

    async def _save(self, *, done: bool = False) -> None:
        self._job = replace(self._job, counts=dict(self._counts))
        await insisting(partial(self._store.backfills.keep, self._job, self._now(), done=done))
