"""One screen that a clinician reads in ten seconds: where in the course, what focus, how scores move, what next."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.domain.course import FindingState, Phase, SessionKind, SessionState, Severity
from service.outbound.wording import clean, count, day, display, inner, joined, sentence, subject, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from service.domain.course import Change, Course, Finding, FocusArea, Session
    from service.domain.mappings import Mappings

MOST_NOTES = 4  # findings for information that still fit on the screen; those that need attention are never cut
MOST_WORK = 5  # techniques, patterns or coping strategies named, the most frequent first

_INSIDE_COURSE = frozenset({Phase.INITIAL, Phase.MIDDLE, Phase.ENDING})


@dataclass(frozen=True, slots=True)
class Line:
    """A label and what it labels; several items read as a list."""

    label: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Narrative:
    """What a person reads of a course: plain text, not escaped, each piece ending with a full stop."""

    headline: str
    """Where the course stands: `Interpersonal psychotherapy, session 9 of 12 (middle phase).`"""
    focus: str
    """`Focus: interpersonal dispute (stage: impasse); secondary: grief and loss.`"""
    scores: tuple[str, ...]
    """One for each instrument, the mappings' case instruments first."""
    attention: tuple[str, ...]
    """Findings that need a person, the most urgent first."""
    notes: tuple[str, ...]
    work: tuple[Line, ...]
    """Worked on so far, patterns, coping: only what is documented."""
    ending: tuple[str, ...]
    """What the ending form decided; empty before."""
    next: tuple[str, ...]
    basis: str


def lines(course: Course, mappings: Mappings) -> Narrative:
    """Return what a person reads of a course, in words."""
    found = list(_found(course, mappings))
    attention = [text for severity, text in found if severity is not Severity.INFO]
    notes = [text for severity, text in found if severity is Severity.INFO]
    rest = len(notes) - MOST_NOTES
    if rest > 0:
        notes = [*notes[:MOST_NOTES], f"And {rest} more."]
    return Narrative(
        headline=f"{_therapy(course, mappings)}, {_standing(course)}.",
        focus=f"{_focus(course, mappings)}.",
        scores=tuple(_scores(course, mappings)),
        attention=tuple(attention),
        notes=tuple(notes),
        work=tuple(_work(course, mappings)),
        ending=tuple(_ending(course, mappings)),
        next=tuple(_next(course, mappings)),
        basis=(
            f"Prepared by IPT Bridge from {count(course.encounters, 'encounter')} and "
            f"{count(course.responses, 'questionnaire')}; not a clinical decision."
        ),
    )


def markup(narrative: Narrative) -> str:
    """Return a narrative as XHTML, every text escaped, for the `div` of a resource or a page."""
    blocks = [_paragraph(narrative.headline, narrative.focus)]
    if narrative.scores:
        blocks.append(_paragraph(narrative.scores[0], *narrative.scores[1:]))
    if narrative.attention:
        blocks.append(_paragraph("Needs attention:") + _list(narrative.attention))
    if narrative.notes:
        blocks.append(_paragraph("For information:", *narrative.notes))
    if narrative.work:
        labelled = (f"<b>{_safe(line.label)}:</b> {_safe(joined(line.items))}." for line in narrative.work)
        blocks.append(f"<p>{' '.join(labelled)}</p>")
    if narrative.ending:
        blocks.append(_paragraph("Ending:", *narrative.ending))
    if narrative.next:
        blocks.append(_paragraph("Next:", *narrative.next))
    blocks.append(f"<p>{_safe(narrative.basis)}</p>")
    return "".join(blocks)


def _therapy(course: Course, mappings: Mappings) -> str:
    """The therapy, by its protocol's title where that is not the default one."""
    default = course.protocol == mappings.courses.protocol
    return "Interpersonal psychotherapy" if default else mappings.protocols[course.protocol].title


def _standing(course: Course) -> str:
    if course.phase is Phase.ASSESSMENT_PENDING:
        return "assessment pending"
    if course.phase is Phase.CLOSED:
        ended = f" on {day(course.closed)}" if course.closed else ""
        return f"closed{ended} after {course.held} of {count(course.planned_sessions, 'planned session')}"
    if course.phase is Phase.MAINTENANCE:
        return f"maintenance, {count(course.held, 'session')} held"
    phase = f"{course.phase.value} phase" if course.phase in _INSIDE_COURSE else course.phase.value
    number = "" if course.planned_sessions_agreed else "; number not agreed yet"
    if course.held == 0:
        return f"no session held of {course.planned_sessions} planned ({phase}{number})"
    if course.held > course.planned_sessions:
        return f"session {course.held}, {course.planned_sessions} were planned ({phase}{number})"
    return f"session {course.held} of {course.planned_sessions} ({phase}{number})"


def _focus(course: Course, mappings: Mappings) -> str:
    if not course.focus_areas:
        return "Focus: not documented yet"
    primary = [_area(area, mappings) for area in course.focus_areas if area.primary]
    others = [_area(area, mappings) for area in course.focus_areas if not area.primary]
    named = [joined(primary)] if primary else []
    if others:
        named.append(f"secondary: {joined(others)}")
    return f"Focus: {'; '.join(named)}"


def _area(area: FocusArea, mappings: Mappings) -> str:
    known = mappings.focus_areas.get(area.area)
    name = inner(clean(known.title if known else area.area))
    return f"{name} (stage: {inner(display(mappings, 'dispute-stage', area.stage))})" if area.stage else name


def _scores(course: Course, mappings: Mappings) -> Iterator[str]:
    instruments = list(mappings.instruments)
    order = {
        name: (mappings.instruments[name].caseness is None, -mappings.instruments[name].maximum) for name in instruments
    }
    changes = sorted(course.changes, key=lambda change: (order.get(change.instrument, (True, 0)), change.instrument))
    for change in changes:
        yield f"{subject(mappings, change.instrument)}: {_change(change, mappings)}."
    latest = {measure.instrument: measure for measure in course.measures}
    for measure in latest.values():
        if measure.total is None:
            yield f"{title(mappings, measure.instrument)} of {day(measure.taken.date())} is incomplete: no total."


def _change(change: Change, mappings: Mappings) -> str:
    instrument = mappings.instruments.get(change.instrument)
    latest = f"{change.latest} ({instrument.band(change.latest)})" if instrument else str(change.latest)
    if change.first_on == change.latest_on:
        return f"{latest} on {day(change.latest_on)}"
    if change.first == change.latest:
        return f"{latest} on {day(change.latest_on)}, unchanged since the start"
    moved = "down" if change.latest < change.first else "up"
    verdict = ""
    if instrument is not None and instrument.reliable_change is not None:
        verdict = ", " + {-1: "reliably better", 0: "no reliable change", 1: "reliably worse"}[change.reliable]
    return f"{latest} on {day(change.latest_on)}, {moved} from {change.first}{verdict}"


def _found(course: Course, mappings: Mappings) -> Iterator[tuple[Severity, str]]:
    """Yield what the open findings say, in order; what a rule finds again and again is said once, as it is last."""
    groups: dict[tuple[str, object], list[Finding]] = {}
    for finding in course.findings:
        if finding.state is not FindingState.OPEN:
            continue
        groups.setdefault((finding.rule, dict(finding.values).get("instrument")), []).append(finding)
    for group in groups.values():
        latest = max(group, key=lambda finding: (finding.raised, finding.id))
        due = f"; due {day(latest.due)}" if latest.due else ""
        first = min(finding.raised for finding in group)
        again = f" ({len(group)} times since {day(first)})" if len(group) > 1 else ""
        yield latest.severity, f"{_capital(sentence(latest, mappings))}{due}{again}."


def _work(course: Course, mappings: Mappings) -> Iterator[Line]:
    held = [s for s in course.sessions if s.state is SessionState.HELD and not s.after_end]
    for label, system, codes in (
        ("Worked on so far", "technique", [session.techniques for session in held]),
        ("Patterns", "pattern", [session.patterns for session in held]),
        ("Coping", "coping-strategy", [session.coping for session in held]),
    ):
        counted = Counter(code for named in codes for code in set(named))
        most = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORK]
        if most:
            yield Line(
                label, tuple(f"{inner(display(mappings, system, code))} ({count(n, 'session')})" for code, n in most)
            )


def _ending(course: Course, mappings: Mappings) -> Iterator[str]:
    ending = course.ending
    if ending is None:
        return
    decision = inner(display(mappings, "decision", ending.decision.value))
    plan = "documented" if ending.relapse_prevention_plan else "not documented"
    yield f"Decided on {day(ending.on)}: {decision}; relapse-prevention plan {plan}."
    if course.outcome is not None and course.closed is not None:
        outcome = inner(display(mappings, "outcome", course.outcome.classification.value))
        yield f"Outcome by {title(mappings, course.outcome.instrument)}: {outcome}."
    if ending.gains:
        yield f"Gains: {joined([inner(display(mappings, 'gain', gain)) for gain in ending.gains])}."


def _next(course: Course, mappings: Mappings) -> Iterator[str]:
    if course.phase is Phase.CLOSED:
        return
    planned = [s for s in course.sessions if s.state is SessionState.PLANNED and s.kind is SessionKind.SESSION]
    yield (
        f"Session {course.held + 1}, planned for {day(planned[0].start.date())}."
        if planned
        else "No session is planned."
    )
    steps = _agreed_steps(course.sessions)
    if steps:
        yield f"Agreed: {joined([inner(display(mappings, 'next-step', step)) for step in steps])}."
    if course.projected_end is not None:
        yield f"Projected end: {day(course.projected_end)}."


def _agreed_steps(sessions: tuple[Session, ...]) -> tuple[str, ...]:
    held = [session for session in sessions if session.state is SessionState.HELD]
    return held[-1].next_steps if held else ()


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _paragraph(strong: str, *rest: str) -> str:
    return f"<p><b>{_safe(strong)}</b>{''.join(f' {_safe(text)}' for text in rest)}</p>"


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_safe(item)}</li>' for item in items)}</ul>"


def _safe(text: str) -> str:
    return html.escape(clean(text))
