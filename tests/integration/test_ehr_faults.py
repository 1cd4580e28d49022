"""The whole second loop against a real FHIR server behind everything that can go wrong at the HTTP edge.

The oracle of each fault: what becomes of the delivery, and that afterwards, without anybody's help or after a
person's retry where one is needed, the chart holds exactly one CarePlan of the course, and it is the wanted one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme
from msgspec.structs import replace

from service.app import now
from service.deliveries import FAILURES, FOR_A_PATIENT, Reconciler
from service.domain import state
from service.domain.course import course_id
from service.domain.facts import PatientKey
from service.health import Health
from service.metrics import create_metrics
from service.outbound.careplan import render
from service.outbound.destination import PlanDelivery
from service.outbound.ehr import EhrDestination
from service.rest.client import FhirClient
from service.rest.errors import Transient
from service.rest.transport import authorities
from service.settings import Deliveries
from service.store import PATIENT_MISSING, CourseUpdate, Destination, ParkedState, PatientUpdate, Store
from service.vitals import Vitals
from tests import courses
from tests.fault_proxy import Fault, How, fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.sandbox.hapi import FhirServer
    from tests.fault_proxy import FaultProxy

PLANS = Destination("plans", takes_over=True)
"""The name that the tests' metrics know."""
DEADLINE_S = 90.0
HASTY_S = 3.0
"""Longest wait for an answer where none comes (seconds)."""
PATIENT_S = 60.0
"""And where the server answers, on however busy a machine (seconds)."""
POLL_S = 0.1
FEW_BYTES = 2_000_000
OUTCOME = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing"}]}'


def answered(status: str, *headers: str, body: bytes = OUTCOME, media_type: str = "application/fhir+json") -> Fault:
    """Return a fault that is an answer."""
    return Fault(How.ANSWERED, status, headers, body, media_type)


DELIVERED, RETRIED = "delivered", "retried"
FAULTS: dict[str, tuple[Fault, str, str]] = {
    # What goes wrong, then what becomes of it at the first creation, and at an update under If-Match.
    "400": (answered("400 Bad Request"), "http-400", "http-400"),
    "401": (answered("401 Unauthorized"), RETRIED, RETRIED),
    "403": (answered("403 Forbidden"), "forbidden", "forbidden"),
    "404": (answered("404 Not Found"), DELIVERED, DELIVERED),  # it takes no transactions; or: re-read, it is there
    "409": (answered("409 Conflict"), DELIVERED, DELIVERED),
    "410": (answered("410 Gone"), "http-410", DELIVERED),
    "412": (answered("412 Precondition Failed"), DELIVERED, DELIVERED),
    "413": (answered("413 Content Too Large"), "http-413", "http-413"),
    "422": (answered("422 Unprocessable Content"), "http-422", "http-422"),
    "429": (answered("429 Too Many Requests", "Retry-After: 1"), RETRIED, RETRIED),
    "500": (answered("500 Internal Server Error"), RETRIED, RETRIED),
    "502": (answered("502 Bad Gateway", body=b"<html></html>", media_type="text/html"), RETRIED, RETRIED),
    "503": (answered("503 Service Unavailable", "Retry-After: 1"), RETRIED, RETRIED),
    "no answer, nothing done": (Fault(How.LOST), RETRIED, RETRIED),
    "no answer, though done": (Fault(How.LOST_AFTER), RETRIED, RETRIED),
    "reset in mid-body": (Fault(How.CUT_AFTER), RETRIED, RETRIED),
    "HTML": (answered("200 OK", body=b"<html>log in</html>", media_type="text/html"), RETRIED, RETRIED),
    "endless body": (Fault(How.ENDLESS), "answer-too-large", "answer-too-large"),
    "redirect": (answered("307 Temporary Redirect", "Location: /elsewhere", body=b""), RETRIED, RETRIED),
}
CREATION = {name: (fault, at_creation) for name, (fault, at_creation, _) in FAULTS.items()}
UPDATE = {name: (fault, at_update) for name, (fault, _, at_update) in FAULTS.items()}


@dataclass(slots=True)
class Later:
    """The present, and as much later as a test has waited."""

    waited_s: float = 0.0

    def __call__(self) -> datetime:
        """Return the time."""
        return now() + timedelta(seconds=self.waited_s)


@dataclass(frozen=True, slots=True)
class Scene:
    """One course, its patient known to the server, and the loop that delivers it through the proxy."""

    store: Store
    proxy: FaultProxy
    told: Vitals
    loop: Reconciler
    course: Course
    mappings: Mappings
    http: httpx.AsyncClient
    clock: Later

    async def want(self, course: Course) -> None:
        """Store a course whose plan is wanted."""
        at = self.told.now()
        content = state.dump(course)
        revision = state.revision(content, self.mappings)
        update = CourseUpdate(course.id, course.anchor, course.phase, revision, content)
        key = PatientKey(course.source, course.patient_id)
        async with self.store.transaction() as transaction:
            await transaction.lock([key])
            await transaction.write([PatientUpdate(key, None, at, (update,))], [PLANS], at)

    async def settled(self) -> None:
        """Wait until the plan has arrived, or a person must look."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.loop.wake()
            (found,) = await self.store.operators.deliveries(self.course.id)
            if found.next_attempt is None:
                return
            assert time.monotonic() < deadline, found.outcome
            await asyncio.sleep(POLL_S)

    def counted(self, outcome: str) -> float:
        """Return how many attempts ended so."""
        labels = {"destination": PLANS.name, "outcome": outcome}
        return self.told.metrics.registry.get_sample_value("ipt_bridge_deliveries_total", labels) or 0.0

    async def parked(self) -> list[str]:
        """Return the reasons of what waits for a person."""
        return [each.reason for each in await self.store.operators.parked()]

    async def retry(self) -> None:
        """Let a person retry what is parked."""
        items = [each.id for each in await self.store.operators.parked(ParkedState.OPEN)]
        await self.store.operators.retry(items, self.told.now())

    async def plans(self) -> list[dict[str, Any]]:
        """Return every CarePlan of the patient that the server holds."""
        answer = await self.http.get("CarePlan", params={"subject": self.course.patient})
        return [entry["resource"] for entry in answer.raise_for_status().json().get("entry", [])]


def _name(request: pytest.FixtureRequest) -> str:
    """Return the fault that a test is about; "" for the tests that are about none of them."""
    callspec = getattr(request.node, "callspec", None)
    return str(callspec.params["name"]) if callspec else ""


@pytest.fixture
async def scene(
    request: pytest.FixtureRequest, fhir_server: FhirServer, tmp_path: Path, mappings: Mappings
) -> AsyncIterator[Scene]:
    """Return the scene, nothing wanted yet; it waits in haste where the test's fault is an answer that never comes."""
    fault = FAULTS.get(_name(request))
    timeout_s = HASTY_S if fault and fault[0].how in {How.LOST, How.LOST_AFTER} else PATIENT_S
    patient, therapist = f"p-{uuid.uuid4()}", f"t-{uuid.uuid4()}"
    course = courses.course(patient, practitioners=(f"Practitioner/{therapist}",))
    async with (
        await Store.open(f"sqlite:///{tmp_path}/store.sqlite") as store,
        fault_proxy(fhir_server.base) as proxy,
        httpx.AsyncClient(base_url=f"{fhir_server.base}/", timeout=PATIENT_S, verify=authorities()) as http,
    ):
        await store.migrate()
        for resource in ({"resourceType": "Patient", "id": patient}, {"resourceType": "Practitioner", "id": therapist}):
            (await http.put(f"{resource['resourceType']}/{resource['id']}", json=resource)).raise_for_status()
        clock = Later()
        metrics = create_metrics(topics={}, destinations=[PLANS.name], reasons=[])
        told = Vitals(metrics, Health(), clock)
        place = EhrDestination(PLANS.name, FhirClient(proxy.base, timeout_s=timeout_s, body_limit=FEW_BYTES))
        settings = Deliveries(backoff_s=0.01, backoff_max_s=0.05)
        loop = Reconciler(store, place, {course.source: mappings}, settings, told)
        stop = asyncio.Event()
        running = asyncio.create_task(loop.run(stop))
        try:
            yield Scene(store, proxy, told, loop, course, mappings, http, clock)
        finally:
            stop.set()
            await running
            await place.close()


NOTE = {"text": "Spoke with the partner by phone"}


async def ends(scene: Scene, expected: str, wanted: Course) -> dict[str, Any]:
    """Check what became of a delivery that met a fault, and that afterwards there is one plan; return it."""
    await scene.want(wanted)
    await scene.settled()
    assert scene.proxy.met  # else the run shows nothing
    if expected not in {DELIVERED, RETRIED}:
        assert [expected] == await scene.parked()
        scene.proxy.faults.clear()
        await scene.retry()
        await scene.settled()
    else:
        assert (expected == RETRIED) == bool(scene.counted(RETRIED))
        assert 0.0 == scene.counted("parked")
    assert [] == await scene.parked()
    assert [] == [each for each in scene.proxy.asked if not each.partition(" ")[2].startswith("/fhir")]
    (held,) = await scene.plans()
    _, ours = render(wanted, scene.mappings).resources[0]
    assert "CarePlan" == ours["resourceType"]
    assert {name: ours[name] for name in ours if name != "meta"} == {
        name: held.get(name) for name in ours if name != "meta"
    }
    return held


def _times(expected: str) -> int:
    """A refused plan is sent a second time, without the references that the server does not know."""
    return 1 if expected in {DELIVERED, RETRIED} else 2


@pytest.mark.parametrize("name", CREATION)
async def test_one_correct_plan_after_a_fault_at_its_creation(name: str, scene: Scene) -> None:
    """Created by itself, or after a person's retry where the server refuses."""
    fault, expected = CREATION[name]
    scene.proxy.faults += [fault] * _times(expected)
    await ends(scene, expected, scene.course)


@pytest.mark.parametrize("name", UPDATE)
async def test_one_correct_plan_and_the_clinicians_note_after_a_fault_at_an_update(name: str, scene: Scene) -> None:
    """The note was there before, so that the update is one under If-Match of what the server holds."""
    fault, expected = UPDATE[name]
    await scene.want(scene.course)
    await scene.settled()
    (held,) = await scene.plans()
    await scene.http.put(f"CarePlan/{held['id']}", json={**held, "note": [NOTE]})
    await scene.want(replace(scene.course, held=10))
    await scene.settled()
    scene.proxy.faults += [fault] * _times(expected)
    held = await ends(scene, expected, replace(scene.course, held=11))
    assert [NOTE] == held["note"]


async def test_a_server_that_fails_for_one_course_only_delays_no_other(scene: Scene) -> None:
    """Its breaker stays closed: the others' plans arrive while that one is tried again and again."""
    await scene.want(scene.course)
    await scene.settled()
    ill = replace(scene.course, held=10)
    scene.proxy.meets = lambda method, target, _: method == "PUT" and ill.resource_id("careplan") in target
    scene.proxy.faults += [answered("500 Internal Server Error")] * 1000
    await scene.want(ill)
    deadline = time.monotonic() + DEADLINE_S
    while scene.counted(RETRIED) < 2 * FAILURES:
        scene.loop.wake()
        assert time.monotonic() < deadline
        await asyncio.sleep(POLL_S)
    other = courses.course(scene.course.patient_id, practitioners=scene.course.practitioners, anchor="Encounter/e-0")
    other = replace(other, id=course_id(PatientKey(other.source, other.patient_id), other.anchor))
    await scene.want(other)
    while (await scene.store.operators.deliveries(other.id))[0].seen is None:
        scene.loop.wake()
        assert time.monotonic() < deadline
        await asyncio.sleep(POLL_S)
    assert 2 == len(await scene.plans())


async def test_a_server_with_another_authoritys_certificate_is_told_nothing(
    fhir_server: FhirServer, mappings: Mappings
) -> None:
    """Not even the address of a plan; the delivery waits until that is mended."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    plan = render(courses.course(), mappings)
    async with fault_proxy(fhir_server.base, tls) as proxy:
        place = EhrDestination("ehr", FhirClient(proxy.base, timeout_s=HASTY_S))
        with pytest.raises(Transient) as caught:
            await place.deliver(PlanDelivery(plan.course_id, "revision", 1, plan, (), {}))
        await place.close()
    assert ("untrusted", []) == (caught.value.code, proxy.asked)


async def test_a_plan_arrives_by_itself_once_the_server_knows_its_patient(scene: Scene) -> None:
    """Until then a person sees it among what is parked."""
    stranger = f"p-{uuid.uuid4()}"
    unknown = replace(
        scene.course, id=course_id(PatientKey("main", stranger), scene.course.anchor), patient_id=stranger
    )
    await scene.want(unknown)
    deadline = time.monotonic() + DEADLINE_S
    while not await scene.parked():
        scene.loop.wake()
        assert time.monotonic() < deadline
        await asyncio.sleep(POLL_S)
    assert [PATIENT_MISSING] == await scene.parked()
    (waiting,) = await scene.store.operators.deliveries(unknown.id)
    assert waiting.next_attempt is not None
    patient = {"resourceType": "Patient", "id": stranger}
    (await scene.http.put(f"Patient/{stranger}", json=patient)).raise_for_status()
    scene.clock.waited_s += FOR_A_PATIENT.longest_s
    while (await scene.store.operators.deliveries(unknown.id))[0].seen is None:
        scene.loop.wake()
        assert time.monotonic() < deadline
        await asyncio.sleep(POLL_S)
    assert [] == await scene.parked()
