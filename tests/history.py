"""A patient's history in a few words: the facts that a clinical example starts from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from service.domain.codes import LOINC, SNOMED_CT
from service.domain.facts import (
    ActReading,
    Answer,
    Code,
    EncounterReading,
    Fact,
    FactKey,
    OrderKey,
    PatientKey,
    Reading,
    ResponseReading,
    TaskReading,
)
from service.domain.forms import FHIR_BASE
from service.domain.projection import project

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.domain.course import Course, Finding
    from service.domain.mappings import Mappings

PATIENT = PatientKey("main", "p-1")
MONDAY = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
"""The first session of most examples."""
THERAPIST = "Practitioner/t-1"
IPT = Code(SNOMED_CT, "443730003")
CPT_CRISIS = Code("http://www.ama-assn.org/go/cpt", "90839")
CPT_45 = Code("http://www.ama-assn.org/go/cpt", "90834")
PHQ_9 = ("44250-9", "44255-8", "44259-0", "44254-1", "44251-7", "44258-2", "44252-5", "44253-3", "44260-8")
GAD_7 = ("69725-0", "68509-9", "69733-4", "69734-2", "69735-9", "69689-8", "69736-7")
FREQUENCY = ("LA6568-5", "LA6569-3", "LA6570-1", "LA6571-9")


def week(number: float) -> datetime:
    """Return the time of the session of a week, the first being week 0."""
    return MONDAY + timedelta(weeks=number)


def fact(kind: str, resource_id: str, reading: Reading | None, *, version: int = 1) -> Fact:
    """Return a fact of the example patient."""
    order = OrderKey(1_767_000_000_000_000 + version, version, reading is None, f"{resource_id}/{version}")
    return Fact(FactKey(PATIENT.source, kind, resource_id), order, PATIENT.patient_id, reading)


def encounter(
    resource_id: str,
    start: datetime | None,
    *,
    status: str = "finished",
    types: Sequence[Code] = (IPT,),
    minutes: int = 50,
    by: Sequence[str] = (THERAPIST,),
    episodes: Sequence[str] = (),
    reasons: Sequence[Code] = (),
    part_of: str | None = None,
) -> Fact:
    """Return an encounter; by default a held IPT session with the patient's therapist."""
    end = None if start is None else start + timedelta(minutes=minutes)
    reading = EncounterReading(
        status,
        types=tuple(types),
        reasons=tuple(reasons),
        start=start,
        end=end,
        practitioners=tuple(by),
        episodes=tuple(episodes),
        part_of=part_of,
    )
    return fact("Encounter", resource_id, reading)


def sessions(count: int, *, first: float = 0) -> list[Fact]:
    """Return weekly held IPT sessions, the first in week `first`."""
    return [encounter(f"e-{number + 1}", week(first + number)) for number in range(count)]


def response(
    resource_id: str,
    questionnaire: str,
    authored: datetime,
    answers: Iterable[Answer],
    *,
    status: str = "completed",
    of: str | None = None,
) -> Fact:
    """Return a questionnaire response; `of` is the id of the encounter that it names."""
    reading = ResponseReading(
        status,
        questionnaire,
        authored,
        encounter=None if of is None else f"Encounter/{of}",
        author=THERAPIST,
        answers=tuple(answers),
    )
    return fact("QuestionnaireResponse", resource_id, reading)


def coded(items: Sequence[str], points: Sequence[int | None]) -> list[Answer]:
    """Return frequency answers by LOINC code, linkIds as US Core writes them; None leaves an item out."""
    return [
        Answer(f"/{item}", codes=(Code(LOINC, FREQUENCY[score]),))
        for item, score in zip(items, points, strict=True)
        if score is not None
    ]


def phq9(resource_id: str, authored: datetime, total: int, *, item9: int = 0, stated: float | None = None) -> Fact:
    """Return a PHQ-9 with this total, of which item 9 has `item9` points."""
    answers = coded(PHQ_9, [*spread(total - item9, 8), item9])
    if stated is not None:
        answers.append(Answer("/44261-6", number=stated))
    return response(resource_id, "http://loinc.org/q/44249-1", authored, answers)


def gad7(resource_id: str, authored: datetime, total: int) -> Fact:
    """Return a GAD-7 with this total."""
    return response(resource_id, "http://loinc.org/q/69737-5", authored, coded(GAD_7, spread(total, 7)))


def phq9m(resource_id: str, authored: datetime, total: int) -> Fact:
    """Return a PHQ-9M with this total, of which item 9 has no points."""
    answers = [Answer(f"phq9m-{item}", number=float(points)) for item, points in enumerate([*spread(total, 8), 0], 1)]
    return response(resource_id, "https://ipt-bridge.org/fhir/Questionnaire/phq-9m", authored, answers)


def spread(total: int, items: int) -> list[int]:
    """Return points of 0 to 3 for each item, adding up to `total`."""
    return [min(3, max(0, total - 3 * place)) for place in range(items)]


def assessment(
    resource_id: str = "assessment",
    authored: datetime = MONDAY,
    *,
    ticked: Sequence[str] = ("diagnosis-documented", "interpersonal-inventory", "agreement"),
    focus: str | None = "role-transition",
    secondary: Sequence[str] = (),
    planned: int | None = 12,
    goals: Sequence[str] = (),
    stage: str | None = None,
    protocol: str | None = None,
    sex: str | None = None,
    age: int | None = None,
    exclusions: Sequence[str] = (),
) -> Fact:
    """Return an assessment form; by default the initial phase's tasks are all documented."""
    answers = [Answer(box, boolean=True) for box in ticked]
    answers += [choice("primary-focus-area", "focus-area", focus)] if focus else []
    answers += [choice("secondary-focus-area", "focus-area", area) for area in secondary]
    answers += [choice("dispute-stage", "dispute-stage", stage)] if stage else []
    answers += [choice("goal", "patient-goal", goal) for goal in goals]
    answers += [Answer("planned-sessions", number=float(planned))] if planned is not None else []
    answers += [choice("protocol", "protocol", protocol)] if protocol else []
    answers += [choice("administrative-sex", "administrative-sex", sex)] if sex else []
    answers += [Answer("age", number=float(age))] if age is not None else []
    answers += [choice("exclusion", "exclusion", code) for code in exclusions]
    return response(resource_id, f"{FHIR_BASE}/Questionnaire/ipt-assessment", authored, answers)


def session_form(resource_id: str, authored: datetime, *answers: Answer, of: str | None = None) -> Fact:
    """Return a session form; by default it says nothing but that the session was documented."""
    return response(resource_id, f"{FHIR_BASE}/Questionnaire/ipt-session", authored, answers, of=of)


def ending(
    resource_id: str,
    authored: datetime,
    decision: str | None,
    *,
    planned: int | None = None,
    stopped: str | None = None,
) -> Fact:
    """Return an ending form with its decision, or with why the treatment stopped."""
    answers = [choice("decision", "decision", decision)] if decision is not None else []
    answers += [choice("stopped-because", "stopped-because", stopped)] if stopped is not None else []
    answers += [Answer("planned-sessions", number=float(planned))] if planned is not None else []
    return response(resource_id, f"{FHIR_BASE}/Questionnaire/ipt-ending", authored, answers)


def crisis(resource_id: str, start: datetime) -> Fact:
    """Return a crisis contact that was held."""
    return encounter(resource_id, start, types=[CPT_CRISIS])


def task(course: str, finding: str, at: datetime, *, status: str = "completed") -> Fact:
    """Return the Task that a plan asks about a finding with, as a clinician left it at a time."""
    reading = TaskReading(status, f"{course}/task/{finding}", at, THERAPIST)
    return fact("Task", f"t-{at:%Y%m%d%H%M}", reading)


def act(
    role: str,
    status: str,
    at: datetime,
    *,
    course: str = "",
    version: int = 1,
    edited: tuple[str, ...] | None = None,
) -> Fact:
    """Return what a clinician made of a resource of a plan at the destination `ehr` at a time: its status, or edits."""
    reading = ActReading(status, course, role, "ehr", at, str(version), edited or ())
    kind = {"careplan": "CarePlan", "task": "Task", "flag": "Flag"}.get(role.partition("/")[0], "Goal")
    apart = "" if edited is None else "edited."
    return fact(kind, f"ehr.{apart}{role.replace('/', '-')}", reading, version=version)


def choice(link_id: str, system: str, code: str) -> Answer:
    """Return an answer with a code of one of our CodeSystems."""
    return Answer(link_id, codes=(Code(f"{FHIR_BASE}/CodeSystem/{system}", code),))


def newer(old: Fact, reading: Reading | None) -> Fact:
    """Return the next version of a resource."""
    order = replace_version(old.order)
    return replace(old, order=order._replace(deleted=reading is None), reading=reading)


def replace_version(order: OrderKey) -> OrderKey:
    """Return the order key of the next version."""
    return order._replace(last_updated=order.last_updated + 1, version=order.version + 1, digest=f"{order.digest}+")


def course_of(facts: Iterable[Fact], as_of: datetime, mappings: Mappings) -> Course:
    """Return the patient's one course as of an instant."""
    (course,) = project(PATIENT, facts, as_of, mappings).courses
    return course


def found(course: Course, rule: str) -> list[Finding]:
    """Return what a rule found in a course, by the day on which it was raised."""
    return sorted((each for each in course.findings if each.rule == rule), key=lambda each: (each.raised, each.id))
