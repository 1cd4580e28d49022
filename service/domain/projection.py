"""The projection: all facts of one patient, at one instant, to the patient's courses.

A pure function: any order, repetition or split of the facts gives the same courses to the byte, and
`as_of` matters only at the instants that it announces in `next_due`.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from service.domain.course import (
    Course,
    Decision,
    Documented,
    Ending,
    FocusArea,
    PatientGoal,
    Phase,
    Projection,
    SessionKind,
    SessionState,
    course_id,
)
from service.domain.evidence import Form, Meeting, Scored, interpret
from service.domain.forms import CourseField, FormKind
from service.domain.progress import changes
from service.domain.rules import findings
from service.domain.rules.case import Case
from service.domain.sessions import Sittings, join, numbered
from service.domain.treatments import Treatment, treatments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, datetime

    from service.domain.course import Measure
    from service.domain.evidence import Evidence
    from service.domain.facts import Fact, PatientKey
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol

_BOXES = (
    CourseField.DIAGNOSIS,
    CourseField.INVENTORY,
    CourseField.PRIMARY_FOCUS,
    CourseField.FORMULATION,
    CourseField.AGREEMENT,
)


def project(patient: PatientKey, facts: Iterable[Fact], as_of: datetime, mappings: Mappings) -> Projection:
    """Return the courses that a patient's facts amount to as of an instant, and when that next changes."""
    evidence = [item for fact in sorted(facts, key=lambda fact: fact.key) for item in interpret(fact, mappings)]
    return project_evidence(patient, evidence, as_of, mappings)


def project_evidence(
    patient: PatientKey, evidence: Iterable[Evidence], as_of: datetime, mappings: Mappings
) -> Projection:
    """As `project`, from facts that are interpreted already."""
    protocol = mappings.protocols[mappings.courses.protocol]
    known: list[Evidence] = []
    ahead: list[datetime] = []
    for item in evidence:
        if isinstance(item, Form) and item.start > as_of:
            ahead.append(item.start)
        else:
            known.append(item)
    found = treatments(known, mappings.courses, same_practitioner=mappings.same_practitioner)
    for treatment in found:
        ahead.extend(_steps_ahead(treatment, as_of, protocol))
    found.sort(key=attrgetter("opened", "anchor"))
    courses = tuple([_course(patient, treatment, as_of, mappings, protocol) for treatment in found])
    return Projection(patient, as_of, courses, min(ahead, default=None))


def _course(
    patient: PatientKey,
    treatment: Treatment,
    as_of: datetime,
    mappings: Mappings,
    protocol: Protocol,
) -> Course:
    forms = treatment.forms
    joined = join(treatment.meetings, forms, as_of, protocol.attendance)
    planned, agreed = _planned(forms, protocol)
    documented = tuple(_documented(forms))
    ending = _ending(forms)
    complete = _complete_on(documented, protocol)
    stage = _Stage(planned, protocol.ending.count, complete, ending)
    sessions = numbered(joined.sittings, stage.of_session)
    held = [session for session in sessions if session.number is not None]
    closed = ending.on if ending is not None and ending.decision is Decision.END else None
    measures = tuple([item.measure for item in treatment.measures])
    of_course = changes(_of_course(measures, treatment, as_of), mappings)
    case = Case(
        anchor=treatment.anchor,
        phase=stage.of_course(len(held)),
        planned_sessions=planned,
        documented=documented,
        measures=measures,
        changes=of_course,
        sessions=sessions,
        held=held,
        joined=joined,
        meetings=treatment.meetings,
        forms=forms,
        initial_complete=complete,
        last_activity=last_activity(treatment, joined),
        as_of=as_of,
    )
    return Course(
        id=course_id(patient, treatment.anchor),
        source=patient.source,
        patient_id=patient.patient_id,
        anchor=treatment.anchor,
        protocol=protocol.id,
        phase=case.phase,
        opened=treatment.opened.date(),
        closed=closed,
        planned_sessions=planned,
        planned_sessions_agreed=agreed,
        held=len(held),
        sessions=sessions,
        documented=documented,
        focus_areas=tuple(_focus_areas(forms)),
        goals=tuple(_goals(forms)),
        measures=measures,
        changes=of_course,
        ending=ending,
        findings=findings(case, mappings, protocol),
        projected_end=None if closed else _projected_end(treatment, joined, planned, len(held), protocol),
        practitioners=tuple(sorted(_practitioners(treatment))),
        conditions=tuple(sorted({c for meeting in treatment.meetings for c in meeting.conditions})),
        encounters=len(treatment.meetings),
        responses=len({item.reference for item in treatment.measures}) + len(forms),
        labels=tuple(sorted({label for item in _all(treatment) for label in item.labels})),
    )


def last_activity(treatment: Treatment, joined: Sittings) -> datetime:
    """Return when the last session was held, or the treatment opened."""
    return next((sitting.start for sitting in reversed(joined.sittings) if sitting.counts), treatment.opened)


def _steps_ahead(treatment: Treatment, as_of: datetime, protocol: Protocol) -> Iterator[datetime]:
    """The instants to come at which this treatment's projection may change by itself, the next one among them."""
    unrecorded = protocol.attendance.unrecorded_after.days
    stalled = protocol.attendance.stalled_after.days
    longest_ago = as_of - max(unrecorded, stalled)
    if treatment.opened > longest_ago:
        yield from _after(as_of, treatment.opened + stalled)
    for meeting in treatment.meetings:
        if meeting.start > longest_ago:
            yield from _after(as_of, meeting.start, meeting.start + unrecorded, meeting.start + stalled)
    for form in treatment.forms:
        if form.start > longest_ago:
            yield from _after(as_of, form.start + stalled)
    for item in treatment.measures:
        yield from _after(as_of, item.start)


def _after(as_of: datetime, *instants: datetime) -> Iterator[datetime]:
    return (instant for instant in instants if instant > as_of)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What decides the phase: documents and counts, never a score."""

    planned: int
    ending_sessions: int
    complete: date | None
    ending: Ending | None

    def of_session(self, number: int, day: date) -> Phase:
        if self.ending is not None and self.ending.decision is Decision.MAINTENANCE and day > self.ending.on:
            return Phase.MAINTENANCE
        if number == 1 or self.complete is None or day <= self.complete:
            return Phase.INITIAL
        return Phase.ENDING if number > self.planned - self.ending_sessions else Phase.MIDDLE

    def of_course(self, held: int) -> Phase:
        if self.ending is not None and self.ending.decision is Decision.END:
            return Phase.CLOSED
        if self.ending is not None and self.ending.decision is Decision.MAINTENANCE:
            return Phase.MAINTENANCE
        if held == 0:
            return Phase.ASSESSMENT_PENDING
        if self.complete is None:
            return Phase.INITIAL
        return Phase.ENDING if held > self.planned - self.ending_sessions else Phase.MIDDLE


def _planned(forms: list[Form], protocol: Protocol) -> tuple[int, bool]:
    for form in reversed(forms):
        if CourseField.PLANNED_SESSIONS in form.numbers:
            return form.numbers[CourseField.PLANNED_SESSIONS], True
    return protocol.sessions.default.count, False


def _documented(forms: list[Form]) -> Iterator[Documented]:
    """The first documentation of each task of a phase."""
    seen: set[str] = set()
    for form in forms:
        tasks = [str(box) for box in _BOXES if form.values.get(box)]
        for task in (*tasks, *form.values.get(CourseField.PHASE_TASK, ())):
            if task not in seen:
                seen.add(task)
                yield Documented(task, form.start.date(), form.reference)


def _complete_on(documented: Iterable[Documented], protocol: Protocol) -> date | None:
    """When the last of the initial phase's tasks was documented; None while one is missing."""
    days = {document.task: document.on for document in documented}
    if any(task not in days for task in protocol.initial.tasks):
        return None
    return max(days[task] for task in protocol.initial.tasks)


def _focus_areas(forms: list[Form]) -> Iterator[FocusArea]:
    """The areas that the latest form to name a primary one names, each with the day it came up."""
    naming = [form for form in forms if form.values.get(CourseField.PRIMARY_FOCUS)]
    if not naming:
        return
    stage = next((s[0] for form in reversed(forms) if (s := form.values.get(CourseField.DISPUTE_STAGE))), None)
    latest = naming[-1]
    primary = latest.values[CourseField.PRIMARY_FOCUS][0]
    since = latest
    for form in reversed(naming):
        if form.values[CourseField.PRIMARY_FOCUS][0] != primary:
            break
        since = form
    yield FocusArea(primary, primary=True, since=since.start.date(), stage=_stage(primary, stage), fact=since.reference)
    for area in latest.values.get(CourseField.SECONDARY_FOCUS, ()):
        if area != primary:
            first = next(form for form in forms if area in form.values.get(CourseField.SECONDARY_FOCUS, ()))
            yield FocusArea(
                area, primary=False, since=first.start.date(), stage=_stage(area, stage), fact=first.reference
            )


def _stage(area: str, stage: str | None) -> str | None:
    return stage if area == "role-dispute" else None


def _goals(forms: list[Form]) -> Iterator[PatientGoal]:
    """The patient's goals as the latest form to name any has them."""
    latest = next((form for form in reversed(forms) if form.values.get(CourseField.GOAL)), None)
    if latest is None:
        return
    for goal in latest.values[CourseField.GOAL]:
        first = next(form for form in forms if goal in form.values.get(CourseField.GOAL, ()))
        yield PatientGoal(goal, first.start.date(), first.reference)


def _ending(forms: list[Form]) -> Ending | None:
    """What the latest ending form says, if it says what comes next."""
    for form in reversed(forms):
        decided = form.values.get(CourseField.DECISION, ())
        if form.kind is FormKind.ENDING and decided:
            return Ending(
                on=form.start.date(),
                decision=Decision(decided[0]),
                gains=form.values.get(CourseField.GAIN, ()),
                relapse_prevention_plan=bool(form.values.get(CourseField.RELAPSE_PREVENTION)),
                fact=form.reference,
            )
    return None


def _of_course(measures: Iterable[Measure], treatment: Treatment, as_of: datetime) -> Iterator[Measure]:
    """The measures that tell of the course's effect: none from the future, none after its end."""
    for measure in measures:
        after = treatment.closed is not None and measure.taken.date() > treatment.closed.date()
        if measure.taken <= as_of and not after:
            yield measure


def _projected_end(treatment: Treatment, joined: Sittings, planned: int, held: int, protocol: Protocol) -> date:
    interval = protocol.sessions.interval.days
    last = next((sitting.start for sitting in reversed(joined.sittings) if sitting.counts), None)
    if last is not None:
        return (last + max(planned - held, 0) * interval).date()
    ahead = [s.start for s in joined.sittings if s.state is SessionState.PLANNED and s.kind is SessionKind.SESSION]
    return (min(ahead) + (planned - 1) * interval if ahead else treatment.opened + planned * interval).date()


def _practitioners(treatment: Treatment) -> set[str]:
    seen = {
        who for meeting in treatment.meetings if meeting.kind is SessionKind.SESSION for who in meeting.practitioners
    }
    return seen | {form.author for form in treatment.forms if form.author and form.author.startswith("Practitioner/")}


def _all(treatment: Treatment) -> Iterator[Meeting | Form | Scored]:
    yield from treatment.meetings
    yield from treatment.forms
    yield from treatment.measures
