"""A gap in the event numbers of a real FHIR server's feed: what was lost on the way is found at the server."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from service.backfill.catching_up import catch_up
from service.backfill.portions import topic_of
from service.gaps import GapWatch, searching
from service.inbound.records import Record
from service.rest.client import FhirClient
from service.store import GapClosed, Store
from tests.synthetic import SOURCE
from tests.workers import TOPICS, Clock, recorded, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.sandbox.hapi import FhirServer

IPT = {"coding": [{"system": "http://snomed.info/sct", "code": "443730003"}]}
OPEN_FOR = timedelta(minutes=5)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Store]:
    """A database with its tables."""
    async with await Store.open(f"sqlite:///{tmp_path}/store.sqlite") as store:
        await store.migrate()
        yield store


class Ehr:
    """A real FHIR server with one patient, and the notifications of what is written there."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.patient = f"gap-{uuid.uuid4().hex[:8]}"
        self._events = 0
        self._put({"resourceType": "Patient", "id": self.patient})

    def session(self, day: int) -> Record:
        """Write a session that was held on this day of March, and return the notification of it."""
        self._events += 1
        written = self._put(
            {
                "resourceType": "Encounter",
                "id": f"{self.patient}-{day}",
                "status": "finished",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
                "type": [IPT],
                "subject": {"reference": f"Patient/{self.patient}"},
                "period": {"start": f"2026-03-{day:02}T10:00:00Z", "end": f"2026-03-{day:02}T10:50:00Z"},
            }
        )
        event = {"eventNumber": self._events, "timestamp": written["meta"]["lastUpdated"]}
        event |= {"focus": {"reference": f"Encounter/{written['id']}"}}
        status = {
            "resourceType": "SubscriptionStatus",
            "status": "active",
            "type": "event-notification",
            "subscription": {"reference": f"{self.base}/Subscription/s-1"},
            "notificationEvent": [event],
        }
        bundle = {"resourceType": "Bundle", "type": "history", "entry": [{"resource": status}, {"resource": written}]}
        return Record("Encounter", 0, self._events, datetime.now(UTC), None, orjson.dumps(bundle))

    def _put(self, resource: dict[str, Any]) -> dict[str, Any]:
        address = f"{self.base}/{resource['resourceType']}/{resource['id']}"
        answer = httpx.put(address, json=resource, headers={"Prefer": "return=representation"}, timeout=60)
        answer.raise_for_status()
        written: dict[str, Any] = answer.json()
        return written


async def test_session_whose_notification_was_lost_is_found_and_counted(
    fhir_server: FhirServer, database: Store, mappings: Mappings
) -> None:
    """Once the gap has stayed open; nothing else changes, and the gap is closed."""
    clock = Clock(datetime.now(UTC))
    one = worker(database, mappings, clock, topics=(*TOPICS, topic_of(SOURCE.id)))
    ehr = Ehr(fhir_server.base)
    first, _lost, third = (ehr.session(day) for day in (2, 9, 16))
    await one.intake.process(await one.intake.read([first, third]))
    assert 2 == len((await recorded(database, ehr.patient)).facts)

    async with FhirClient(ehr.base, timeout_s=30) as client:
        woken: list[bool] = []
        find = partial(catch_up, client, one.intake, SOURCE, TOPICS, now=clock)
        search = searching(find, database.backfills, TOPICS, lambda: woken.append(True), clock)
        watch = GapWatch(database, OPEN_FOR, {SOURCE.id: search}, one.vitals)
        clock.at += OPEN_FOR
        await watch.look()
        assert {SOURCE.id: 1} == await database.sources.open_gaps()
        assert await watch.search(SOURCE.id)
        assert not await watch.search(SOURCE.id)

    found = await recorded(database, ehr.patient)
    assert {f"Encounter/{ehr.patient}-{day}" for day in (2, 9, 16)} == {fact.key.reference for fact in found.facts}
    overview = await database.sources.overview(SOURCE.id, clock.at)
    assert ((), {GapClosed.SEARCHED: 1}) == (overview.gaps, overview.gaps_closed)
    assert third.timestamp == overview.latest
    assert woken
