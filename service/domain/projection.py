"""The projection: all facts of one patient, at one instant, to the patient's courses.

A pure function: any order, repetition or split of the facts gives the same courses to the byte, and
`as_of` matters only at the instants that it announces in `next_due`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from service.domain.answers import acts_by_course, answers_by_course
from service.domain.choice import exclusions, protocols_followed
from service.domain.course import Course, Decision, Projection, SessionKind, SessionState, Sex, course_id
from service.domain.due import reviews_ahead, steps_ahead
from service.domain.evidence import Form, Meeting, PlanAct, Scored, TaskDone, interpret
from service.domain.focus import focus_areas, focus_history, patient_goals, well_being
from service.domain.forms import CourseField
from service.domain.outcome import turnout
from service.domain.phases import Stage, agreed, complete_on, documented, ending_of, plans
from service.domain.planning import COUNTED_DOWN, Aims
from service.domain.planning import planned as sessions_ahead
from service.domain.progress import changes, series
from service.domain.rules import findings
from service.domain.rules.case import Case
from service.domain.sessions import Sittings, join, numbered, prepared
from service.domain.treatments import Treatment, treatments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, datetime

    from service.domain.course import Measure, ProtocolSpan
    from service.domain.evidence import Attended, Evidence
    from service.domain.facts import Fact, PatientKey
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol

_SEXES = {sex.value: sex for sex in Sex}
_HELD = SessionState.HELD  # an enum's member costs a call wherever it is named


def project(patient: PatientKey, facts: Iterable[Fact], as_of: datetime, mappings: Mappings) -> Projection:
    """Return the courses that a patient's facts amount to as of an instant, and when that next changes."""
    evidence = [item for fact in sorted(facts, key=lambda fact: fact.key) for item in interpret(fact, mappings)]
    return project_evidence(patient, evidence, as_of, mappings)


def project_evidence(
    patient: PatientKey, evidence: Iterable[Evidence], as_of: datetime, mappings: Mappings
) -> Projection:
    """As `project`, from facts that are interpreted already."""
    known: list[Attended] = []
    answers: list[TaskDone] = []
    acts: list[PlanAct] = []
    ahead: list[datetime] = []
    for item in evidence:
        if isinstance(item, (Meeting, Scored)):  # a union of the two would be made anew for each
            known.append(item)
        elif item.start > as_of:
            ahead.append(item.start)
        elif isinstance(item, Form):
            known.append(item)
        elif isinstance(item, TaskDone):
            answers.append(item)
        else:
            acts.append(item)
    # The protocol of a treatment is known only once the treatment is: until then the default one stands in.
    form_match = mappings.protocols[mappings.courses.protocol].attendance.form_match.days
    found = treatments(known, mappings.courses, same_practitioner=mappings.same_practitioner, form_match=form_match)
    found.sort(key=attrgetter("opened", "anchor"))
    if answers or acts:
        names = [course_id(patient, treatment.anchor) for treatment in found]
        for treatment, given in zip(found, answers_by_course(answers, names), strict=True):
            treatment.answers = given
        for treatment, done in zip(found, acts_by_course(acts, names, found), strict=True):
            treatment.acts = done
    courses = []
    for treatment in found:
        spans = protocols_followed(treatment, mappings)
        protocol = mappings.protocols[spans[-1].protocol]
        ahead.extend(steps_ahead(treatment, as_of, protocol))
        course = _course(patient, treatment, as_of, mappings, spans)
        ahead.extend(reviews_ahead(course, as_of, protocol))
        courses.append(course)
    return Projection(patient, as_of, tuple(courses), min(ahead, default=None))


def _course(
    patient: PatientKey,
    treatment: Treatment,
    as_of: datetime,
    mappings: Mappings,
    spans: tuple[ProtocolSpan, ...],
) -> Course:
    protocol = mappings.protocols[spans[-1].protocol]
    ending = ending_of(treatment.forms, protocol)
    closed = ending.on if ending is not None and ending.decision is not Decision.CONTINUE else None
    treatment.meetings = prepared(treatment.meetings, spans, mappings.protocols)
    joined = join(treatment.meetings, treatment.forms, as_of, protocol.attendance)
    forms = treatment.forms if closed is None else list(_until(closed, treatment.forms, joined))
    done = tuple(documented(forms))
    complete = complete_on(done, protocol)
    numbering = forms if treatment.decided is None else [treatment.decided, *forms]
    planned = plans(numbering, spans, mappings.protocols)
    stage = Stage(planned, complete, closed)
    sessions = numbered(joined.sittings, stage.of_session, closed)
    held = [session for session in sessions if session.number is not None]
    measures = tuple([item.measure for item in treatment.measures])
    sex = _sex(forms)
    measured = series(_of_course(measures, closed, as_of), mappings, sex)
    case = Case(
        anchor=treatment.anchor,
        opened=treatment.opened.date(),
        phase=stage.of_course(len(held)),
        planned_sessions=planned[-1].sessions,
        documented=done,
        measures=measures,
        changes=changes(measured),
        series=measured,
        sessions=sessions,
        held=held,
        joined=joined,
        meetings=treatment.meetings,
        forms=forms,
        initial_complete=complete,
        focus_areas=tuple(focus_areas(forms)),
        ending=ending,
        protocols=spans,
        plans=planned,
        began=treatment.began,
        sex=sex,
        age=_age(forms),
        last_activity=last_activity(treatment, joined),
        answers=treatment.answers,
        as_of=as_of,
        acts=treatment.acts,
    )
    case = case._replace(turnout=turnout(case, protocol))
    goals = tuple(patient_goals(forms))
    numbers = range(len(held) + 1, planned[-1].sessions + 1 if case.phase in COUNTED_DOWN else 0)
    interval = protocol.sessions.interval.days
    aims = Aims(case.focus_areas, goals, mappings.areas_by_goal)
    remaining = tuple(sessions_ahead(sessions, numbers, case.opened, interval, aims))
    return Course(
        id=course_id(patient, treatment.anchor),
        source=patient.source,
        patient_id=patient.patient_id,
        anchor=treatment.anchor,
        protocol=protocol.id,
        phase=case.phase,
        opened=case.opened,
        closed=closed,
        planned_sessions=planned[-1].sessions,
        planned_sessions_agreed=agreed(numbering, spans),
        held=len(held),
        sessions=sessions,
        documented=done,
        focus_areas=case.focus_areas,
        goals=goals,
        measures=measures,
        changes=case.changes,
        ending=ending,
        findings=findings(case, mappings, protocol),
        projected_end=None
        if closed
        else remaining[-1].on
        if remaining
        else _projected_end(treatment, joined, planned[-1].sessions, len(held), protocol),
        practitioners=tuple(sorted(_practitioners(treatment))),
        conditions=tuple(sorted({c for meeting in treatment.meetings for c in meeting.conditions})),
        encounters=len(treatment.meetings),
        responses=len({item.reference for item in treatment.measures}) + len(forms),
        labels=tuple(sorted({label for item in _all(treatment) for label in item.labels}.union(mappings.labels))),
        latest=_latest(treatment, as_of),
        protocols=spans,
        follows=None if treatment.follows is None else course_id(patient, treatment.follows),
        exclusions=tuple(exclusions(treatment.meetings, forms, protocol)),
        sex=case.sex,
        age=case.age,
        focus_history=tuple(focus_history(forms)),
        planned=remaining,
        well_being=tuple(well_being(forms)),
        outcome=case.turnout.outcome,
    )


def _until(closed: date, forms: list[Form], joined: Sittings) -> Iterator[Form]:
    """The forms that tell of the course itself: none of a session after its end."""
    after = {form.reference for sitting in joined.sittings if sitting.day > closed for form in sitting.forms}
    return (form for form in forms if form.reference not in after)


def last_activity(treatment: Treatment, joined: Sittings) -> datetime:
    """Return when the last session was held, or the treatment opened."""
    return next((sitting.start for sitting in reversed(joined.sittings) if sitting.counts), treatment.opened)


def _of_course(measures: Iterable[Measure], closed: date | None, as_of: datetime) -> Iterator[Measure]:
    """The measures that tell of the course's effect: none from the future, none after its end."""
    for measure in measures:
        after = closed is not None and measure.taken.date() > closed
        if measure.taken <= as_of and not after:
            yield measure


def _projected_end(treatment: Treatment, joined: Sittings, planned: int, held: int, protocol: Protocol) -> date:
    interval = protocol.sessions.interval.days
    last = next((sitting.start for sitting in reversed(joined.sittings) if sitting.counts), None)
    if last is not None:
        return (last + max(planned - held, 0) * interval).date()
    ahead = [s.start for s in joined.sittings if s.state is SessionState.PLANNED and s.kind is SessionKind.SESSION]
    return (min(ahead) + (planned - 1) * interval if ahead else treatment.opened + planned * interval).date()


def _latest(treatment: Treatment, as_of: datetime) -> datetime | None:
    """When the newest of what has happened did: bookings have not."""
    happened = (item.start for item in _all(treatment) if not isinstance(item, Meeting) or item.state is _HELD)
    return max((start for start in happened if start <= as_of), default=None)


def _sex(forms: list[Form]) -> Sex | None:
    """The patient's sex as the latest form to name it has it."""
    named = (form.values[CourseField.SEX][0] for form in reversed(forms) if CourseField.SEX in form.values)
    return next((_SEXES.get(code, Sex.UNKNOWN) for code in named), None)


def _age(forms: list[Form]) -> int | None:
    """The patient's age as the latest form to give it has it."""
    return next((form.numbers[CourseField.AGE] for form in reversed(forms) if CourseField.AGE in form.numbers), None)


def _practitioners(treatment: Treatment) -> set[str]:
    seen = {
        who for meeting in treatment.meetings if meeting.kind is SessionKind.SESSION for who in meeting.practitioners
    }
    forms = treatment.forms if treatment.decided is None else [treatment.decided, *treatment.forms]
    return seen | {form.author for form in forms if form.author and form.author.startswith("Practitioner/")}


def _all(treatment: Treatment) -> Iterator[Meeting | Form | Scored]:
    if treatment.decided is not None:
        yield treatment.decided
    yield from treatment.meetings
    yield from treatment.forms
    yield from treatment.measures
