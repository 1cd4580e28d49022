"""Beside the deliveries: each FHIR destination that is to have it is told what was written there, as AuditEvents.

The audit trail in the store is whole without this. What can't be told waits, the first one first; no plan
waits for it. A destination's mark moves on after each answer, so that a worker that ends tells at most one
again. One that is refused for good is passed over where the destination takes others.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import structlog

from service.outbound.audit import Audited, Write
from service.outbound.audit_route import NOT_TAKEN
from service.rest.backoff import Backoff
from service.rest.errors import NEVER_RETRIED, Permanent, Transient
from service.store.errors import is_transient

if TYPE_CHECKING:
    from service.domain.facts import PatientKey
    from service.outbound.audit import Action
    from service.outbound.audit_route import AuditRoute
    from service.settings import Deliveries
    from service.store import Store
    from service.store.values import AuditEntry, ClaimedAudit, Untold
    from service.vitals import Vitals

log = structlog.get_logger(__name__)

LOOK_S = 5.0
"""How often to look for writes that were not told of (seconds)."""
AT_ONCE = 50
"""Writes told of under one lease, one after the other: plans go before."""


def audited(entry: AuditEntry, patient: PatientKey, base: str | None) -> Audited:
    """Return what an AuditEvent tells of a line of the trail that has a write; `base` is the destination's."""
    if entry.write is None:
        message = "This line of the audit trail tells of no write."
        raise ValueError(message)
    action = cast("Action", entry.write.action)
    return Audited(
        at=entry.at,
        write=Write(action, *entry.write[1:]),
        destination=entry.destination,
        base=base,
        course_id=entry.course_id,
        source=patient.source,
        patient_id=patient.patient_id,
        revision=entry.revision,
        row=entry.row,
    )


class AuditTeller:
    """Tells one destination, again and again."""

    def __init__(  # noqa: PLR0913, PLR0917 - what `serve` has made
        self, store: Store, name: str, base: str, route: AuditRoute, settings: Deliveries, vitals: Vitals
    ) -> None:
        """`name` and `base` are the destination's."""
        self._marks = store.audit_marks
        self._name = name
        self._base = base
        self._route = route
        self._lease = timedelta(seconds=settings.lease_s)
        self._backoff = Backoff(settings.backoff_s, settings.backoff_max_s)
        self._vitals = vitals
        self._counts = vitals.metrics.audit_events
        self._failed = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Tell until `stop` is set."""
        while not stop.is_set():
            self._vitals.turn("audit")
            try:
                is_full = await self.tell(stop)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("the database is away; the audit trail is told later", exc_info=error)
                is_full = False
            if not is_full:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_S)
        self._vitals.health.ended("audit")

    async def tell(self, stop: asyncio.Event) -> bool:
        """Tell of what was not told, up to AT_ONCE; return whether there may be more. Raises StoreError."""
        claimed = await self._marks.claim(self._name, self._vitals.now(), AT_ONCE, self._lease)
        if claimed is None:
            return False
        again = None
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                is_told = await self._tell_all(claimed, stop)
        except TimeoutError:
            return True  # the lease is over: another worker may have gone on
        except Transient as error:
            again = self._wait(error.code, error.retry_after)
        except Permanent as error:
            again = self._wait(error.code, None)
        except Exception as error:
            # No AuditEvent can be made: the service goes on, and a person sees it.
            if is_transient(error):
                raise
            log.exception("no AuditEvent can be told", destination=self._name, exc_info=error)
            again = self._wait("failed", None)
        else:
            if not is_told:
                return True
        await self._marks.release(claimed, None if again is None else self._vitals.now() + again)
        return again is None and len(claimed.rows) == AT_ONCE

    async def _tell_all(self, claimed: ClaimedAudit, stop: asyncio.Event) -> bool:
        """Return whether the lease held to the end. Raises why the first was refused, where all of them were."""
        takes_others = False
        refused: list[tuple[int, Exception]] = []
        for each in claimed.rows:
            if stop.is_set():
                break
            self._vitals.turn("audit")
            error = await self._refusal(each)
            if error is not None:
                refused.append((each.entry.row, error))
            # Until one is taken, nobody can tell whether all would be refused: then nothing is passed over.
            takes_others = takes_others or error is None or _code(error) == NEVER_RETRIED
            if takes_others:
                if not await self._marks.told(claimed, each.entry.row):
                    return False
                self._passed_over(refused)
                refused = []
        if refused:
            raise refused[0][1]
        return True

    async def _refusal(self, untold: Untold) -> Exception | None:
        """Tell of a write; return why it is refused for good, None if it is not. Raises all that may pass by itself."""
        try:
            await self._route.tell(audited(untold.entry, untold.patient, self._base))
        except Exception as error:
            if isinstance(error, Transient) or is_transient(error) or _code(error) == NOT_TAKEN:
                raise
            return error
        self._counts(self._name, "told").inc()
        self._failed = 0
        return None

    def _passed_over(self, refused: list[tuple[int, Exception]]) -> None:
        for row, error in refused:
            self._counts(self._name, "refused").inc()
            log.error(
                "an AuditEvent is refused and passed over",
                destination=self._name,
                row=row,
                code=_code(error),
                exc_info=error,
            )

    def _wait(self, code: str, retry_after: float | None) -> timedelta:
        """Return how long nobody tells this destination anything."""
        self._failed += 1
        self._counts(self._name, "retried").inc()
        wait = self._backoff.wait(self._failed, retry_after, random.random())  # noqa: S311 - spreads load
        log.warning(
            "a destination did not take an AuditEvent; trying again",
            destination=self._name,
            code=code,
            attempts=self._failed,
            wait_s=round(wait.total_seconds(), 1),
        )
        return wait


def _code(error: Exception) -> str:
    return error.code if isinstance(error, Permanent) else "failed"
