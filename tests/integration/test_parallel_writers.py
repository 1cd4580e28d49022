"""Eight writers at once at a real FHIR server: answers get lost, and a clinician works on the same plans meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec.structs import replace

from service.app import now
from service.deliveries import Reconciler
from service.domain import state
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
from service.store import CourseUpdate, Destination, PatientUpdate, Store
from service.vitals import Vitals
from tests import courses
from tests.clinicians import Clinician, Move, lacking, texts
from tests.courses import SAFETY
from tests.fault_proxy import WRITES, Fault, How, fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.outbound.careplan import Plan
    from service.sandbox.hapi import FhirServer
    from service.sandbox.postgres import Postgres
    from tests.fault_proxy import FaultProxy

WORKERS = 8
COURSES = 3
REVISIONS = 4
PLANS = Destination("plans", takes_over=True)
"""The name that the workers' metrics know."""
HASTY_S = 5.0
"""Longest wait for an answer where some never come (seconds)."""
PATIENT_S = 60.0
"""And where the server answers, on however busy a machine (seconds)."""
DEADLINE_S = 120.0
PLAN, GOAL, TASK = "careplan", "goal/phq-9", f"task/{SAFETY.id}"
ADDED = (Move(PLAN, "note"), Move(GOAL, "note"), Move(TASK, "note"), Move(PLAN, "activity"))


@pytest.fixture
async def http(fhir_server: FhirServer) -> AsyncIterator[httpx.AsyncClient]:
    """Return the server, as a clinician sees it."""
    async with httpx.AsyncClient(base_url=f"{fhir_server.base}/", timeout=60, verify=authorities()) as opened:
        yield opened


@pytest.fixture
async def proxy(fhir_server: FhirServer) -> AsyncIterator[FaultProxy]:
    """Return a way to the server on which every fourth write is done, and its answer gets lost, a dozen times."""
    chance = random.Random(7)  # noqa: S311 - a story, the same each time
    async with fault_proxy(fhir_server.base) as opened:
        opened.faults = [Fault(How.CUT_AFTER)] * 12
        opened.meets = lambda method, _target, _body: method in WRITES and chance.random() < 1 / 4
        yield opened


async def clinician_of(course: Course, mappings: Mappings, http: httpx.AsyncClient) -> Clinician:
    """Return a clinician of a course, whose patient the server knows."""
    reference = course.patient
    patient = {"resourceType": "Patient", "id": course.patient_id}
    (await http.put(reference, json=patient)).raise_for_status()
    return Clinician(http, reference, dict(render(course, mappings).resources), {})


def asking() -> Course:
    """Return a course of a patient of its own, whose plan has Goals, a Task and a Flag."""
    return replace(courses.course(f"p-{uuid.uuid4()}", practitioners=()), findings=(SAFETY,))


async def is_current(plan: Plan, clinician: Clinician) -> None:
    """Check that the server has each resource of a plan once, as it is in the plan, with all that is a clinician's."""
    found = []
    for role, ours in plan.resources:
        if role == "provenance":
            continue
        held = await clinician.find(role)
        assert held is not None, role
        found += texts(role, held)
        edited = [element for by, element in clinician.set if by == role]
        assert [] == lacking(ours, held, edited), role
        assert {name: clinician.set[role, name] for name in edited} == {name: held[name] for name in edited}
    assert sorted(clinician.written) == sorted(found)
    assert clinician.written
    for kind in ("CarePlan", "Goal", "Task", "Flag"):
        mine = [each for _, each in plan.resources if each["resourceType"] == kind]
        there = await clinician.search(kind, {"patient": clinician.patient.rpartition("/")[2]})
        assert len(mine) == len(there), kind


async def test_eight_writers_that_know_nothing_of_each_other_leave_each_resource_once(
    proxy: FaultProxy, http: httpx.AsyncClient, mappings: Mappings
) -> None:
    """Ids of our choosing: whoever comes second finds the first one's resource, whatever answer got lost."""
    course = asking()
    clinician, plan = await clinician_of(course, mappings, http), render(course, mappings)

    async def write() -> None:
        place = EhrDestination("ehr", FhirClient(proxy.base, timeout_s=PATIENT_S))
        ledger: Mapping[str, Any] = {}
        is_there = False
        while not is_there:
            delivery = PlanDelivery(plan.course_id, "r", 1, plan, (), ledger)
            with suppress(Transient):
                await place.deliver(delivery)
                is_there = True
            ledger = delivery.progress.ledger or ledger
        await place.close()

    async def work() -> None:
        await _there([clinician])
        for move in ADDED:
            await clinician.do(move)

    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(write() for _ in range(WORKERS)), work())
    assert proxy.met
    await is_current(plan, clinician)


async def test_eight_workers_bring_every_course_to_its_newest_revision(
    proxy: FaultProxy, http: httpx.AsyncClient, postgres: Postgres, mappings: Mappings
) -> None:
    """Each with a loop and a store of its own, on one database, while the courses change."""
    proxy.faults[3] = proxy.faults[6] = Fault(How.LOST_AFTER)
    url = postgres.create_database(f"writers_{uuid.uuid4().hex}")
    wanted = [asking() for _ in range(COURSES)]
    clinicians = [await clinician_of(each, mappings, http) for each in wanted]
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(await Store.open(url)) for _ in range(WORKERS)]
        await stores[0].migrate()
        loops = [_loop(store, proxy, mappings) for store in stores]
        running = [asyncio.create_task(each.run(stop)) for each in loops]
        try:
            for number in range(REVISIONS):
                values = (*SAFETY.values, ("score", 1 + number % 3))
                finding = replace(SAFETY, values=values)
                wanted = [replace(each, held=9 + number, findings=(finding,)) for each in wanted]
                for course in wanted:
                    await _want(stores[0], course, mappings)
                for loop in loops:
                    loop.wake()
                if number:
                    await asyncio.gather(*(each.do(ADDED[number % len(ADDED)]) for each in clinicians))
                await _there(clinicians)
            await clinicians[0].do(Move(TASK, "status", "completed"))
            await asyncio.gather(*(each.do(ADDED[0]) for each in clinicians))
            await _settled(stores[0], loops, wanted)
            parked = await stores[0].operators.parked()
        finally:
            stop.set()
            await asyncio.gather(*running)
    assert [] == parked
    assert proxy.met
    for course, clinician in zip(wanted, clinicians, strict=True):
        await is_current(render(course, mappings), clinician)


def _loop(store: Store, proxy: FaultProxy, mappings: Mappings) -> Reconciler:
    vitals = Vitals(create_metrics(topics={}, destinations=[PLANS.name], reasons=[]), Health(), now)
    place = EhrDestination(PLANS.name, FhirClient(proxy.base, timeout_s=HASTY_S))
    settings = Deliveries(backoff_s=0.01, backoff_max_s=0.05, lease_s=10)
    return Reconciler(store, place, {courses.course().source: mappings}, settings, vitals)


async def _want(store: Store, course: Course, mappings: Mappings) -> None:
    content = state.dump(course)
    update = CourseUpdate(course.id, course.anchor, course.phase, state.revision(content, mappings), content)
    key = PatientKey(course.source, course.patient_id)
    async with store.transaction() as transaction:
        await transaction.lock([key])
        await transaction.write([PatientUpdate(key, None, now(), (update,))], [PLANS], now())


async def _there(clinicians: list[Clinician]) -> None:
    """Wait until each plan has come for the first time."""
    deadline = time.monotonic() + DEADLINE_S
    while [each for each in clinicians if await each.find(TASK) is None]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def _settled(store: Store, loops: list[Reconciler], wanted: list[Course]) -> None:
    """Wait until no delivery is due any more."""
    deadline = time.monotonic() + DEADLINE_S
    for course in wanted:
        while True:
            (found,) = await store.operators.deliveries(course.id)
            if found.next_attempt is None:
                break
            assert time.monotonic() < deadline, found.outcome
            for loop in loops:
                loop.wake()
            await asyncio.sleep(0.1)
