"""Evidence: what one fact means under the mappings, before it is seen together with others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from service.domain.course import Measure, SessionKind, SessionState
from service.domain.facts import ActReading, Code, EncounterReading, Fact, PatientReading, TaskReading
from service.domain.forms import COUNTED, FHIR_BASE, CourseField, FormKind, FormMap
from service.domain.scoring import COMPLETE, score
from service.domain.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.facts import ResponseReading
    from service.domain.mappings import Mappings

_STATES = {
    "planned": SessionState.PLANNED,
    "arrived": SessionState.IN_PROGRESS,
    "triaged": SessionState.IN_PROGRESS,
    "in-progress": SessionState.IN_PROGRESS,
    "onleave": SessionState.IN_PROGRESS,
    "unknown": SessionState.IN_PROGRESS,
    "finished": SessionState.HELD,
    "cancelled": SessionState.CANCELLED,
    "discontinued": SessionState.CANCELLED,
}
_NOTHING: frozenset[str] = frozenset()
TASK_ROLE = "task"
"""Role of a Task in a course's plan, before the id of the finding that it asks about."""


PLAN_ROLE = "careplan"
"""Role of the CarePlan itself."""
GOAL_ROLE = "goal"
"""Role of a Goal, before what tells it from the others."""


class Meeting(Value, frozen=True):
    """An encounter that may be a session."""

    start: datetime
    reference: str
    """`Encounter/id`."""
    encounter: str
    """Encounter id in the source."""
    state: SessionState
    kind: SessionKind
    explicit: bool
    """It says by itself that it is IPT."""
    minutes: int | None
    odd_duration: bool
    telehealth: bool
    group: bool
    practitioners: tuple[str, ...]
    episodes: tuple[str, ...]
    conditions: tuple[str, ...]
    labels: tuple[Code, ...]
    reasons: tuple[Code, ...] = ()
    part_of: str | None = None
    """`Encounter/id` of the visit that it is a part of."""
    types: tuple[Code, ...] = ()
    """Kept only where the site chooses protocols."""


class Form(Value, frozen=True):
    """An assessment, session or ending form."""

    start: datetime
    """When it was authored."""
    reference: str
    """`QuestionnaireResponse/id`."""
    response: str
    """QuestionnaireResponse id in the source."""
    kind: FormKind
    encounter: str | None
    author: str | None
    values: Mapping[CourseField, tuple[str, ...]]
    """Our codes, in the order given; `("true",)` for a ticked box."""
    labels: tuple[Code, ...]
    numbers: Mapping[CourseField, int]
    """Answers to the fields that count something."""


class Scored(Value, frozen=True):
    """A measure with the labels of its fact."""

    start: datetime
    """When it was taken."""
    reference: str
    """`QuestionnaireResponse/id`."""
    measure: Measure
    labels: tuple[Code, ...]


class TaskDone(Value, frozen=True):
    """A Task of a plan that a clinician completed: the answer to a finding.

    Its labels are none of the course's: it carries those that the plan gave it.
    """

    start: datetime
    """When it was completed."""
    reference: str
    """`Task/id`."""
    course: str
    """Id of the course whose plan it is of."""
    finding: str
    """Id of the finding that it asks about."""
    by: str | None
    """Its owner, as a relative reference."""


class PlanAct(Value, frozen=True):
    """What a clinician made of a resource of a plan at a destination; its labels are none of the course's."""

    start: datetime
    """When it was written there."""
    reference: str
    """`CarePlan/ehr.id`, `Goal/ehr.id`: the destination stands before the id."""
    course: str
    """Id of the course whose plan it is of."""
    role: str
    status: str
    destination: str
    edited: tuple[str, ...] = ()
    """FHIR paths of the elements in which something is left as they have it."""


Attended = Meeting | Form | Scored
"""What a treatment is made of."""
Evidence = Attended | TaskDone | PlanAct


def interpret(fact: Fact, mappings: Mappings) -> tuple[Evidence, ...]:
    """Return what a fact means: a meeting, a form, one or several measures, an answer, or nothing of ours."""
    if isinstance(fact.reading, ActReading):
        return (_plan_act(fact, fact.reading),)
    if fact.reading is None or isinstance(fact.reading, PatientReading) or fact.reading.status == "entered-in-error":
        return ()
    if isinstance(fact.reading, EncounterReading):
        meeting = _meeting(fact, fact.reading, mappings)
        return () if meeting is None else (meeting,)
    if isinstance(fact.reading, TaskReading):
        done = _task_done(fact, fact.reading)
        return () if done is None else (done,)
    form = mappings.forms.get(mappings.canonical(fact.reading.questionnaire))
    if form is not None:
        return (_form(fact, fact.reading, form),) if fact.reading.status in COMPLETE else ()
    return tuple(_scored(fact, fact.reading, mappings))


def _meeting(fact: Fact, reading: EncounterReading, mappings: Mappings) -> Meeting | None:
    uses: set[str] = set()
    for code in reading.types:
        uses |= mappings.codes_by_use.get(code, _NOTHING)
    if "crisis" in uses:
        kind = SessionKind.CRISIS
    elif "preparation" in uses:
        kind = SessionKind.PREPARATION
    elif "ipt" in uses or "psychotherapy" in uses:
        kind = SessionKind.SESSION
    elif "evaluation" in uses:
        kind = SessionKind.ASSESSMENT
    else:
        return None
    state = _STATES[reading.status]
    if state is SessionState.CANCELLED and _any_use(reading.reasons, "no_show", mappings):
        state = SessionState.NO_SHOW
    minutes, odd = _minutes(reading.start, reading.end, mappings.courses.longest_meeting.value)
    return Meeting(
        start=reading.start or _documented(fact),
        reference=fact.key.reference,
        encounter=fact.key.resource_id,
        state=state,
        kind=kind,
        explicit="ipt" in uses and kind is SessionKind.SESSION,
        minutes=minutes,
        odd_duration=odd,
        telehealth="telehealth" in uses or _any_use(reading.classes, "telehealth", mappings),
        group="group" in uses,
        practitioners=reading.practitioners,
        episodes=reading.episodes,
        conditions=reading.conditions,
        labels=fact.labels,
        reasons=reading.reasons,
        part_of=reading.part_of,
        types=reading.types if mappings.site_protocols else (),
    )


def _any_use(codes: tuple[Code, ...], use: str, mappings: Mappings) -> bool:
    return any(use in mappings.codes_by_use.get(code, _NOTHING) for code in codes)


def _minutes(start: datetime | None, end: datetime | None, longest: float) -> tuple[int | None, bool]:
    if start is None or end is None:
        return None, False
    minutes = (end - start).total_seconds() / 60
    if not 0 <= minutes <= longest:
        return None, True
    return round(minutes), False


def _documented(fact: Fact) -> datetime:
    """When the newest version was written: stands in where the resource itself gives no time."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=fact.order.last_updated)


def _form(fact: Fact, reading: ResponseReading, form: FormMap) -> Form:
    values: dict[CourseField, list[str]] = {}
    numbers: dict[CourseField, int] = {}
    for answer in reading.answers:
        field = form.fields.get(answer.link_id.removeprefix("/"))
        if field is None:
            continue
        if field in COUNTED:
            if answer.number is not None and answer.number.is_integer() and answer.number > 0:
                numbers[field] = int(answer.number)
            continue
        given = [own for code in answer.codes if (own := _own_code(code, form)) is not None]
        if answer.boolean:
            given.append("true")
        kept = values.setdefault(field, [])
        kept.extend(code for code in dict.fromkeys(given) if code not in kept)
    return Form(
        start=reading.authored or _documented(fact),
        reference=fact.key.reference,
        response=fact.key.resource_id,
        kind=form.kind,
        encounter=_id_of(reading.encounter, "Encounter"),
        author=reading.author,
        values={field: tuple(codes) for field, codes in values.items() if codes},
        labels=fact.labels,
        numbers=numbers,
    )


def _own_code(code: Code, form: FormMap) -> str | None:
    if (mapped := form.values.get(code)) is not None:
        return mapped
    return code.code if code.system.startswith(FHIR_BASE) else None


def _id_of(reference: str | None, resource_type: str) -> str | None:
    if reference is None or not reference.startswith(f"{resource_type}/"):
        return None
    return reference.removeprefix(f"{resource_type}/")


def _task_done(fact: Fact, reading: TaskReading) -> TaskDone | None:
    course, role, finding = reading.identifier.partition(f"/{TASK_ROLE}/")
    if reading.status != "completed" or not role:
        return None
    return TaskDone(reading.modified or _documented(fact), fact.key.reference, course, finding, reading.owner)


def _plan_act(fact: Fact, reading: ActReading) -> PlanAct:
    return PlanAct(
        reading.at,
        fact.key.reference,
        reading.course,
        reading.role,
        reading.status,
        reading.destination,
        reading.edited,
    )


def _scored(fact: Fact, reading: ResponseReading, mappings: Mappings) -> list[Scored]:
    questionnaire = mappings.canonical(reading.questionnaire)
    if questionnaire in mappings.other_questionnaires:
        return []
    named = mappings.instrument_by_questionnaire.get(questionnaire)
    instruments = [mappings.instruments[named]] if named else list(mappings.instruments.values())
    site = mappings.site_link_ids.get(questionnaire)
    measures = []
    for instrument in instruments:
        measure = score(
            reading,
            instrument,
            taken=reading.authored or _documented(fact),
            fact=fact.key.reference,
            site_link_ids=site,
        )
        if _says_something(measure, named=named is not None):
            measures.append(Scored(measure.taken, measure.fact, measure, fact.labels))
    return measures if named else _without_parts(measures, mappings)


def _without_parts(measures: list[Scored], mappings: Mappings) -> list[Scored]:
    """Of an instrument and a shorter one made of its first items, keep the one that was filled in."""
    by_name = {scored.measure.instrument: scored for scored in measures}
    for name, scored in tuple(by_name.items()):
        longer = by_name.get(mappings.instruments[name].part_of or "")
        if longer is not None:
            beyond = longer.measure.items[len(scored.measure.items) :]
            fits = any(points is not None for points in beyond)
            del by_name[name if fits else longer.measure.instrument]
    return measures if len(by_name) == len(measures) else list(by_name.values())


def _says_something(measure: Measure, *, named: bool) -> bool:
    """A response that merely shares an answer list with an instrument is no measure of it."""
    answered = any(points is not None for points in measure.items) or bool(measure.contradicted)
    return answered or (named and measure.stated_total is not None)
