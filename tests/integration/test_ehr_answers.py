"""What comes back from a FHIR server that plans are written to: a clinician's answers count, our own echoes don't."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from msgspec.structs import replace

from service.app import now
from service.backfill.portions import record_of, topic_of
from service.deliveries import Reconciler
from service.domain.course import FindingState
from service.domain.facts import ActReading, PatientKey
from service.domain.mapping_files import vendor_profiles
from service.domain.state import load
from service.health import Health
from service.inbound.records import Limits
from service.inbound.relevance import Relevance
from service.intake import UNPROCESSABLE, Feed, Intake
from service.metrics import create_metrics
from service.outbound.agreement import Agreement
from service.outbound.careplan import render
from service.outbound.ehr import EhrDestination
from service.rest.client import FhirClient
from service.rest.transport import authorities
from service.rounds import Rounds
from service.sandbox.patients import generate
from service.sandbox.stories import Archetype
from service.settings import Deliveries
from service.store import Destination, Store
from service.vitals import Vitals
from tests.property.strategies import START
from tests.synthetic import SOURCE, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from service.domain.course import Course
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings
    from service.sandbox.hapi import FhirServer
    from service.store.values import StoredCourse

DEADLINE_S = 120.0
PLACE = Destination("ehr", takes_over=True)
STORY = next(each for each in generate(7, 6, START) if each.story.archetype is Archetype.SELF_HARM)


class Site:
    """One course in the store, delivered to the real server: what `ipt-bridge run` does but for Kafka."""

    def __init__(self, store: Store, http: httpx.AsyncClient, base: str, mappings: Mappings, patient: str) -> None:
        self.store = store
        self.http = http
        self.patient = patient
        metrics = create_metrics(topics={SOURCE.id: ("Encounter",)}, destinations=[PLACE.name], reasons=[UNPROCESSABLE])
        self.base = base
        self.vitals = vitals = Vitals(metrics, Health(), now)
        feed = Feed(SOURCE, Relevance.of(mappings), mappings)
        topics = ("Encounter", "QuestionnaireResponse", topic_of(SOURCE.id))
        self.intake = Intake(store, dict.fromkeys(topics, feed), [PLACE], Limits(), vitals)
        self.place = EhrDestination(PLACE.name, FhirClient(base, timeout_s=60))
        self.loop = Reconciler(
            store, self.place, {SOURCE.id: mappings}, Deliveries(), vitals, take_in=self.take_in, learn=self.learn
        )

    async def take_in(self, source: str, resources: Sequence[Mapping[str, Any]]) -> None:
        """Take resources in as events of the source."""
        records = [record_of(source, orjson.dumps(each), now()) for each in resources]
        await self.intake.process(await self.intake.read(records))

    async def learn(self, facts: Sequence[Fact]) -> None:
        """Take in what clinicians did to the plan."""
        await self.intake.learn(facts)

    async def another_session(self, name: str) -> None:
        """Let the course have one more session, so that its plan is delivered again."""
        session = next(each.value for each in STORY.events if b"443730003" in (each.value or b""))
        again = (session or b"").replace(STORY.patient_id.encode(), self.patient.encode())
        await self.take_in(SOURCE.id, [{**orjson.loads(again), "id": name}])
        await self.delivered()

    async def stored(self) -> StoredCourse:
        """Return the course as it stands in the store."""
        (found,) = await self.store.operators.courses_of_patient(self.patient)
        return found

    async def course(self) -> Course:
        """Return the course itself."""
        return load((await self.stored()).state)

    async def delivered(self) -> None:
        """Wait until the server has what is wanted."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            (found,) = await self.store.operators.deliveries((await self.stored()).course_id)
            if found.behind_since is None:
                return
            assert time.monotonic() < deadline, found.outcome
            self.loop.wake()
            await asyncio.sleep(0.1)

    async def history(self) -> list[dict[str, Any]]:
        """Return every version of everything that the server holds of the patient's plans, newest first."""
        found: list[dict[str, Any]] = []
        for kind in ("CarePlan", "Goal", "Task", "Flag", "Provenance"):
            bundle = (await self.http.get(f"{kind}/_history", params={"_count": "1000"})).raise_for_status().json()
            found += [entry["resource"] for entry in bundle.get("entry", []) if "resource" in entry]
        return [each for each in found if self.patient in orjson.dumps(each).decode()]


@pytest.fixture
async def site(fhir_server: FhirServer, tmp_path: Path, mappings: Mappings) -> AsyncIterator[Site]:
    """A patient who has answered the self-harm item; the course is delivered, and asks for a same-day look."""
    patient = f"p-{uuid.uuid4()}"
    async with (
        await Store.open(f"sqlite:///{tmp_path}/store.sqlite") as store,
        httpx.AsyncClient(base_url=f"{fhir_server.base}/", timeout=60, verify=authorities()) as http,
    ):
        await store.migrate()
        made = Site(store, http, fhir_server.base, mappings, patient)
        (await http.put(f"Patient/{patient}", json={"resourceType": "Patient", "id": patient})).raise_for_status()
        records = [
            replace(each, value=(each.value or b"").replace(STORY.patient_id.encode(), patient.encode()))
            for each in (record(event, offset) for offset, event in enumerate(STORY.events))
        ]
        await made.intake.process(await made.intake.read(records))
        async with _running(made):
            await made.delivered()
            yield made


@asynccontextmanager
async def _running(site: Site) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(site.loop.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
        await site.place.close()


async def test_task_completed_in_the_ehr_answers_its_finding_at_the_next_delivery(site: Site) -> None:
    """No topic tells of it; it becomes a fact, and shows in the course's history with that fact as its cause."""
    before = await site.course()
    asked = next(each for each in before.findings if each.rule == "safety.self-harm-item")
    assert FindingState.OPEN is asked.state
    task_id = before.resource_id(f"task/{asked.id}")
    task = (await site.http.get(f"Task/{task_id}")).raise_for_status().json()
    day = date.fromisoformat(task["authoredOn"][:10]) + timedelta(days=1)
    done = {**task, "status": "completed", "lastModified": f"{day}T10:00:00Z", "note": [{"text": "Seen today"}]}
    (await site.http.put(f"Task/{task_id}", json=done)).raise_for_status()

    await site.another_session("again")

    answered = next(each for each in (await site.course()).findings if each.id == asked.id)
    assert FindingState.ANSWERED is answered.state
    assert answered.answered is not None
    reference = f"Task/ehr.{task_id}"
    assert (day, reference) == (answered.answered.on, answered.answered.fact)
    history = await site.store.operators.history((await site.stored()).course_id)
    assert (reference,) in [entry.cause for entry in history]
    facts = (await site.store.operators.facts_of([PatientKey(SOURCE.id, site.patient)])).popitem()[1]
    assert "Seen today" not in repr(facts)
    held = (await site.http.get(f"Task/{task_id}")).raise_for_status().json()
    assert ("completed", [{"text": "Seen today"}]) == (held["status"], held["note"])


async def test_task_completed_in_the_ehr_is_found_with_no_delivery(site: Site, mapping_files: dict[str, bytes]) -> None:
    """By reading each at the first look, by one search at the next; told by several workers it counts once."""
    told: list[str] = []

    async def take_in(source: str, tasks: Sequence[Mapping[str, Any]]) -> None:
        told.extend(each["id"] for each in tasks)
        await site.take_in(source, tasks)

    client = FhirClient(site.base, timeout_s=60)
    agreement = Agreement(PLACE.name, client, vendor_profiles(mapping_files))
    await agreement.ask()
    place = EhrDestination(PLACE.name, client, agreement=agreement)
    workers = [Rounds(site.store, place, take_in, site.vitals, every_s=600) for _ in range(2)]
    task = await open_task(site)
    began, stop = now(), asyncio.Event()
    await workers[0].look(stop)
    assert [] == told
    (await site.http.put(f"Task/{task['id']}", json={**task, "status": "completed"})).raise_for_status()
    found = await place.completed_since(began - timedelta(minutes=1))  # as the first worker's next look does
    assert found is not None
    assert task["id"] in found

    await asyncio.gather(*(each.look(stop) for each in workers))

    await place.close()
    assert [f"ehr.{task['id']}"] * 2 == told
    answered = next(each for each in (await site.course()).findings if each.rule == "safety.self-harm-item")
    assert FindingState.ANSWERED is answered.state
    facts = (await site.store.operators.facts_of([PatientKey(SOURCE.id, site.patient)])).popitem()[1]
    assert [f"ehr.{task['id']}"] == [each.key.resource_id for each in facts if each.key.resource_type == "Task"]


async def open_task(site: Site) -> dict[str, Any]:
    """Return the Task that asks for the same-day look."""
    course = await site.course()
    asked = next(each for each in course.findings if each.rule == "safety.self-harm-item")
    found: dict[str, Any] = (await site.http.get(f"Task/{course.resource_id(f'task/{asked.id}')}")).json()
    assert "requested" == found["status"]
    return found


async def test_open_tasks_are_left_alone_while_the_destination_is_paused(site: Site) -> None:
    """A person said so."""
    await site.store.desk.pause(PLACE.name, now())

    assert await site.store.deliveries.asking(PLACE.name, "", 10) is None
    await site.store.desk.resume(PLACE.name)
    asking = await site.store.deliveries.asking(PLACE.name, "", 10)
    assert asking is not None
    assert [site.patient] == [each.patient.patient_id for each in asking]


async def test_plan_that_a_clinician_ended_in_the_ehr_stays_ended_and_is_told(site: Site) -> None:
    """A fact with version and time as its cause, for information; the course goes on, and nothing is told twice."""
    before = await site.course()
    plan_id = before.resource_id("careplan")
    plan = (await site.http.get(f"CarePlan/{plan_id}")).raise_for_status().json()
    ended = await site.http.put(f"CarePlan/{plan_id}", json={**plan, "status": "revoked", "note": [{"text": "Gone"}]})
    written = ended.raise_for_status().json()["meta"]

    await site.another_session("again")

    reference = f"CarePlan/ehr.{plan_id}"
    (told,) = [each for each in (await site.course()).findings if each.rule == "ehr.plan-ended"]
    assert ((reference,), "ended (revoked)", "ehr") == (
        told.facts,
        dict(told.values)["did"],
        dict(told.values)["destination"],
    )
    assert before.phase is (await site.course()).phase
    history = await site.store.operators.history((await site.stored()).course_id)
    assert 1 == [entry.cause for entry in history].count((reference,))
    facts = (await site.store.operators.facts_of([PatientKey(SOURCE.id, site.patient)])).popitem()[1]
    (fact,) = [each for each in facts if each.key.reference == reference]
    at = datetime.fromisoformat(written["lastUpdated"]).astimezone(UTC)
    assert ActReading("revoked", before.id, "careplan", "ehr", at, written["versionId"]) == fact.reading
    assert "Gone" not in repr(facts)
    held = (await site.http.get(f"CarePlan/{plan_id}")).raise_for_status().json()
    assert ("revoked", [{"text": "Gone"}]) == (held["status"], held["note"])
    assert "Plan ended in the EHR" in orjson.dumps(held).decode()

    again = {**held, "status": "active"}
    (await site.http.put(f"CarePlan/{plan_id}", json=again)).raise_for_status()
    await site.another_session("once-more")
    assert [] == [each for each in (await site.course()).findings if each.rule == "ehr.plan-ended"]


async def test_goal_that_a_clinician_rejected_in_the_ehr_is_told(site: Site) -> None:
    """When the plan next has something to say about that Goal."""
    before = await site.course()
    goal_id = before.resource_id("goal/phq-9")
    goal = (await site.http.get(f"Goal/{goal_id}")).raise_for_status().json()
    (await site.http.put(f"Goal/{goal_id}", json={**goal, "lifecycleStatus": "rejected"})).raise_for_status()

    measure = next(each.value for each in reversed(STORY.events) if b"44261-6" in (each.value or b""))
    response = orjson.loads((measure or b"").replace(STORY.patient_id.encode(), site.patient.encode()))
    await site.take_in(SOURCE.id, [{**response, "id": "later", "authored": now().isoformat()}])
    await site.delivered()

    (told,) = [each for each in (await site.course()).findings if each.rule == "ehr.goal-ended"]
    assert ((f"Goal/ehr.{goal_id}",), "rejected") == (told.facts, dict(told.values)["did"])
    held = (await site.http.get(f"Goal/{goal_id}")).raise_for_status().json()
    assert "rejected" == held["lifecycleStatus"]


async def test_title_that_a_clinician_changed_again_is_told_in_the_course_and_its_history(
    site: Site, mappings: Mappings
) -> None:
    """Put back in silence first; then a finding, once, and until the title is ours again. Nothing goes in circles."""
    plan = f"CarePlan/{(await site.course()).resource_id('careplan')}"
    reference = plan.replace("/", "/ehr.edited.")

    async def retitled(title: str, name: str) -> tuple[str, list[tuple[str, ...]]]:
        """Return the title after it was changed and the plan delivered again, and what the findings rest on."""
        held = (await site.http.get(plan)).raise_for_status().json()
        (await site.http.put(plan, json={**held, "title": title})).raise_for_status()
        await site.another_session(name)
        held = (await site.http.get(plan)).raise_for_status().json()
        found = [each.facts for each in (await site.course()).findings if each.rule == "ehr.edited"]
        return held["title"], found

    ours = (await site.http.get(plan)).raise_for_status().json()["title"]
    assert (ours, []) == await retitled("Theirs", "once")
    assert ("Theirs", [(reference,)]) == await retitled("Theirs", "twice")
    told = (await site.http.get(plan)).raise_for_status().json()
    assert "Edited in the EHR" in orjson.dumps(told).decode()

    async def causes() -> list[tuple[str, ...]]:
        """Return what changed the course, change by change."""
        return [entry.cause for entry in await site.store.operators.history((await site.stored()).course_id)]

    assert 1 == (await causes()).count((reference,))
    await site.another_session("more")
    await site.another_session("and-more")
    assert 1 == (await causes()).count((reference,))
    held = (await site.http.get(plan)).raise_for_status().json()
    current = render(await site.course(), mappings).resources[0][1] | {"title": "Theirs"}
    parts = ("title", "description", "text")
    assert [current[name] for name in parts] == [held[name] for name in parts]
    assert told["activity"] != held["activity"]
    assert (ours, []) == await retitled(ours, "back")
    assert 2 == (await causes()).count((reference,))
    facts = (await site.store.operators.facts_of([PatientKey(SOURCE.id, site.patient)])).popitem()[1]
    assert "Theirs" not in repr(facts)


async def test_our_own_writes_that_come_back_as_events_change_nothing(site: Site) -> None:
    """The server's whole history, each version of it, in any order and twice: no revision, no delivery, no loop."""
    before = await site.stored()
    written = await site.history()
    assert {"CarePlan", "Goal", "Task", "Flag", "Provenance"} == {each["resourceType"] for each in written}

    await site.take_in(SOURCE.id, written)
    await site.take_in(SOURCE.id, [*reversed(written), *written])
    await site.delivered()

    after = await site.stored()
    assert (before.revision, before.counter, before.state) == (after.revision, after.counter, after.state)
    assert [] == await site.store.operators.parked()
    assert len(written) == len(await site.history())
