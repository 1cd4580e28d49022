"""Backfills: how far each has come, so that the same command goes on after whatever ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import select, update

from service.store.dialects import insert
from service.store.instants import micros
from service.store.tables import backfill
from service.store.values import BackfillJob

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from service.store.connections import Connections


class Backfills:
    """The jobs of all sources; each method is a transaction of its own. Found at `Store.backfills`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def begin(self, job: str, source: str, kind: str, now: datetime, *, anew: bool = False) -> BackfillJob:
        """Return the job of this id where it stands; from its beginning if it is new, was done, or is begun `anew`."""
        at = micros(now)
        begun = {"position": "{}", "counts": "{}", "started_at": at, "changed_at": at, "done": False}
        inserting = insert(self._connections.dialect, backfill).values(job=job, source=source, kind=kind, **begun)
        statement = inserting.on_conflict_do_nothing()
        over = update(backfill).where(backfill.c.job == job, *(() if anew else (backfill.c.done,))).values(**begun)
        found = select(backfill.c.position, backfill.c.counts).where(backfill.c.job == job)
        async with self._connections.writing() as connection:
            await connection.execute(statement)
            await connection.execute(over)
            position, counts = (await connection.execute(found)).one()
        return BackfillJob(job, source, kind, orjson.loads(position), orjson.loads(counts))

    async def keep(self, job: BackfillJob, now: datetime, *, done: bool = False) -> None:
        """Store how far a job has come; what came before its position is in the store."""
        values: dict[str, Any] = {
            "position": _json(job.position),
            "counts": _json(job.counts),
            "changed_at": micros(now),
            "done": done,
        }
        async with self._connections.writing() as connection:
            await connection.execute(update(backfill).where(backfill.c.job == job.id).values(**values))


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(value)).decode()
