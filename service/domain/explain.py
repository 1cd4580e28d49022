"""Why a course's plan says what it says: the rules and facts behind it, as a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.domain.course import ChosenBy, FindingState, SessionState
from service.domain.facts import Code
from service.domain.forms import FHIR_BASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.course import Course, Finding, ProtocolSpan
    from service.domain.mappings import Mappings


@dataclass(frozen=True, slots=True)
class Reason:
    """A statement and what it rests on."""

    text: str
    facts: tuple[str, ...] = ()
    """`Encounter/id` or `QuestionnaireResponse/id`."""
    source: str = ""
    """Title and address of the published source, or that it is a decision of the project."""
    because: tuple[Reason, ...] = ()


def explain(course: Course, mappings: Mappings, finding_id: str | None = None) -> tuple[Reason, ...]:
    """Return the reasons of a course's phase, count and findings, or of one finding alone.

    `finding_id` may be shortened to its first characters. Raises KeyError if no finding has that id.
    """
    if finding_id is None:
        return (*_standing(course, mappings), *(_finding(finding, course, mappings) for finding in course.findings))
    for finding in course.findings:
        if finding.id.startswith(finding_id):
            return (_finding(finding, course, mappings),)
    raise KeyError(finding_id)


def sentence(finding: Finding, mappings: Mappings) -> str:
    """Return the sentence of a finding, its values put in their places."""
    text = mappings.rules[finding.rule].sentence
    for name, value in finding.values:
        text = text.replace(f"{{{name}}}", str(value))
    return text


def cite(source: str, mappings: Mappings) -> str:
    """Return a published source as a reader finds it."""
    entry = mappings.sources[source]
    return f"{entry.title} ({entry.address})" if entry.address else entry.title


def _standing(course: Course, mappings: Mappings) -> Iterator[Reason]:
    protocol = mappings.protocols[course.protocol]
    held = [session for session in course.sessions if session.number is not None]
    yield Reason(
        f"Phase {course.phase.value}",
        source=cite(protocol.source, mappings),
        because=tuple(
            Reason(f"{_display('course-field', task, mappings)} documented on {on}", facts=(fact,))
            for task, on, fact in ((done.task, done.on.isoformat(), done.fact) for done in course.documented)
        ),
    )
    yield from (_choice(span, mappings) for span in course.protocols)
    if course.follows is not None:
        yield Reason(f"Follows course {course.follows}, whose ending form decided on maintenance")
    agreed = "agreed with the patient" if course.planned_sessions_agreed else "the protocol's default"
    yield Reason(
        f"{course.held} of {course.planned_sessions} sessions held ({agreed})",
        source=cite(protocol.sessions.default.source, mappings),
        because=tuple(
            Reason(
                f"session {session.number}, {session.start.date().isoformat()}",
                facts=(
                    *(f"Encounter/{encounter}" for encounter in session.encounters),
                    *(f"QuestionnaireResponse/{form}" for form in session.forms),
                ),
            )
            for session in held
        ),
    )
    missed = [s for s in course.sessions if s.state in {SessionState.CANCELLED, SessionState.NO_SHOW}]
    if missed:
        yield Reason(
            f"{len(missed)} sessions not held",
            because=tuple(
                Reason(
                    f"{session.state.value}, {session.start.date().isoformat()}",
                    facts=tuple(f"Encounter/{encounter}" for encounter in session.encounters),
                )
                for session in missed
            ),
        )
    for area in course.focus_areas:
        rank = "primary" if area.primary else "secondary"
        title = mappings.focus_areas[area.area].title if area.area in mappings.focus_areas else area.area
        yield Reason(f"Focus: {title} ({rank}) since {area.since.isoformat()}", facts=(area.fact,))
    for change in course.changes:
        instrument = mappings.instruments[change.instrument]
        yield Reason(
            f"{instrument.title} {change.first} → {change.latest}",
            source=cite(instrument.source, mappings),
            because=(
                Reason(f"{change.first_on.isoformat()}  {change.first}", facts=(change.first_fact,)),
                Reason(f"{change.latest_on.isoformat()}  {change.latest}", facts=(change.latest_fact,)),
            ),
        )


_CHOSEN_BY = {
    ChosenBy.FORM: "named by a form",
    ChosenBy.SITE: "by the site's rule",
    ChosenBy.DEFAULT: "the default, since neither a form nor the site names one",
}


def _choice(span: ProtocolSpan, mappings: Mappings) -> Reason:
    protocol = mappings.protocols[span.protocol]
    return Reason(
        f"Protocol since {span.since.isoformat()}: {protocol.title} ({_CHOSEN_BY[span.by]})",
        facts=() if span.fact is None else (span.fact,),
        source=cite(protocol.source, mappings),
    )


def _finding(finding: Finding, course: Course, mappings: Mappings) -> Reason:
    rule = mappings.rules[finding.rule]
    due = f", due {finding.due.isoformat()}" if finding.due and finding.state is FindingState.OPEN else ""
    measures = {measure.fact: measure for measure in course.measures}
    dates = {f"Encounter/{e}": session.start.date() for session in course.sessions for e in session.encounters}
    because = []
    for fact in finding.facts:
        text = ""
        if fact in measures:
            measure = measures[fact]
            total = "no total" if measure.total is None else str(measure.total)
            title = mappings.instruments[measure.instrument].title
            text = f"{measure.taken.date().isoformat()}  {title} {total}"
        elif fact in dates:
            text = f"{dates[fact].isoformat()}  session"
        because.append(Reason(text, facts=(fact,)))
    if finding.answered is not None:
        by = f" by {finding.answered.by}" if finding.answered.by else ""
        because.append(Reason(f"answered on {finding.answered.on.isoformat()}{by}", facts=(finding.answered.fact,)))
    return Reason(
        f"{rule.title} ({finding.severity.value}, {_life(finding)}{due}): {sentence(finding, mappings)}",
        source=f"rule {finding.rule} v{finding.version}; {'; '.join(cite(s, mappings) for s in rule.sources)}",
        because=tuple(because),
    )


def _life(finding: Finding) -> str:
    if finding.closed is not None:
        return f"{finding.raised.isoformat()} to {finding.closed.isoformat()}, closed"
    answered = ", answered" if finding.answered else ""
    return f"since {finding.raised.isoformat()}{answered}"


def _display(system: str, code: str, mappings: Mappings) -> str:
    return mappings.displays.get(Code(f"{FHIR_BASE}/CodeSystem/{system}", code), code)
