"""A real FHIR server that is told of what was written there, as AuditEvents."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from service.auditing import AuditTeller, audited
from service.deliveries import Reconciler
from service.domain.mapping_files import vendor_profiles
from service.health import Health
from service.metrics import create_metrics
from service.outbound.agreement import Agreement
from service.outbound.audit_route import AuditRoute
from service.outbound.ehr import EhrDestination
from service.rest.client import FhirClient
from service.settings import Deliveries
from service.store import Destination as StoredDestination
from service.store import Store
from service.vitals import Vitals
from tests.ehrs import Records, masked, statement
from tests.integration.test_reconciler import update

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile
    from service.sandbox.hapi import FhirServer
    from service.store import AuditEntry

NAME = "ehr"
SETTINGS = Deliveries(lease_s=60)
BY_TAG = {"conditionalCreate": True, "searchParam": [{"name": "_tag", "type": "token"}]}


def stating(vendor: str, **audit_event: object) -> bytes:
    """Return a vendor's statement with what it says of AuditEvent; nothing for nothing."""
    whole = orjson.loads(statement(vendor))
    rest = whole["rest"][0]
    others = [each for each in rest["resource"] if each["type"] != "AuditEvent"]
    rest["resource"] = [*others, *([{"type": "AuditEvent", **audit_event}] if audit_event else [])]
    return orjson.dumps(whole)


@dataclass
class Site:
    """A store, and a FHIR server that plans go to and that is told of it."""

    store: Store
    base: str
    agreement: Agreement
    client: FhirClient
    vitals: Vitals
    mappings: Mappings
    course_id: str
    later: timedelta = timedelta(0)

    @property
    def route(self) -> AuditRoute:
        """The way to the server."""
        return AuditRoute(self.client, self.agreement)

    def now(self) -> datetime:
        """Return a time that the test can move."""
        return datetime.now(UTC) + self.later

    async def deliver(self) -> list[AuditEntry]:
        """Deliver the plan; return the writes that the audit trail has of it."""
        place = EhrDestination(NAME, self.client, agreement=self.agreement)
        reconciler = Reconciler(self.store, place, {"main": self.mappings}, SETTINGS, self.vitals)
        stop = asyncio.Event()
        running = asyncio.create_task(reconciler.run(stop))
        async with asyncio.timeout(60):
            while (await self.store.deliveries.pending(NAME)).count:  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.05)
        stop.set()
        await running
        return [each for each in await self.store.desk.audit(self.course_id) if each.write is not None]

    async def tell(self) -> None:
        """Tell what was not told, as the loop does once."""
        teller = AuditTeller(self.store, NAME, self.base, self.route, SETTINGS, self.vitals)
        await teller.tell(asyncio.Event())

    def counted(self, outcome: str) -> float | None:
        """Return how many attempts came to this."""
        labels = {"destination": NAME, "outcome": outcome}
        return self.vitals.metrics.registry.get_sample_value("ipt_bridge_audit_events_total", labels)


@asynccontextmanager
async def at(
    base: str, patient: str, mappings: Mappings, profiles: Mapping[str, VendorProfile], folder: Path
) -> AsyncIterator[Site]:
    """Open a site whose store has a course of the patient."""
    async with await Store.open(f"sqlite:///{folder}/store.sqlite") as store, FhirClient(base) as client:
        await store.migrate()
        one = update(patient, 3, mappings)
        async with store.transaction() as transaction:
            await transaction.lock([one.patient])
            await transaction.write([one], [StoredDestination(NAME)], datetime.now(UTC))
        agreement = Agreement(NAME, client, profiles)
        await agreement.ask()
        metrics = create_metrics(topics={"main": ()}, destinations=[NAME], reasons=[])
        vitals = Vitals(metrics, Health(), lambda: site.now())  # noqa: PLW0108 - the site is made of it
        site = Site(store, base, agreement, client, vitals, mappings, one.courses[0].course_id)
        yield site


@pytest.fixture
def profiles(mapping_files: dict[str, bytes]) -> dict[str, VendorProfile]:
    """Every vendor profile."""
    return vendor_profiles(mapping_files)


@pytest.fixture
def patient(fhir_server: FhirServer) -> str:
    """Id of a patient whom the server knows."""
    records = Records(fhir_server.base)
    try:
        return records.person()
    finally:
        records.close()


def told(base: str, patient: str) -> list[dict[str, Any]]:
    """Return the AuditEvents that the server finds for a patient, by the patient's reference or identifier."""
    with httpx.Client(base_url=f"{base}/", timeout=60) as http:
        found = http.get("AuditEvent", params={"_count": "500", "_sort": "-_lastUpdated"}).json()
    events = [entry["resource"] for entry in found.get("entry", [])]
    return [each for each in events if each["entity"][0]["what"]["identifier"]["value"] == f"Patient/{patient}"]


async def test_each_write_stands_as_audit_event_at_the_ehr_once(
    fhir_server: FhirServer, patient: str, mappings: Mappings, profiles: dict[str, VendorProfile], tmp_path: Path
) -> None:
    """Under an id of ours; a worker that was killed after the server had some leaves none out and none twice."""
    async with at(fhir_server.base, patient, mappings, profiles, tmp_path) as site:
        writes = await site.deliver()
        assert writes
        killed = await site.store.audit_marks.claim(NAME, site.now(), 10, timedelta(seconds=60))
        assert killed is not None
        for each in killed.rows[:2]:
            await site.route.tell(audited(each.entry, each.patient, site.base))
        await site.tell()
        assert 2 == len(told(site.base, patient))  # the lease holds
        site.later = timedelta(seconds=61)
        await site.tell()
        events = told(site.base, patient)
        assert len(writes) == len(events)
        assert 0 == await site.store.audit_marks.waiting(NAME)
        assert {"1"} == {each["meta"]["versionId"] for each in events}
        plan = next(each for each in writes if each.write and each.write.resource_type == "CarePlan").write
        assert plan is not None
        assert f"CarePlan/{plan.resource_id}" in {
            each["entity"][1]["what"]["reference"].partition("/_history/")[0] for each in events
        }
        assert {f"Patient/{patient}"} == {each["entity"][0]["what"]["reference"] for each in events}
        assert len(writes) == site.counted("told")


async def test_a_server_that_chooses_ids_is_told_once_where_it_finds_ours_by_tag(
    fhir_server: FhirServer, patient: str, mappings: Mappings, profiles: dict[str, VendorProfile], tmp_path: Path
) -> None:
    """Also where the answer is lost."""
    said = stating("medplum", interaction=[{"code": "create"}, {"code": "search-type"}], **BY_TAG)
    with masked(fhir_server.base, "medplum", profiles, said) as mask:
        async with at(mask.base, patient, mappings, profiles, tmp_path) as site:
            writes = await site.deliver()
            mask.lost.append("POST AuditEvent")
            await site.tell()
            assert (1, 0) == (site.counted("retried"), site.counted("told"))
            site.later = timedelta(seconds=61)
            await site.tell()
            assert len(writes) == len(told(fhir_server.base, patient)) == site.counted("told")


@pytest.mark.parametrize("audit_event", [{}, {"interaction": [{"code": "create"}]}])
async def test_plans_go_on_where_audit_events_are_refused_and_nothing_is_lost(  # noqa: PLR0917 - fixtures
    audit_event: dict[str, object],
    fhir_server: FhirServer,
    patient: str,
    mappings: Mappings,
    profiles: dict[str, VendorProfile],
    tmp_path: Path,
) -> None:
    """Not stated, or stated and forbidden all the same: the trail waits, and is told when the server takes it."""
    said = stating("medplum", **audit_event)
    with masked(fhir_server.base, "medplum", profiles, said) as mask:
        async with at(mask.base, patient, mappings, profiles, tmp_path) as site:
            mask.says(stating("medplum"))
            writes = await site.deliver()
            await site.tell()
            assert (1, len(writes)) == (site.counted("retried"), await site.store.audit_marks.waiting(NAME))
            mask.says(stating("medplum", interaction=[{"code": "create"}]))
            await site.agreement.ask()
            site.later = timedelta(hours=1)
            await site.tell()
            assert len(writes) == len(told(fhir_server.base, patient))
            assert 0 == await site.store.audit_marks.waiting(NAME)


async def test_what_was_deleted_in_the_ehr_meanwhile_is_told_by_identifier(
    fhir_server: FhirServer, patient: str, mappings: Mappings, profiles: dict[str, VendorProfile], tmp_path: Path
) -> None:
    """A server that holds references to what is there refuses those to what is gone."""
    async with at(fhir_server.base, patient, mappings, profiles, tmp_path) as site:
        writes = await site.deliver()
        async with httpx.AsyncClient(base_url=f"{fhir_server.base}/", timeout=60) as http:
            for kind in ("Provenance", "Flag", "Task", "CarePlan", "Goal"):
                for each in writes:
                    if each.write is not None and each.write.resource_type == kind:
                        gone = await http.delete(f"{kind}/{each.write.resource_id}")
                        gone.raise_for_status()
        await site.tell()
        events = told(fhir_server.base, patient)
        assert len(writes) == len(events)
        assert [] == [each for each in events if "reference" in each["entity"][1]["what"]]
