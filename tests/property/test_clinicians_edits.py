"""A clinician writes into the plan at random moments of its deliveries, on a real FHIR server.

Nothing of theirs is ever lost, nothing stands twice, and the plan is current when the last delivery has ended.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.outbound.careplan import render
from service.outbound.destination import PlanDelivery
from service.outbound.ehr import EhrDestination
from service.rest.client import FhirClient
from service.rest.errors import CONFLICT, Transient
from tests import courses
from tests.fault_proxy import fault_proxy

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.sandbox.hapi import FhirServer

WAIT_S = 60.0
LATEST = 24
"""So many requests, or fewer, are what a test's deliveries make while edits still come."""
KINDS = ("note", "activity", "progress", "goal-note")
EDITS = st.dictionaries(st.integers(0, LATEST), st.sampled_from(KINDS), max_size=8)
REVISIONS = st.integers(2, 4)


@dataclass
class Clinician:
    """Somebody who opens the plan, adds something, and saves it, as an EHR lets them: never over another's save."""

    http: httpx.AsyncClient
    course: Course
    moments: dict[int, str]
    """What they add, by the number of the request of ours that it comes before."""
    requests: int = 0
    written: list[tuple[str, str]] = field(default_factory=list)

    async def act(self) -> None:
        """Add what is due before this request, if the plan is there."""
        kind = self.moments.pop(self.requests, None)
        self.requests += 1
        if kind is not None:
            await self.add(kind)

    async def add(self, kind: str) -> None:
        """Add a text of their own, tried again while others save in between."""
        text = f"Theirs {uuid.uuid4()}"
        reference = f"Goal/{self.course.resource_id('goal/phq-9')}"
        if kind != "goal-note":
            reference = f"CarePlan/{self.course.resource_id('careplan')}"
        while True:
            found = await self.http.get(reference)
            if found.status_code == httpx.codes.NOT_FOUND:
                return
            resource = found.raise_for_status().json()
            headers = {"If-Match": found.headers["ETag"]}
            saved = await self.http.put(reference, json=_with(resource, kind, text), headers=headers)
            if saved.status_code not in {httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED}:
                saved.raise_for_status()
                self.written.append((kind, text))
                return

    async def found(self) -> list[tuple[str, str]]:
        """Return all that the plan holds of theirs."""
        plan = await self.read(f"CarePlan/{self.course.resource_id('careplan')}")
        goal = await self.read(f"Goal/{self.course.resource_id('goal/phq-9')}")
        told = [("note", each["text"]) for each in plan.get("note", [])]
        told += [("goal-note", each["text"]) for each in goal.get("note", [])]
        for activity in plan.get("activity", []):
            told += [("progress", each["text"]) for each in activity.get("progress", [])]
            told.append(("activity", activity.get("detail", {}).get("description", "")))
        return [each for each in told if each[1].startswith("Theirs ")]

    async def read(self, reference: str) -> dict[str, Any]:
        """Return a resource as it stands."""
        found: dict[str, Any] = (await self.http.get(reference)).raise_for_status().json()
        return found


def _with(resource: dict[str, Any], kind: str, text: str) -> dict[str, Any]:
    match kind:
        case "activity":
            added = {"detail": {"status": "not-started", "description": text}}
            return {**resource, "activity": [*resource.get("activity", []), added]}
        case "progress":
            first, *others = resource["activity"]
            return {
                **resource,
                "activity": [{**first, "progress": [*first.get("progress", []), {"text": text}]}, *others],
            }
        case _:
            return {**resource, "note": [*resource.get("note", []), {"text": text}]}


# Each example is some thirty requests to a real server.
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moments=EDITS, revisions=REVISIONS)
def test_nothing_that_a_clinician_writes_is_lost_and_the_plan_is_current(
    moments: dict[int, str], revisions: int, fhir_server: FhirServer, mappings: Mappings
) -> None:
    """Whenever they save: before a delivery, between its reading and its writing, or after it."""
    asyncio.run(_play(dict(moments), revisions, fhir_server.base, mappings))


async def _play(moments: dict[int, str], revisions: int, base: str, mappings: Mappings) -> None:
    patient = f"p-{uuid.uuid4()}"
    course = courses.course(patient, practitioners=())
    async with (
        fault_proxy(base) as proxy,
        httpx.AsyncClient(base_url=f"{base}/", timeout=WAIT_S) as http,
    ):
        (await http.put(f"Patient/{patient}", json={"resourceType": "Patient", "id": patient})).raise_for_status()
        clinician = Clinician(http, course, moments)
        proxy.before = clinician.act
        place = EhrDestination("ehr", FhirClient(proxy.base, timeout_s=WAIT_S))
        ledger: dict[str, Any] = {}
        plan = render(course, mappings)
        for number in range(revisions):
            revision = replace(course, held=9 + number, changes=(courses.change("phq-9", 17, 17 - number),))
            plan = render(revision, mappings)
            ledger = await _delivered(place, PlanDelivery(plan.course_id, str(number), number + 1, plan, (), ledger))
        proxy.before = None
        await place.close()
        held = await clinician.read(f"CarePlan/{course.resource_id('careplan')}")
        ours = plan.resources[0][1]
        assert sorted(clinician.written) == sorted(await clinician.found())
        assert [ours["text"], ours["title"]] == [held["text"], held["title"]]
        mine = [each["id"] for each in ours["activity"]]
        assert mine == [each["id"] for each in held["activity"] if each.get("id") in mine]
        bundle = await clinician.read(f"CarePlan?subject=Patient/{patient}")
        assert 1 == len(bundle["entry"])


async def _delivered(place: EhrDestination, delivery: PlanDelivery) -> dict[str, Any]:
    """Return the ledger after a delivery, tried again where somebody keeps saving in between."""
    while True:
        try:
            return dict((await place.deliver(delivery)).ledger)
        except Transient as error:
            if error.code != CONFLICT:
                raise
