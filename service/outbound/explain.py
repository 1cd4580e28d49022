"""Why a course's plan says what it says: the rules and facts behind each statement, as a tree.

Every field of a Course that is filled has its reasons here; `field` names it: `phase`, `changes/phq-9`,
`findings/review.firm`. What a clinician documented rests on the form; what is derived, on a rule or a protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.domain.catalogue import cite
from service.domain.course import ChosenBy, FindingState, SessionState
from service.domain.forms import CourseField
from service.outbound.goals import goals
from service.outbound.wording import clean, count, day, display, inner, joined, sentence, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from service.domain.course import Course, Documented, Finding, Session
    from service.domain.mappings import Mappings
    from service.domain.sourced import Threshold

FORM = "documented on a form"
READ = "read from the facts as they are"
_CHOSEN = {
    ChosenBy.FORM: "named by a form",
    ChosenBy.SITE: "by the site's rule",
    ChosenBy.DEFAULT: "the default, since neither a form nor the site names one",
}
# What a session's form documents, with the CodeSystem of its codes.
_DOCUMENTED = (
    ("worked on", "worked_on", "focus-area"),
    ("techniques", "techniques", "technique"),
    ("at home", "techniques_at_home", "technique"),
    ("patterns", "patterns", "pattern"),
    ("their effect", "effects", "pattern-effect"),
    ("coping", "coping", "coping-strategy"),
    ("maladaptive coping", "maladaptive_coping", "maladaptive-coping"),
    ("its trend", "coping_trend", "coping-trend"),
    ("use since the last session", "use_since_last", "use-since-last"),
    ("addiction care", "addiction_care", "addiction-care"),
    ("next", "next_steps", "next-step"),
)


@dataclass(frozen=True, slots=True)
class Reason:
    """A statement and what it rests on."""

    text: str
    facts: tuple[str, ...] = ()
    """`Encounter/id`, `QuestionnaireResponse/id` or `Task/id`."""
    source: str = ""
    """Rule or protocol with its version, and the source it rests on; or that a form documents it."""
    because: tuple[Reason, ...] = ()
    field: str = ""
    """Which field of the course states it, `changes/phq-9`; empty inside another reason."""

    def rests_on(self) -> frozenset[str]:
        """Return every fact of this reason and of those inside it."""
        return frozenset(self.facts).union(*(inner.rests_on() for inner in self.because))


def explain(course: Course, mappings: Mappings, field: str | None = None) -> tuple[Reason, ...]:
    """Return the reasons of everything that a course's plan states, or of one field alone.

    `field` is a field's name or its beginning (`phase`, `changes/phq-9`), or what stands behind its slash
    (`review.firm`). Raises KeyError if nothing has that name.
    """
    reasons = tuple(_reasons(course, mappings))
    if field is None:
        return reasons
    found = tuple(
        each for each in reasons if each.field.startswith(field) or each.field.partition("/")[2].startswith(field)
    )
    if not found:
        raise KeyError(field)
    return found


def _reasons(course: Course, mappings: Mappings) -> Iterator[Reason]:
    yield from _standing(course, mappings)
    yield from (_finding(finding, course, mappings) for finding in course.findings)
    yield from _focus(course, mappings)
    yield from _progress(course, mappings)
    yield from _goals(course, mappings)
    yield from _sessions(course, mappings)
    yield from _ending(course, mappings)
    yield from _protocol(course, mappings)
    yield from _course(course, mappings)
    yield from _basis(course)


def _course(course: Course, mappings: Mappings) -> Iterator[Reason]:
    bound = _number("courses", mappings.courses.version, mappings.courses.new_course_after, mappings)
    yield Reason(f"opened on {day(course.opened)}", _fact(course.anchor), bound, field="opened")
    yield Reason(f"named by {clean(course.anchor)}", _fact(course.anchor), bound, field="anchor")
    if course.follows is not None:
        text = f"follows course {course.follows}, whose ending form decided on maintenance"
        yield Reason(text, _fact(course.anchor), bound, field="follows")


def _protocol(course: Course, mappings: Mappings) -> Iterator[Reason]:
    known = mappings.protocols.get(course.protocol)
    yield Reason(
        f"Protocol: {clean(known.title if known else course.protocol)}",
        _fact(course.anchor),
        _protocol_source(course, mappings),
        field="protocol",
    )
    for span in course.protocols:
        facts = () if span.fact is None else (span.fact,)
        known = mappings.protocols.get(span.protocol)
        named = clean(known.title if known else span.protocol)
        text = f"Protocol since {day(span.since)}: {named} ({_CHOSEN[span.by]})"
        source = cite(mappings.sources[known.source]) if known else _CHOSEN[span.by]
        yield Reason(text, facts, source, field=f"protocols/{span.protocol}")
    for each in course.exclusions:
        text = f"speaks against the protocol: {inner(display(mappings, 'exclusion', each.task))}, {day(each.on)}"
        yield Reason(text, (each.fact,), FORM, field="exclusions")
    if course.sex is not None:
        yield Reason(f"sex: {display(mappings, 'administrative-sex', course.sex.value)}", source=FORM, field="sex")
    if course.age is not None:
        yield Reason(f"age: {course.age} years", source=FORM, field="age")


def _standing(course: Course, mappings: Mappings) -> Iterator[Reason]:
    source = _protocol_source(course, mappings)
    known = mappings.protocols.get(course.protocol)
    needed = frozenset(known.initial.tasks if known else ())
    tasks = tuple(_documented(each, mappings) for each in course.documented)
    initial = tuple(_documented(each, mappings) for each in course.documented if each.task in needed)
    decided = (
        () if course.ending is None else (Reason(f"ending form of {day(course.ending.on)}", (course.ending.fact,)),)
    )
    phase = inner(display(mappings, "phase", course.phase.value))
    yield Reason(f"Phase: {phase}", _fact(course.anchor), source, (*initial, *decided), "phase")
    if course.closed is not None:
        yield Reason(f"closed on {day(course.closed)}", source=source, because=decided, field="closed")
    if tasks:
        yield Reason("Assessment and formulation", source=FORM, because=tasks, field="documented")
    held = tuple(
        Reason(f"session {session.number}, {day(session.start.date())}", _facts_of(session))
        for session in course.sessions
        if session.number is not None
    )
    anchored = () if held else _fact(course.anchor)
    yield Reason(f"{count(course.held, 'session')} held", anchored, source, held, "held")
    agreed = tuple(
        _documented(each, mappings) for each in course.documented if each.task == CourseField.PLANNED_SESSIONS
    )
    what = "agreed with the patient" if course.planned_sessions_agreed else "the protocol's default"
    number = f"{count(course.planned_sessions, 'session')} planned, {what}"
    yield Reason(number, source=source, because=agreed, field="planned_sessions")
    yield Reason(what, source=source, because=agreed, field="planned_sessions_agreed")
    if course.projected_end is not None:
        last = tuple(held[-1].facts) if held else _fact(course.anchor)
        text = f"projected end {day(course.projected_end)}: the sessions that remain, at the protocol's interval"
        yield Reason(text, last, source, field="projected_end")


def _sessions(course: Course, mappings: Mappings) -> Iterator[Reason]:
    for session in course.sessions:
        state = inner(display(mappings, "session-state", session.state.value))
        parts = [inner(display(mappings, "session-kind", session.kind.value)), state]
        if session.minutes is not None:
            parts.append(count(session.minutes, "minute"))
        parts += [word for word, said in (("group", session.group), ("video", session.telehealth)) if said]
        if session.after_end:
            parts.append("after the end, not counted")
        if session.state is SessionState.HELD:
            parts += [] if session.forms else ["no form tells of it"]
            parts += [] if session.encounters else ["no encounter tells of it"]
        name = f"Session {session.number}" if session.number is not None else "Meeting"
        forms = tuple(f"QuestionnaireResponse/{form}" for form in session.forms)
        because = tuple(Reason(text, forms, FORM) for text in _said(session, mappings))
        text = f"{name}, {day(session.start.date())}: {', '.join(parts)}"
        field = f"sessions/{session.number}" if session.number is not None else "sessions"
        yield Reason(text, _facts_of(session), READ, because, field)
    aims = {area.area: area.fact for area in course.focus_areas} | {goal.goal: goal.fact for goal in course.goals}
    held = [session for session in course.sessions if session.number is not None]
    last = _facts_of(held[-1]) if held else _fact(course.anchor)
    for planned in course.planned:
        aim = [inner(_area(planned.area, mappings))] if planned.area else []
        aim += [inner(display(mappings, "patient-goal", planned.goal))] if planned.goal else []
        facts = (f"Encounter/{planned.encounter}",) if planned.encounter else last
        facts += tuple(dict.fromkeys(aims[code] for code in (planned.area, planned.goal) if code in aims))
        text = f"session {planned.number} {'booked' if planned.encounter else 'expected'} for {day(planned.on)}"
        aimed = f", aimed at {joined(aim)}" if aim else ""
        source = _protocol_source(course, mappings)
        yield Reason(text + aimed, facts, source, field=f"planned/{planned.number}")


def _said(session: Session, mappings: Mappings) -> Iterator[str]:
    for label, name, system in _DOCUMENTED:
        value: tuple[str, ...] | str | None = getattr(session, name)
        codes = (value,) if isinstance(value, str) else value
        if codes:
            yield f"{label}: {joined([inner(display(mappings, system, code)) for code in codes])}"


def _focus(course: Course, mappings: Mappings) -> Iterator[Reason]:
    for area in course.focus_areas:
        stage = f", stage {inner(display(mappings, 'dispute-stage', area.stage))}" if area.stage else ""
        text = f"Focus: {inner(_area(area.area, mappings))} ({_rank(area.primary)}) since {day(area.since)}{stage}"
        yield Reason(text, (area.fact,), FORM, tuple(_described(area.area, mappings)), f"focus_areas/{area.area}")
    for span in course.focus_history:
        until = f" to {day(span.until)}" if span.until else ""
        stage = f", stage {inner(display(mappings, 'dispute-stage', span.stage))}" if span.stage else ""
        text = f"{inner(_area(span.area, mappings))} ({_rank(span.primary)}) from {day(span.since)}{until}{stage}"
        yield Reason(text, (span.fact,), FORM, field=f"focus_history/{span.area}")
    for aspect in course.well_being:
        first, latest = (inner(display(mappings, "well-being", code)) for code in (aspect.first, aspect.latest))
        because = (
            Reason(f"{day(aspect.first_on)}  {first}", (aspect.first_fact,)),
            Reason(f"{day(aspect.latest_on)}  {latest}", (aspect.latest_fact,)),
        )
        yield Reason(f"{aspect.aspect}: {first} → {latest}", (), FORM, because, f"well_being/{aspect.aspect}")


def _described(area: str, mappings: Mappings) -> Iterator[Reason]:
    """Yield what the literature says of a focus area: when it is chosen, and what therapist and patient work on."""
    known = mappings.focus_areas.get(area)
    if known is None:
        return
    source = cite(mappings.sources[known.source])
    yield Reason(f"chosen when: {known.choose_when} (classic term: {known.classic_term})", source=source)
    yield Reason(f"therapist's tasks: {'; '.join(known.therapist_tasks)}", source=source)
    yield Reason(f"patient's goals: {'; '.join(known.patient_goals)}", source=source)


def _progress(course: Course, mappings: Mappings) -> Iterator[Reason]:
    for change in course.changes:
        because = (
            Reason(f"{day(change.first_on)}  {change.first}", (change.first_fact,)),
            Reason(f"{day(change.latest_on)}  {change.latest}", (change.latest_fact,)),
        )
        moved = {-1: "reliably better", 0: "no reliable change", 1: "reliably worse"}[change.reliable]
        known = mappings.instruments.get(change.instrument)
        measured = f", {moved}" if known is not None and known.reliable_change is not None else ""
        text = f"{title(mappings, change.instrument)} {change.first} → {change.latest}{measured}"
        source = _instrument_source(change.instrument, mappings)
        yield Reason(text, (), source, because, f"changes/{change.instrument}")
    for measure in course.measures:
        total = "no total: an item is missing" if measure.total is None else f"{measure.total}"
        band = f", {measure.band}" if measure.band else ""
        text = f"{title(mappings, measure.instrument)} of {day(measure.taken.date())}: {total}{band}"
        source = _instrument_source(measure.instrument, mappings)
        yield Reason(text, (measure.fact,), source, field=f"measures/{measure.instrument}")


def _goals(course: Course, mappings: Mappings) -> Iterator[Reason]:
    documented = {f"goal/patient/{goal.goal}": goal.fact for goal in course.goals}
    documented |= {f"goal/focus/{area.area}": area.fact for area in course.focus_areas}
    changes = {f"goal/{change.instrument}": change for change in course.changes}
    for role, goal in goals(course, mappings):
        text = f"Goal: {goal['description']['text']} ({goal['lifecycleStatus']})"
        field = f"goals/{role.removeprefix('goal/')}"
        if role in changes:
            change = changes[role]
            source = _instrument_source(change.instrument, mappings)
            yield Reason(text, (change.first_fact, change.latest_fact), source, field=field)
        else:
            yield Reason(text, _fact(documented.get(role, course.anchor)), FORM, field=field)


def _ending(course: Course, mappings: Mappings) -> Iterator[Reason]:
    ending = course.ending
    if ending is not None:
        plan = "documented" if ending.relapse_prevention_plan else "not documented"
        said = [f"relapse-prevention plan {plan}"]
        if ending.gains:
            said.append(f"gains: {joined([inner(display(mappings, 'gain', gain)) for gain in ending.gains])}")
        if ending.stopped_because:
            said.append(f"stopped because: {inner(display(mappings, 'stopped-because', ending.stopped_because))}")
        decision = inner(display(mappings, "decision", ending.decision.value))
        text = f"Ending, {day(ending.on)}: {decision}; {'; '.join(said)}"
        yield Reason(text, (ending.fact,), FORM, field="ending")
    if course.outcome is not None:
        outcome = course.outcome
        classified = inner(display(mappings, "outcome", outcome.classification.value))
        proposal = inner(display(mappings, "decision", outcome.proposal.value))
        text = f"Outcome by {title(mappings, outcome.instrument)}: {classified}; proposed to the clinician: {proposal}"
        yield Reason(text, outcome.facts, _rule_source("ending.classification", mappings), field="outcome")


def _finding(finding: Finding, course: Course, mappings: Mappings) -> Reason:
    measures = {measure.fact: measure for measure in course.measures}
    dates = {fact: session.start.date() for session in course.sessions for fact in _facts_of(session)}
    because = []
    for fact in finding.facts:
        text = ""
        if fact in measures:
            measure = measures[fact]
            total = "no total" if measure.total is None else str(measure.total)
            text = f"{day(measure.taken.date())}  {title(mappings, measure.instrument)} {total}"
        elif fact in dates:
            text = f"{day(dates[fact])}  session"
        because.append(Reason(text, (fact,)))
    if finding.answered is not None:
        by = f" by {finding.answered.by}" if finding.answered.by else ""
        because.append(Reason(f"answered on {day(finding.answered.on)}{by}", (finding.answered.fact,)))
    due = f", due {day(finding.due)}" if finding.due and finding.state is FindingState.OPEN else ""
    rule = mappings.rules.get(finding.rule)
    name = rule.title if rule else finding.rule
    return Reason(
        f"{name} ({finding.severity.value}, {_life(finding)}{due}): {sentence(finding, mappings)}",
        source=_rule_source(finding.rule, mappings, finding.version),
        because=tuple(because),
        field=f"findings/{finding.id}",
    )


def _life(finding: Finding) -> str:
    if finding.closed is not None:
        return f"{day(finding.raised)} to {day(finding.closed)}, closed"
    answered = ", answered" if finding.answered else ""
    return f"since {day(finding.raised)}{answered}"


def _basis(course: Course) -> Iterator[Reason]:
    held = tuple(fact for session in course.sessions for fact in _facts_of(session))
    told = [*(measure.fact for measure in course.measures), *(each.fact for each in course.documented)]
    measured = tuple(dict.fromkeys([*told, *(fact for fact in held if fact.startswith("QuestionnaireResponse/"))]))
    yield Reason(count(course.encounters, "encounter"), held or _fact(course.anchor), READ, field="encounters")
    yield Reason(count(course.responses, "questionnaire"), measured or _fact(course.anchor), READ, field="responses")
    if course.latest is not None:
        yield Reason(f"newest of them: {day(course.latest.date())}", source=READ, field="latest")
    if course.practitioners:
        yield Reason(f"care team: {', '.join(course.practitioners)}", held, READ, field="practitioners")
    if course.conditions:
        yield Reason(f"addresses: {', '.join(course.conditions)}", held, READ, field="conditions")
    if course.labels:
        text = f"security labels: {', '.join(sorted({label.code for label in course.labels}))}"
        yield Reason(text, source="every output carries all labels of its facts and of its source", field="labels")


def _documented(each: Documented, mappings: Mappings) -> Reason:
    task = display(mappings, "course-field", each.task)
    if task == each.task:
        task = display(mappings, "phase-task", each.task)
    return Reason(f"{task}, {day(each.on)}", (each.fact,))


def _facts_of(session: Session) -> tuple[str, ...]:
    return (
        *(f"Encounter/{encounter}" for encounter in session.encounters),
        *(f"QuestionnaireResponse/{form}" for form in session.forms),
    )


def _fact(anchor: str) -> tuple[str, ...]:
    """Return the reference that an anchor begins with: one of maintenance ends in `#maintenance`."""
    return (anchor.partition("#")[0],)


def _rank(primary: bool) -> str:  # noqa: FBT001 - one word for each
    return "primary" if primary else "secondary"


def _area(code: str, mappings: Mappings) -> str:
    known = mappings.focus_areas.get(code)
    return clean(known.title if known else code)


def _protocol_source(course: Course, mappings: Mappings) -> str:
    known = mappings.protocols.get(course.protocol)
    if known is None:
        return f"protocol {clean(course.protocol)}"
    return f"protocol {known.id} v{known.version}; {cite(mappings.sources[known.source])}"


def _instrument_source(name: str, mappings: Mappings) -> str:
    known = mappings.instruments.get(name)
    if known is None:
        return f"instrument {clean(name)}"
    cut_offs = (known.source, *(each.source for each in (known.caseness, known.reliable_change) if each is not None))
    return f"instrument {known.id} v{known.version}; {_cited(cut_offs, mappings)}"


def _rule_source(name: str, mappings: Mappings, version: int | None = None) -> str:
    rule = mappings.rules.get(name)
    if rule is None:
        return f"rule {clean(name)}"
    return f"rule {name} v{rule.version if version is None else version}; {_cited(rule.sources, mappings)}"


def _number(name: str, version: int, threshold: Threshold, mappings: Mappings) -> str:
    return f"{name} v{version}: {threshold.value:g} {threshold.unit}; {cite(mappings.sources[threshold.source])}"


def _cited(sources: Iterable[str], mappings: Mappings) -> str:
    return "; ".join(cite(mappings.sources[source]) for source in dict.fromkeys(sources))
