"""Plans in a real FHIR server, where a clinician also writes."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import date
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec.structs import replace

from service.domain.course import Answered, FindingState, FocusArea, Phase, course_id
from service.domain.facts import PatientKey
from service.domain.mapping_files import vendor_profiles
from service.outbound.agreement import Agreement
from service.outbound.careplan import Plan, render, retract, withheld
from service.outbound.destination import Delivered, PlanDelivery, Route
from service.outbound.ehr import EhrDestination
from service.outbound.ledger import load, type_of
from service.rest.client import FhirClient
from service.rest.errors import Permanent
from service.rest.transport import authorities
from tests import courses
from tests.courses import SAFETY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.sandbox.hapi import FhirServer

NOTE = {"text": "Spoke with the partner by phone"}
WALK = {"detail": {"status": "not-started", "description": "Walk every day"}}
CONDITION = {
    "resourceType": "Condition",
    "clinicalStatus": {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
    },
    "code": {"text": "Depression"},
}


class Chart:
    """The server as a clinician sees it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def read(self, reference: str) -> dict[str, Any]:
        """Return a resource as it stands."""
        answer = await self._http.get(reference)
        answer.raise_for_status()
        resource: dict[str, Any] = answer.json()
        return resource

    async def write(self, resource: Mapping[str, Any]) -> None:
        """Store a resource, whatever its version."""
        answer = await self._http.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
        answer.raise_for_status()

    async def edit(self, reference: str, **elements: object) -> None:
        """Change elements of a resource, as a clinician would in the EHR."""
        await self.write({**await self.read(reference), **elements})

    async def delete(self, reference: str) -> None:
        """Delete a resource."""
        (await self._http.delete(reference)).raise_for_status()

    async def plans(self, patient: str) -> list[dict[str, Any]]:
        """Return every CarePlan of a patient."""
        found = await self.read(f"CarePlan?subject={patient}")
        return [entry["resource"] for entry in found.get("entry", [])]

    async def version(self, reference: str) -> str:
        """Return the version that a resource is at."""
        version: str = (await self.read(reference))["meta"]["versionId"]
        return version


@pytest.fixture
async def chart(fhir_server: FhirServer) -> AsyncIterator[Chart]:
    """Return the shared server, as a clinician sees it."""
    async with httpx.AsyncClient(base_url=f"{fhir_server.base}/", timeout=30, verify=authorities()) as http:
        yield Chart(http)


@pytest.fixture
async def ehr(fhir_server: FhirServer) -> AsyncIterator[EhrDestination]:
    """Return the shared server as a destination."""
    destination = EhrDestination("ehr", FhirClient(fhir_server.base))
    yield destination
    await destination.close()


@pytest.fixture
async def course(chart: Chart) -> Course:
    """Return a course whose patient and therapist the server knows; each test has its own."""
    patient, therapist = f"p-{uuid.uuid4()}", f"t-{uuid.uuid4()}"
    await chart.write({"resourceType": "Patient", "id": patient})
    await chart.write({"resourceType": "Practitioner", "id": therapist})
    return courses.course(patient, practitioners=(f"Practitioner/{therapist}",))


def delivery(plan: Plan, after: Delivered | None = None) -> PlanDelivery:
    """Return a plan on its way, after what was delivered before."""
    return PlanDelivery(plan.course_id, "revision", 1, plan, (), after.ledger if after else {})


def careplan_of(course: Course) -> str:
    """Return the reference of a course's CarePlan."""
    return f"CarePlan/{course.resource_id('careplan')}"


def goal_of(course: Course, role: str) -> str:
    """Return the reference of one of its Goals."""
    return f"Goal/{course.resource_id(role)}"


def content(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource without its meta."""
    return {name: value for name, value in resource.items() if name != "meta"}


async def test_first_delivery_creates_the_whole_plan_in_one_transaction(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """The server holds what was rendered, element for element."""
    plan = render(course, mappings)
    delivered = await ehr.deliver(delivery(plan))
    assert Route.TRANSACTION is delivered.route
    for _, resource in plan.resources:
        assert content(resource) == content(await chart.read(f"{resource['resourceType']}/{resource['id']}"))


async def test_only_what_changed_is_sent(chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings) -> None:
    """One score more changes the CarePlan and that score's Goal; the other Goals keep their version."""
    first = await ehr.deliver(delivery(render(course, mappings)))
    changed = replace(course, changes=(course.changes[0], courses.change("phq-9", 17, 10, weeks=9, reliable=-1)))
    second = await ehr.deliver(delivery(render(changed, mappings), first))

    assert Route.CREATE_UPDATE is second.route
    expected = {"careplan": "2", "goal/phq-9": "2", "goal/gad-7": "1", "goal/focus/role-dispute": "1"}
    found = {
        role: await chart.version(careplan_of(course) if role == "careplan" else goal_of(course, role))
        for role in expected
    }
    assert expected == found
    goal = await chart.read(goal_of(course, "goal/phq-9"))
    assert "improving" == goal["achievementStatus"]["coding"][0]["code"]


async def test_the_same_plan_again_changes_nothing(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """With the ledger nothing is sent; without it, as after a lost answer, nothing is written."""
    plan = render(course, mappings)
    first = await ehr.deliver(delivery(plan))
    again = await ehr.deliver(delivery(plan, first))
    forgotten = await ehr.deliver(delivery(plan))
    assert first.ledger == again.ledger == forgotten.ledger
    assert "1" == await chart.version(careplan_of(course))


async def test_a_clinicians_edit_survives_the_next_plan(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """Their note and activity stay, and our elements are current, now and the time after."""
    first = await ehr.deliver(delivery(render(course, mappings)))
    before = await chart.read(careplan_of(course))
    await chart.edit(careplan_of(course), note=[NOTE], activity=[WALK, *before["activity"]])

    tenth = replace(course, held=10, sessions=(*course.sessions[:-1], courses.session(10)))
    second = await ehr.deliver(delivery(render(tenth, mappings), first))
    ended = replace(tenth, phase=Phase.ENDING)
    third = await ehr.deliver(delivery(render(ended, mappings), second))

    held = await chart.read(careplan_of(course))
    ours = render(ended, mappings).resources[0][1]
    assert [NOTE] == held["note"]
    assert [*ours["activity"], WALK] == held["activity"]
    assert ours["text"] == held["text"]
    assert () == third.respected


async def test_a_clinicians_note_on_a_session_survives(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """The server keeps the ids by which our activities are told apart."""
    first = await ehr.deliver(delivery(render(course, mappings)))
    activities = (await chart.read(careplan_of(course)))["activity"]
    activities[0]["progress"] = [NOTE]
    await chart.edit(careplan_of(course), activity=activities)
    await ehr.deliver(delivery(render(replace(course, held=10), mappings), first))
    assert [NOTE] == (await chart.read(careplan_of(course)))["activity"][0]["progress"]


@pytest.mark.parametrize("status", ["completed", "revoked", "on-hold"])
async def test_a_plan_that_a_clinician_ended_stays_ended(
    status: str, chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """At every later delivery too; each says so."""
    first = await ehr.deliver(delivery(render(course, mappings)))
    await chart.edit(careplan_of(course), status=status)
    second = await ehr.deliver(delivery(render(replace(course, held=10), mappings), first))
    third = await ehr.deliver(delivery(render(replace(course, held=11), mappings), second))
    assert status == (await chart.read(careplan_of(course)))["status"]
    assert (f"careplan {status}",) == second.respected == third.respected


async def test_tasks_a_flag_and_provenance_arrive(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """A Task for each finding that is due, a Flag for safety, and where all of it comes from."""
    review = course.findings[0]
    await ehr.deliver(delivery(render(replace(course, findings=(SAFETY, review)), mappings)))
    tasks = [f"Task/{course.resource_id(f'task/{each.id}')}" for each in (SAFETY, review)]
    held = [await chart.read(task) for task in tasks]
    assert [("requested", "stat"), ("requested", "urgent")] == [(task["status"], task["priority"]) for task in held]
    flag = f"Flag/{course.resource_id(f'flag/{SAFETY.id}')}"
    assert "active" == (await chart.read(flag))["status"]
    provenance = await chart.read(f"Provenance/{course.resource_id('provenance')}")
    told = {each["reference"] for each in provenance["target"]}
    assert {careplan_of(course), goal_of(course, "goal/phq-9"), *tasks, flag} <= told
    assert {*SAFETY.facts, *review.facts} <= {each["what"]["identifier"]["value"] for each in provenance["entity"]}


@pytest.mark.parametrize("status", ["accepted", "in-progress", "rejected"])
async def test_a_task_that_a_clinician_took_up_stays_so(
    status: str, chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """With the owner whom they named, though what it says changes; until the finding is answered another way."""
    first = await ehr.deliver(delivery(render(replace(course, findings=(SAFETY,)), mappings)))
    task, owner = f"Task/{course.resource_id(f'task/{SAFETY.id}')}", {"reference": course.practitioners[0]}
    await chart.edit(task, status=status, owner=owner)
    told = replace(SAFETY, values=(*SAFETY.values[:-1], ("item", 8)))
    second = await ehr.deliver(delivery(render(replace(course, findings=(told,)), mappings), first))
    held = await chart.read(task)
    assert (status, owner, f"task/{SAFETY.id} {status}") == (held["status"], held["owner"], second.respected[0])
    contact = Answered(date(2026, 3, 5), None, "Encounter/e-9")
    answered = replace(told, state=FindingState.ANSWERED, answered=contact)
    await ehr.deliver(delivery(render(replace(course, findings=(answered,)), mappings), second))
    assert ("rejected" if status == "rejected" else "cancelled") == (await chart.read(task))["status"]


async def test_a_flag_that_a_clinician_ended_stays_ended_and_one_that_we_ended_comes_back(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """A contact that answered a safety finding may be withdrawn: then the Flag is active again."""
    flag = f"Flag/{course.resource_id(f'flag/{SAFETY.id}')}"
    contact = Answered(date(2026, 3, 5), None, "Encounter/e-9")
    answered = replace(SAFETY, state=FindingState.ANSWERED, answered=contact)
    told = replace(SAFETY, values=(*SAFETY.values[:-1], ("item", 8)))
    after = None
    for finding, status in ((answered, "inactive"), (SAFETY, "active")):
        after = await ehr.deliver(delivery(render(replace(course, findings=(finding,)), mappings), after))
        assert status == (await chart.read(flag))["status"]
    await chart.edit(flag, status="inactive")
    after = await ehr.deliver(delivery(render(replace(course, findings=(told,)), mappings), after))
    assert ("inactive", (f"flag/{SAFETY.id} inactive",)) == ((await chart.read(flag))["status"], after.respected)


async def test_a_task_that_a_clinician_completed_is_never_reopened(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """Whatever the plan asks for later, and without a ledger too; what they wrote on it stays."""
    asking = replace(course, findings=(SAFETY,))
    first = await ehr.deliver(delivery(render(asking, mappings)))
    task = f"Task/{course.resource_id(f'task/{SAFETY.id}')}"
    assert "requested" == (await chart.read(task))["status"]
    await chart.edit(task, status="completed", note=[NOTE])
    still = replace(SAFETY, values=(*SAFETY.values, ("score", 3)))
    closed = replace(SAFETY, state=FindingState.CLOSED, closed=date(2026, 3, 11))
    after = first
    for findings in ((still,), (closed,), (SAFETY,), ()):
        after = await ehr.deliver(delivery(render(replace(asking, findings=findings), mappings), after))
        held = await chart.read(task)
        assert ("completed", [NOTE]) == (held["status"], held["note"])
    await ehr.deliver(delivery(render(asking, mappings)))
    assert "completed" == (await chart.read(task))["status"]


async def test_a_withheld_plan_is_taken_back_and_tells_nothing_new(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """All that the server holds of it is entered in error."""
    asking = replace(course, findings=(SAFETY,))
    first = await ehr.deliver(delivery(render(asking, mappings)))
    await ehr.deliver(delivery(withheld(asking, mappings), first))
    for kind, role in (("CarePlan", "careplan"), ("Goal", "goal/phq-9"), ("Task", f"task/{SAFETY.id}")):
        held = await chart.read(f"{kind}/{course.resource_id(role)}")
        assert "entered-in-error" == held["lifecycleStatus" if kind == "Goal" else "status"]
    assert "entered-in-error" == (await chart.read(f"Flag/{course.resource_id(f'flag/{SAFETY.id}')}"))["status"]


async def test_a_plan_that_was_deleted_in_the_ehr_is_created_again(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """At the next change of the course, not before."""
    plan = render(course, mappings)
    first = await ehr.deliver(delivery(plan))
    for _, resource in reversed(plan.resources):  # what refers to it goes first
        if resource["resourceType"] not in {"CarePlan", "Goal"}:
            await chart.delete(f"{resource['resourceType']}/{resource['id']}")
    await chart.delete(careplan_of(course))
    await ehr.deliver(delivery(render(replace(course, held=10), mappings), first))
    assert "active" == (await chart.read(careplan_of(course)))["status"]


async def test_a_goal_that_the_plan_no_longer_has_is_cancelled(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """Another focus area: the old goal was pursued until then; and when it comes back, it is pursued again."""
    grief = FocusArea("grief", True, date(2026, 2, 3), None, "QuestionnaireResponse/b")  # noqa: FBT003 - the primary one
    role = "goal/focus/role-dispute"
    first = await ehr.deliver(delivery(render(course, mappings)))
    second = await ehr.deliver(delivery(render(replace(course, focus_areas=(grief,)), mappings), first))
    assert "cancelled" == (await chart.read(goal_of(course, role)))["lifecycleStatus"]
    assert "active" == (await chart.read(goal_of(course, "goal/focus/grief")))["lifecycleStatus"]
    await ehr.deliver(delivery(render(course, mappings), second))
    assert "active" == (await chart.read(goal_of(course, role)))["lifecycleStatus"]
    assert "cancelled" == (await chart.read(goal_of(course, "goal/focus/grief")))["lifecycleStatus"]


async def test_a_withdrawn_course_leaves_nothing_that_looks_true(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """Plan and goals are entered in error, though a clinician had completed the plan."""
    first = await ehr.deliver(delivery(render(course, mappings)))
    await chart.edit(careplan_of(course), status="completed")
    await ehr.deliver(delivery(retract(course, mappings), first))
    held = await chart.read(careplan_of(course))
    assert "entered-in-error" == held["status"]
    assert not held.keys() & {"activity", "extension"}
    assert "entered-in-error" == (await chart.read(goal_of(course, "goal/phq-9")))["lifecycleStatus"]


async def test_a_withdrawn_course_is_deleted_where_that_is_configured(
    fhir_server: FhirServer, chart: Chart, course: Course, mapping_files: dict[str, bytes], mappings: Mappings
) -> None:
    """In an order that its references allow, as the server checks them; each deletion is recorded."""
    client = FhirClient(fhir_server.base, timeout_s=60)
    agreement = Agreement("ehr", client, vendor_profiles(mapping_files))
    await agreement.ask()
    ehr = EhrDestination("ehr", client, agreement=agreement, deletes=True)
    reviewed = replace(course, findings=(SAFETY,))
    first = await ehr.deliver(delivery(render(reviewed, mappings)))
    retraction = delivery(retract(reviewed, mappings), first)
    await ehr.deliver(retraction)
    await ehr.close()

    there = load(first.ledger).remotes
    assert {"CarePlan", "Goal", "Task", "Flag", "Provenance"} == {type_of(role) for role in there}
    for role, remote in there.items():
        with pytest.raises(httpx.HTTPStatusError, match="410"):
            await chart.read(f"{type_of(role)}/{remote.id}")
    assert {("delete", "success")} == {(each.action, each.outcome) for each in retraction.progress.writes}
    assert len(there) == len(retraction.progress.writes)


async def test_a_course_with_another_anchor_keeps_its_careplan(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """Same resources, new business identifier; no orphan in the chart."""
    first = await ehr.deliver(delivery(render(course, mappings)))
    moved = replace(
        course, id=course_id(PatientKey("main", course.patient_id), "Encounter/e-0"), anchor="Encounter/e-0"
    )
    await ehr.deliver(delivery(render(moved, mappings), first))
    plans = await chart.plans(course.patient)
    assert [(course.resource_id("careplan"), moved.id)] == [(p["id"], p["identifier"][0]["value"]) for p in plans]
    assert goal_of(course, "goal/phq-9") in [goal["reference"] for goal in plans[0]["goal"]]


async def test_a_missing_condition_keeps_no_plan_out_of_the_chart(
    chart: Chart, ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """It is named by identifier until the server knows it."""
    condition = f"c-{uuid.uuid4()}"
    sick = replace(course, conditions=(f"Condition/{condition}",))
    first = await ehr.deliver(delivery(render(sick, mappings)))
    assert f"Condition/{condition}" == (await chart.read(careplan_of(course)))["addresses"][0]["identifier"]["value"]

    await chart.write({**CONDITION, "id": condition, "subject": {"reference": course.patient}})
    await ehr.deliver(delivery(render(replace(sick, held=10), mappings), first))
    assert [{"reference": f"Condition/{condition}"}] == (await chart.read(careplan_of(course)))["addresses"]


async def test_a_patient_that_the_server_does_not_know_is_permanent(ehr: EhrDestination, mappings: Mappings) -> None:
    """A person has to load the patient; the message names nobody."""
    stranger = courses.course(f"nobody-{uuid.uuid4()}")
    with pytest.raises(Permanent) as caught:
        await ehr.deliver(delivery(render(stranger, mappings)))
    assert "patient-missing" == caught.value.code
    assert stranger.patient_id not in str(caught.value)


async def test_what_the_server_refuses_is_permanent_with_codes_only(
    ehr: EhrDestination, course: Course, mappings: Mappings
) -> None:
    """Its diagnostics would repeat what the plan says."""
    plan = render(course, mappings)
    role, resource = plan.resources[0]
    broken = {**resource, "intent": "Nonsense Of Ms Doe"}
    with pytest.raises(Permanent) as caught:
        await ehr.deliver(delivery(dataclasses.replace(plan, resources=((role, broken), *plan.resources[1:]))))
    assert caught.value.code in {"http-400", "http-422"}
    assert caught.value.outcome_codes
    assert "Nonsense" not in f"{caught.value} {caught.value.outcome_codes}"
