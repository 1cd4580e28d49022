"""Plans at servers that take them in different ways: a real FHIR server behind masks of vendors' statements."""

from __future__ import annotations

import asyncio
import base64
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace
from pypdf import PdfReader

from service.domain.course import Measure, Phase
from service.domain.mapping_files import vendor_profiles
from service.outbound.agreement import Agreement
from service.outbound.careplan import render, retract, withheld
from service.outbound.destination import Delivered
from service.outbound.ehr import EhrDestination
from service.outbound.pdf import PDF
from service.rest.client import FhirClient
from service.rest.errors import Permanent, Transient
from tests import courses
from tests.courses import SAFETY
from tests.ehrs import Records, course_of, delivery, destination, masked, said, statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile
    from service.sandbox.hapi import FhirServer

NOTE = [{"text": "Spoke with the partner by phone"}]
DOCUMENTS = "documents-only"
UNCONDITIONAL = {"conditionalCreate": False, "conditionalUpdate": False}


class Clinic:
    """The server behind the masks, the profiles and the mappings: what each test needs."""

    def __init__(self, base: str, profiles: dict[str, VendorProfile], mappings: Mappings) -> None:
        self.base = base
        self.profiles = profiles
        self.mappings = mappings
        self.records = Records(base)

    def masked(self, vendor: str, said: bytes | None = None) -> Any:  # noqa: ANN401 - a context manager
        """Open a vendor's mask before the server."""
        return masked(self.base, vendor, self.profiles, said)


@pytest.fixture
def clinic(fhir_server: FhirServer, mapping_files: dict[str, bytes], mappings: Mappings) -> Iterator[Clinic]:
    """What each test needs."""
    opened = Clinic(fhir_server.base, vendor_profiles(mapping_files), mappings)
    yield opened
    opened.records.close()


def text_of(note: dict[str, Any]) -> str:
    """Return the page of a note."""
    return base64.b64decode(note["content"][0]["attachment"]["data"]).decode()


@pytest.mark.parametrize("vendor", ["medplum", "google"])
async def test_a_server_that_chooses_ids_has_the_whole_plan_once(vendor: str, clinic: Clinic) -> None:
    """Created, found again without a ledger, changed and unchanged; what refers to it uses the server's ids."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    with clinic.masked(vendor) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            assert "server-id" == first.route
            (careplan,) = records.of(patient, "CarePlan")
            goals = records.of(patient, "Goal")
            assert careplan["id"] != course.resource_id("careplan")
            assert {f"Goal/{goal['id']}" for goal in goals} == {goal["reference"] for goal in careplan["goal"]}
            (task,) = records.of(patient, "Task")
            assert f"CarePlan/{careplan['id']}" == task["basedOn"][0]["reference"]
            (told,) = records.of(patient, "Provenance")
            targets = {each["reference"] for each in told["target"]}
            assert {f"CarePlan/{careplan['id']}", f"Task/{task['id']}"} <= targets

            forgotten = await ehr.deliver(delivery(render(course, clinic.mappings)))
            assert first.ledger == forgotten.ledger
            changed = replace(course, phase=Phase.ENDING)
            second = await ehr.deliver(delivery(render(changed, clinic.mappings), first, 2))
            before = len(mask.asked)
            await ehr.deliver(delivery(render(changed, clinic.mappings), second, 3))
            # Nothing is written; whether a clinician has completed the Task is looked at.
            assert {("GET", f"Task/{task['id']}")} == {each[:2] for each in mask.asked[before:]}
            (now,) = records.of(patient, "CarePlan")
            assert (careplan["id"], "2") == (now["id"], now["meta"]["versionId"])
            assert len(goals) == len(records.of(patient, "Goal"))


@pytest.mark.parametrize("vendor", [DOCUMENTS, "epic"])
async def test_a_note_as_pdf_is_written_once_and_again_when_the_plan_changes(vendor: str, clinic: Clinic) -> None:
    """By its bytes it is known whether it says the same, with a ledger and without."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    with clinic.masked(vendor) as mask:
        async with destination(mask, clinic.profiles, note_format=PDF) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            await ehr.deliver(delivery(render(course, clinic.mappings), first))
            await ehr.deliver(delivery(render(course, clinic.mappings)))  # the ledger is lost
            (note,) = records.of(patient, "DocumentReference")
            assert "application/pdf" == note["content"][0]["attachment"]["contentType"]
            await ehr.deliver(delivery(render(replace(course, phase=Phase.ENDING), clinic.mappings), first, 2))
    notes = records.of(patient, "DocumentReference")
    assert (2 if vendor == DOCUMENTS else 1) == len(notes)
    now = base64.b64decode(notes[-1]["content"][0]["attachment"]["data"])
    assert base64.b64decode(note["content"][0]["attachment"]["data"]) != now
    said = PdfReader(io.BytesIO(now)).pages[0].extract_text()
    assert "ending" in said.lower()


@pytest.mark.parametrize(
    ("vendor", "document"),
    [("medplum", None), ("medplum", UNCONDITIONAL), ("epic", {}), ("oracle-health", {}), (DOCUMENTS, {})],
)
async def test_a_create_whose_answer_was_lost_is_looked_for_before_it_is_done_again(
    vendor: str, document: dict[str, object] | None, clinic: Clinic
) -> None:
    """With conditional creates and without, by identifier or among the patient's notes: one of each afterwards."""
    patient = clinic.records.person()
    plan = render(course_of(patient), clinic.mappings)
    first = "DocumentReference" if document == {} else "CarePlan"
    with clinic.masked(vendor, said(vendor, **(document or {}))) as mask:
        mask.lost += [f"POST {first}", "POST Provenance", "POST Goal"]
        async with destination(mask, clinic.profiles) as ehr:
            delivered = None
            for _ in range(4):
                try:
                    delivered = await ehr.deliver(delivery(plan))
                except Transient:
                    continue
                break
        assert delivered is not None
        assert f"POST {first}" not in mask.lost
    assert [1] == [len(clinic.records.of(patient, first))]
    provenances = clinic.records.of(patient, "Provenance")
    assert len(provenances) == (1 if "provenance" in delivered.ledger["remotes"] else 0)
    goals = {goal["identifier"][0]["value"] for goal in clinic.records.of(patient, "Goal")}
    assert len(goals) == len(clinic.records.of(patient, "Goal"))


@pytest.mark.parametrize(("vendor", "stated"), [("medplum", {}), ("medplum", UNCONDITIONAL), ("epic", {})])
async def test_eight_workers_at_once_leave_one_plan_that_counts(
    vendor: str, stated: dict[str, object], clinic: Clinic
) -> None:
    """Where creates can't be conditional, duplicates are taken back by whoever sees them."""
    patient = clinic.records.person()
    plan = render(course_of(patient), clinic.mappings)
    with clinic.masked(vendor, said(vendor, **stated)) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            outcomes = await asyncio.gather(*(ehr.deliver(delivery(plan)) for _ in range(8)), return_exceptions=True)
            await ehr.deliver(delivery(plan))
    assert all(isinstance(each, Delivered | Transient) for each in outcomes)
    kind = "DocumentReference" if vendor == "epic" else "CarePlan"
    standing = [each for each in clinic.records.of(patient, kind) if each["status"] != "entered-in-error"]
    assert 1 == len(standing)


async def test_of_duplicates_the_one_that_a_clinician_used_is_kept(clinic: Clinic) -> None:
    """The others are entered in error, but never one that holds more than ours."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    plan = render(course, clinic.mappings)
    with clinic.masked("medplum") as mask:
        async with destination(mask, clinic.profiles) as ehr:
            await ehr.deliver(delivery(plan))
            (first,) = records.of(patient, "CarePlan")
            for name in ("b", "c"):
                records.write({**first, "id": f"{name}-{patient[2:]}"})
            used = f"b-{patient[2:]}"
            records.edit({"resourceType": "CarePlan", "id": used}, note=NOTE)
            again = await ehr.deliver(delivery(plan))
    held = {each["id"]: each["status"] for each in records.of(patient, "CarePlan")}
    assert {first["id"]: "entered-in-error", f"c-{patient[2:]}": "entered-in-error", used: "active"} == held
    assert used == again.ledger["remotes"]["careplan"]["id"]


async def test_a_clinicians_edit_survives_where_the_server_chooses_ids(clinic: Clinic) -> None:
    """As everywhere; a plan that they ended stays ended."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    with clinic.masked("google") as mask:
        async with destination(mask, clinic.profiles) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            (careplan,) = records.of(patient, "CarePlan")
            records.edit(careplan, note=NOTE, status="completed")
            changed = render(replace(course, phase=Phase.ENDING), clinic.mappings)
            second = await ehr.deliver(delivery(changed, first, 2))
    (held,) = records.of(patient, "CarePlan")
    assert (NOTE, "completed", ("careplan completed",)) == (held["note"], held["status"], second.respected)
    assert dict(changed.resources)["careplan"]["text"] == held["text"]


async def test_goals_and_reviews_that_the_server_takes_not_stand_in_the_plan(clinic: Clinic) -> None:
    """Goals within it, reviews as activities, and a message for each where Communications are taken; no versions."""
    records, patient = clinic.records, clinic.records.person()
    course = replace(course_of(patient), findings=(SAFETY,))
    with clinic.masked("generic-r4") as mask:
        async with destination(mask, clinic.profiles) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            assert "transaction" == first.route
            (careplan,) = records.of(patient, "CarePlan")
            assert {f"#{goal['id']}" for goal in careplan["contained"]} == {g["reference"] for g in careplan["goal"]}
            review = careplan["activity"][-1]["detail"]
            assert ("Task", "not-started") == (review["kind"], review["status"])
            assert "self-harm" in review["description"]
            (message,) = records.of(patient, "Communication")
            assert ("stat", [f"CarePlan/{careplan['id']}"]) == (
                message["priority"],
                [each["reference"] for each in message["about"]],
            )
            records.edit(careplan, note=NOTE)
            ended = render(replace(course, phase=Phase.ENDING, findings=()), clinic.mappings)
            await ehr.deliver(delivery(ended, first, 2))
    (held,) = records.of(patient, "CarePlan")
    assert NOTE == held["note"]
    assert len(careplan["contained"]) == len(held["contained"])
    assert "self-harm" not in orjson.dumps(held["activity"]).decode()
    assert 1 == len(records.of(patient, "Communication"))
    assert not any(kind in {"Goal", "Task", "Flag"} for _, path, _ in mask.asked for kind in [path.partition("/")[0]])


@pytest.mark.parametrize("vendor", ["epic", "oracle-health"])
async def test_a_note_is_one_note_kept_current(vendor: str, clinic: Clinic) -> None:
    """What a clinician sees of the plan, and what the EHR added to the note stays."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    with clinic.masked(vendor) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            assert "document" == first.route
            (note,) = records.of(patient, "DocumentReference")
            assert ("18776-5", "text/html") == (
                note["type"]["coding"][0]["code"],
                note["content"][0]["attachment"]["contentType"],
            )
            assert "session 9 of 12" in text_of(note)
            assert "Depression (PHQ-9) below 10" in text_of(note)
            records.edit(note, docStatus="final")
            later = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
            ended = render(replace(course, phase=Phase.ENDING, latest=later), clinic.mappings)
            second = await ehr.deliver(delivery(ended, first, 2))
            forgotten = await ehr.deliver(delivery(ended, None, 3))
    (held,) = records.of(patient, "DocumentReference")
    assert (note["id"], "final", True) == (held["id"], held["docStatus"], "(ending phase)" in text_of(held))
    assert second.ledger["remotes"]["note"]["id"] == forgotten.ledger["remotes"]["note"]["id"] == held["id"]
    expected = 2 if vendor == "oracle-health" else 0  # one Provenance for each write
    assert expected == len(records.of(patient, "Provenance"))
    assert [] == records.of(patient, "Observation")


async def test_scores_go_beside_the_note_where_they_are_wanted(clinic: Clinic) -> None:
    """One Observation a total; a response that was amended changes it, one that was withdrawn takes it back."""
    records, patient = clinic.records, clinic.records.person()

    def measure(total: int, fact: str) -> Measure:
        taken = datetime(2026, 3, 3, 9, 0, tzinfo=UTC)
        return Measure("phq-9", taken, total, None, (), "severe", 0, False, (), fact)  # noqa: FBT003 - answered

    def plan(*measures: Measure) -> Any:  # noqa: ANN401 - a plan
        return render(replace(course_of(patient), measures=measures), clinic.mappings)

    both = (measure(21, "QuestionnaireResponse/a"), measure(14, "QuestionnaireResponse/b"))
    with clinic.masked("epic") as mask:
        async with destination(mask, clinic.profiles, scores=True) as ehr:
            first = await ehr.deliver(delivery(plan(*both)))
            assert [21, 14] == [each["valueQuantity"]["value"] for each in records.of(patient, "Observation")]
            await ehr.deliver(delivery(plan(measure(20, "QuestionnaireResponse/a")), first, 2))
    held = {each["valueQuantity"]["value"]: each["status"] for each in records.of(patient, "Observation")}
    assert {20: "final", 14: "entered-in-error"} == held


async def test_a_note_that_can_only_be_added_replaces_the_one_before(clinic: Clinic) -> None:
    """Each edition names the one that it replaces; the same plan again adds none."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    plans = [render(each, clinic.mappings) for each in (course, replace(course, phase=Phase.ENDING), course)]
    plans.append(retract(course, clinic.mappings))
    after: Delivered | None = None
    with clinic.masked(DOCUMENTS) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            for counter, plan in enumerate(plans, 1):
                after = await ehr.deliver(delivery(plan, after, counter))
                before = len(mask.asked)
                await ehr.deliver(delivery(plan, after, counter))
                assert before == len(mask.asked)
    notes = records.of(patient, "DocumentReference")
    assert len(plans) == len(notes)
    replaced = [each["target"]["reference"] for note in notes for each in note.get("relatesTo", [])]
    assert [f"DocumentReference/{note['id']}" for note in notes[:-1]] == replaced
    assert "Entered in error" in text_of(notes[-1])
    assert "current" == notes[-1]["status"]


@pytest.mark.parametrize("conditional", [False, True])
async def test_editions_go_on_where_the_ledger_was_lost(
    conditional: bool,  # noqa: FBT001 - pytest hands it over
    clinic: Clinic,
) -> None:
    """Whatever counter a new store begins with: the newest edition replaces all that stood."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    with clinic.masked(DOCUMENTS, said(DOCUMENTS, conditionalCreate=conditional)) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            await ehr.deliver(delivery(render(course, clinic.mappings)))
            await ehr.deliver(delivery(render(replace(course, phase=Phase.ENDING), clinic.mappings), None, 1))
    first, second = records.of(patient, "DocumentReference")
    assert f"DocumentReference/{first['id']}" == second["relatesTo"][0]["target"]["reference"]


@pytest.mark.parametrize("vendor", ["epic", "medplum"])
async def test_a_plan_that_is_withheld_later_leaves_nothing_that_looks_true(vendor: str, clinic: Clinic) -> None:
    """The note tells no more; every other resource is entered in error."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    with clinic.masked(vendor) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            await ehr.deliver(delivery(withheld(course, clinic.mappings), first, 2))
    statuses = {
        each["lifecycleStatus" if kind == "Goal" else "status"]
        for kind in ("CarePlan", "Goal", "Task", "DocumentReference")
        for each in records.of(patient, kind)
    }
    assert {"entered-in-error"} == statuses
    for note in records.of(patient, "DocumentReference"):
        assert "PHQ-9" not in text_of(note)


@pytest.mark.parametrize("vendor", ["athenahealth", "meditech"])
async def test_an_ehr_that_takes_nothing_is_sent_nothing(vendor: str, clinic: Clinic) -> None:
    """The plan is delivered to the chart view."""
    with clinic.masked(vendor) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            delivered = await ehr.deliver(delivery(render(courses.course("p-1"), clinic.mappings)))
    assert ("chart-only", {}) == (delivered.route, delivered.ledger)
    assert {"GET"} == {method for method, _, _ in mask.asked}


@pytest.mark.parametrize("code", ["4130", "4131", "4134"])
async def test_break_the_glass_is_never_tried_again(code: str, clinic: Clinic) -> None:
    """One write was refused, and none followed."""
    patient = clinic.records.person()
    with clinic.masked("epic") as mask:
        mask.locked = code
        async with destination(mask, clinic.profiles) as ehr:
            with pytest.raises(Permanent) as caught:
                await ehr.deliver(delivery(render(course_of(patient), clinic.mappings)))
        assert ("never-retried", ("security", code)) == (caught.value.code, caught.value.outcome_codes)
        assert ["POST"] == [method for method, _, _ in mask.asked if method != "GET"]


@pytest.mark.parametrize(("vendor", "status"), [("oracle-health", 409), ("epic", None), ("medplum", 412)])
async def test_a_version_that_went_by_meanwhile_is_merged(vendor: str, status: int | None, clinic: Clinic) -> None:
    """409 and 412 alike; where If-Match is not heeded, what is there is read before each update."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    kind = "CarePlan" if vendor == "medplum" else "DocumentReference"
    with clinic.masked(vendor) as mask:
        async with destination(mask, clinic.profiles) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            (held,) = records.of(patient, kind)
            records.edit(held, language="de")
            ended = render(replace(course, phase=Phase.ENDING), clinic.mappings)
            await ehr.deliver(delivery(ended, first, 2))
    assert ["de"] == [each["language"] for each in records.of(patient, kind)]
    statuses = {answered for _, _, answered in mask.asked}
    # Only a server that heeds If-Match is written to without reading first: there it can be too late.
    assert (status in statuses) == (vendor == "medplum")
    assert 412 not in statuses or vendor == "medplum"


async def test_the_patient_is_missing_at_an_ehr_that_takes_notes(clinic: Clinic) -> None:
    """As at any other: a person has to load them."""
    with clinic.masked("epic") as mask:
        async with destination(mask, clinic.profiles) as ehr:
            with pytest.raises(Permanent) as caught:
                await ehr.deliver(delivery(render(courses.course("nobody-of-that-name"), clinic.mappings)))
    assert "patient-missing" == caught.value.code


async def test_the_ledger_remembers_what_the_server_took(clinic: Clinic) -> None:
    """As the destination tells of its terms: a plan that went there without a Provenance is not as it would be sent."""
    plan = render(course_of(clinic.records.person()), clinic.mappings)
    remembered, told = [], list[str]()
    for absent in ("Nothing", "Provenance"):
        stop = asyncio.Event()

        def on_change(_: object, terms: str, _shrunk: object, stop: asyncio.Event = stop) -> None:
            told.append(terms)
            stop.set()

        with clinic.masked("medplum", said("medplum", absent)) as mask:
            async with destination(mask, clinic.profiles) as ehr:
                remembered.append((await ehr.deliver(delivery(plan))).ledger["terms"])
            client = FhirClient(mask.base)
            place = EhrDestination("ehr", client, agreement=Agreement("ehr", client, clinic.profiles))
            await place.follow(stop, on_change)
            await place.close()
    assert told == remembered
    assert told[0] != told[1]


async def test_a_plan_does_not_stay_active_beside_the_note_that_takes_its_place(clinic: Clinic) -> None:
    """Where a server takes notes only from now on, what it took before is ended there, and goes on once it is taken."""
    records, patient = clinic.records, clinic.records.person()
    plan = render(course_of(patient, findings=(SAFETY,)), clinic.mappings)
    whole, notes = statement("medplum"), orjson.loads(statement("medplum"))
    for each in notes["rest"][0]["resource"]:
        if each["type"] == "CarePlan":
            each["interaction"] = [{"code": code} for code in ("read", "update", "search-type")]
    told: list[tuple[object, ...]] = []
    ledger = None
    with clinic.masked("medplum") as mask:
        for counter, said_now in enumerate((whole, orjson.dumps(notes), whole)):
            mask.says(said_now)
            async with destination(mask, clinic.profiles) as ehr:
                ledger = await ehr.deliver(delivery(plan, ledger, counter + 1))
            told.append((ledger.route, *_standing(records, patient)))
    flag = len(records.of(patient, "Flag"))
    assert told == [
        ("server-id", {"active"}, {"requested"}, {"active"}, set()),
        ("document", {"revoked"}, {"cancelled"}, {"inactive"}, {"current"}),
        ("server-id", {"active"}, {"requested"}, {"active"}, {"superseded"}),
    ]
    assert (1, 1) == (len(records.of(patient, "CarePlan")), flag)


def _standing(records: Records, patient: str) -> tuple[set[str], ...]:
    """Return the statuses of what the server holds of a patient's plan."""
    return tuple(
        {each["status"] for each in records.of(patient, kind)}
        for kind in ("CarePlan", "Task", "Flag", "DocumentReference")
    )


async def test_the_next_delivery_goes_by_what_the_server_states_then(clinic: Clinic) -> None:
    """A plan that was a note becomes a CarePlan; the note says that it is superseded."""
    records, patient = clinic.records, clinic.records.person()
    course = course_of(patient)
    with clinic.masked("epic") as mask:
        async with destination(mask, clinic.profiles) as ehr:
            first = await ehr.deliver(delivery(render(course, clinic.mappings)))
            mask.says(statement("medplum"))
            still = await ehr.deliver(delivery(render(course, clinic.mappings), first, 2))
            assert "document" == still.route
            stop = asyncio.Event()
            await asyncio.gather(ehr.follow(stop, lambda *_: stop.set()))
            second = await ehr.deliver(delivery(render(course, clinic.mappings), still, 3))
    assert "server-id" == second.route
    assert ["active"] == [each["status"] for each in records.of(patient, "CarePlan")]
    assert ["superseded"] == [each["status"] for each in records.of(patient, "DocumentReference")]
