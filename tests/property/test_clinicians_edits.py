"""Clinicians work on the plan at random moments of its deliveries, on a real FHIR server.

Nothing of theirs is ever lost, nothing stands twice, and the plan is current when the last delivery has ended.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.domain.mapping_files import vendor_profiles
from service.outbound.agreement import Agreement
from service.outbound.careplan import render
from service.outbound.destination import PlanDelivery
from service.outbound.ehr import EhrDestination
from service.rest.client import FhirClient
from service.rest.errors import CONFLICT, Transient
from service.rest.transport import authorities
from tests import courses
from tests.clinicians import Clinician, Move, lacking, texts
from tests.courses import SAFETY
from tests.ehrs import masked, said
from tests.fault_proxy import fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile
    from service.sandbox.hapi import FhirServer
    from tests.fault_proxy import FaultProxy

NO_SHRINK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Making an example smaller takes hundreds of runs at a real server; the one that failed says its moves."""
WAIT_S = 60.0
LATEST = 40
"""So many requests, or fewer, are what a test's deliveries make while edits still come."""
PLAN, GOAL, TASK, FLAG = "careplan", "goal/phq-9", f"task/{SAFETY.id}", f"flag/{SAFETY.id}"
MOVES = (
    *(Move(PLAN, what) for what in ("note", "activity", "progress", "goal")),
    Move(GOAL, "note"),
    Move(TASK, "note"),
    Move(PLAN, "status", "revoked"),
    Move(PLAN, "status", "completed"),
    Move(GOAL, "lifecycleStatus", "rejected"),
    Move(GOAL, "lifecycleStatus", "cancelled"),
    Move(TASK, "status", "completed"),
    Move(FLAG, "status", "inactive"),
    Move(PLAN, "title", "A title of the clinician's own"),
    *(Move(role, "delete") for role in (PLAN, TASK, FLAG)),
)
MOMENTS = st.dictionaries(st.integers(0, LATEST), st.sampled_from(MOVES), max_size=8)
REVISIONS = st.integers(2, 4)
SERVERS: dict[str, tuple[str, dict[str, object]] | None] = {
    # Takes everything under our ids, in one transaction, and heeds If-Match.
    "checks-versions": None,
    # Our ids, but If-Match is not heeded: what is there is read before each update.
    "names-versions": ("hapi", {"versioning": "versioned"}),
    "chooses-ids": ("medplum", {}),
}


class Clinic:
    """What each example needs."""

    def __init__(self, base: str, profiles: dict[str, VendorProfile], mappings: Mappings) -> None:
        self.base = base
        self.profiles = profiles
        self.mappings = mappings


@pytest.fixture(scope="module")
def clinic(fhir_server: FhirServer, mapping_files: dict[str, bytes], mappings: Mappings) -> Clinic:
    """Return the real server, with the profiles and mappings that plans go by."""
    return Clinic(fhir_server.base, vendor_profiles(mapping_files), mappings)


@asynccontextmanager
async def opened(server: str, clinic: Clinic) -> AsyncIterator[tuple[EhrDestination, FaultProxy]]:
    """Open a kind of server as a destination, with a proxy that sees each request to it."""
    if (masking := SERVERS[server]) is None:
        async with fault_proxy(clinic.base) as proxy:
            place = EhrDestination("ehr", FhirClient(proxy.base, timeout_s=WAIT_S))
            yield place, proxy
            await place.close()
        return
    vendor, stated = masking
    with masked(clinic.base, vendor, clinic.profiles, said(vendor, **stated)) as mask:
        async with fault_proxy(mask.base) as proxy:
            client = FhirClient(proxy.base, timeout_s=WAIT_S)
            agreement = Agreement("ehr", client, clinic.profiles)
            await agreement.ask()
            place = EhrDestination("ehr", client, agreement=agreement)
            yield place, proxy
            await place.close()


# Each example is some sixty requests to a real server.
@pytest.mark.parametrize("server", SERVERS)
@settings(max_examples=4, deadline=None, phases=NO_SHRINK, suppress_health_check=[HealthCheck.too_slow])
@given(moments=MOMENTS, revisions=REVISIONS)
def test_nothing_that_a_clinician_does_is_lost_and_the_plan_is_current(
    server: str, moments: dict[int, Move], revisions: int, clinic: Clinic
) -> None:
    """Whenever they save: before a delivery, between its reading and its writing, or after it."""

    async def play() -> None:
        async with (
            opened(server, clinic) as (place, proxy),
            httpx.AsyncClient(base_url=f"{clinic.base}/", timeout=WAIT_S, verify=authorities()) as http,
        ):
            await _play(server, moments, revisions, place, proxy, http, clinic.mappings)

    asyncio.run(play())


async def _play(  # noqa: PLR0917 - what one example is made of
    server: str,
    moments: dict[int, Move],
    revisions: int,
    place: EhrDestination,
    proxy: FaultProxy,
    http: httpx.AsyncClient,
    mappings: Mappings,
) -> None:
    patient = f"p-{uuid.uuid4()}"
    (await http.put(f"Patient/{patient}", json={"resourceType": "Patient", "id": patient})).raise_for_status()
    course = replace(courses.course(patient, practitioners=()), findings=(SAFETY,))
    plan = render(course, mappings)
    clinician = Clinician(http, f"Patient/{patient}", dict(plan.resources), dict(moments))
    clinician.after_reading = server != "names-versions"
    proxy.before = clinician.act
    ledger: dict[str, Any] = {}
    for number in range(revisions):
        finding = replace(SAFETY, values=(*SAFETY.values, ("score", 1 + number % 3)))
        changes = (courses.change("phq-9", 17, 17 - number),)
        plan = render(replace(course, held=9 + number, changes=changes, findings=(finding,)), mappings)
        ledger = await _delivered(place, PlanDelivery(plan.course_id, str(number), number + 1, plan, (), ledger))
    proxy.before = None
    ours = dict(plan.resources)
    held = {role: await clinician.find(role) for role in ours if role != "provenance"}
    found = [text for role, resource in held.items() if resource is not None for text in texts(role, resource)]
    assert sorted(clinician.written) == sorted(found)
    for (role, element), value in clinician.set.items():
        if element != "title":  # an element of ours is put back, or left as they have it
            resource = held[role]
            assert resource is not None
            assert value == resource[element], role
    for role, resource in held.items():
        if resource is not None:
            edited = [element for by, element in clinician.set if by == role]
            assert [] == lacking(ours[role], resource, edited), role


async def _delivered(place: EhrDestination, delivery: PlanDelivery) -> dict[str, Any]:
    """Return the ledger after a delivery, tried again where somebody keeps saving in between."""
    ledger = delivery.ledger
    while True:
        again = PlanDelivery(delivery.course_id, delivery.revision, delivery.counter, delivery.plan, (), ledger)
        try:
            return dict((await place.deliver(again)).ledger)
        except Transient as error:
            if error.code != CONFLICT:
                raise
            ledger = again.progress.ledger or ledger
