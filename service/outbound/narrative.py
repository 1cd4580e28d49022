"""One screen that a clinician reads in ten seconds: where in the course, what focus, how scores move, what next."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.domain.course import Caseness, FindingState, Phase, SessionKind, SessionState, Severity
from service.domain.focus import SUBSTANCE_GOALS
from service.outbound.wording import (
    NO_TREATMENT_OF_USE,
    aimed_at,
    clean,
    count,
    day,
    display,
    inner,
    joined,
    sentence,
    subject,
    task,
    title,
    used,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from service.domain.course import Change, Course, Finding, FocusArea, Session, WellBeing
    from service.domain.mappings import Mappings

MOST_NOTES = 2  # findings for information that still fit on the screen; those that need attention are never cut
MOST_WORK = 2  # techniques, patterns or coping strategies named, the most frequent first

_SAID_AS_CHECKLIST = "initial.complete"
"""A rule whose finding the assessment's own line tells."""
_ASSESSED = frozenset({Phase.ASSESSMENT_PENDING, Phase.INITIAL, Phase.MIDDLE})
"""Phases in which the assessment still tells where the course stands."""
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
    assessment: str
    """The checklist of assessment and formulation, with dates; empty while nothing is, and as the course ends."""
    work: tuple[Line, ...]
    """Worked on so far, patterns, coping, substance use, life beside symptoms: only what is documented."""
    ending: tuple[str, ...]
    """What the ending form decided; empty before."""
    next: tuple[str, ...]
    basis: str


def lines(course: Course, mappings: Mappings, sentences: Mapping[str, str] | None = None) -> Narrative:
    """Return what a person reads of a course, in words. `sentences` are its findings', by id, if they are at hand."""
    found = list(_found(course, mappings, sentences or {}))
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
        assessment=_assessment(course, mappings),
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
    if narrative.attention:
        blocks.append(_paragraph("Needs attention:") + _list(narrative.attention))
    if narrative.scores:
        blocks.append(_paragraph(narrative.scores[0], *narrative.scores[1:]))
    if narrative.notes:
        blocks.append(_paragraph("For information:", *narrative.notes))
    if narrative.assessment:
        blocks.append(_paragraph("Assessment:", narrative.assessment))
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
    """What the protocol reviews comes first, then what knows a clinical range, then the rest."""
    protocol = mappings.protocols.get(course.protocol)
    reviewed = protocol.reviews.measures if protocol else ()

    def rank(change: Change) -> tuple[int, bool, str]:
        known = mappings.instruments.get(change.instrument)
        place = reviewed.index(change.instrument) if change.instrument in reviewed else len(reviewed)
        return place, known is None or known.caseness is None, change.instrument

    changes = sorted(course.changes, key=rank)
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
    if change.first_case is Caseness.CASE and change.latest_case is Caseness.NO_CASE:
        verdict += ", no longer in the clinical range"
    return f"{latest} on {day(change.latest_on)}, {moved} from {change.first}{verdict}"


def _found(course: Course, mappings: Mappings, sentences: Mapping[str, str]) -> Iterator[tuple[Severity, str]]:
    """Yield what the open findings say, in order; what a rule finds again and again is said once, as it is last."""
    groups: dict[tuple[str, object], list[Finding]] = {}
    for finding in course.findings:
        if finding.state is not FindingState.OPEN or finding.rule == _SAID_AS_CHECKLIST:
            continue
        groups.setdefault((finding.rule, dict(finding.values).get("instrument")), []).append(finding)
    for group in groups.values():
        latest = max(group, key=lambda finding: (finding.raised, finding.id))
        due = f"; due {day(latest.due)}" if latest.due else ""
        first = min(finding.raised for finding in group)
        again = f" ({len(group)} times since {day(first)})" if len(group) > 1 else ""
        said = sentences.get(latest.id) or sentence(latest, mappings)
        yield latest.severity, f"{_capital(said)}{due}{again}."


def _assessment(course: Course, mappings: Mappings) -> str:
    """Say what the initial phase has documented and what not; one date once all is, nothing as the course ends."""
    protocol = mappings.protocols.get(course.protocol)
    tasks = protocol.initial.tasks if protocol else ()
    done = {document.task: document.on for document in course.documented if document.task in tasks}
    if not done or course.phase not in _ASSESSED:
        return ""
    missing = [task(mappings, each) for each in tasks if each not in done]
    if not missing:
        return f"complete since {day(max(done[each] for each in tasks))}."
    named = [f"{task(mappings, each)} {day(done[each])}" for each in tasks if each in done]
    return "; ".join(filter(None, (joined(named), f"not documented yet: {joined(missing)}.")))


def _work(course: Course, mappings: Mappings) -> Iterator[Line]:
    held = [s for s in course.sessions if s.state is SessionState.HELD and not s.after_end]
    techniques = used(mappings, "technique", [session.techniques for session in held], most=MOST_WORK)
    home = _lately([session.techniques_at_home for session in held], "technique", mappings)
    if techniques:
        yield Line("Worked on so far", tuple(techniques))
    if home:
        yield Line("At home", (home,))
    patterns = used(mappings, "pattern", [session.patterns for session in held], most=MOST_WORK)
    effect = _lately([session.effects for session in held], "pattern-effect", mappings)
    if patterns:
        yield Line("Patterns", tuple(patterns))
    if effect:
        yield Line("Their effect", (effect,))
    coping = used(mappings, "coping-strategy", [session.coping for session in held], most=MOST_WORK)
    if coping:
        yield Line("Coping", tuple(coping))
    yield from _less_maladaptive(held, mappings)
    yield from _substance_use(course, held, mappings)
    if course.well_being:
        yield Line("Well-being", tuple(_aspect(aspect, mappings) for aspect in course.well_being))


def _lately(named: list[tuple[str, ...]], system: str, mappings: Mappings) -> str:
    """What the last session to name any has named."""
    latest: tuple[str, ...] = next((codes for codes in reversed(named) if codes), ())
    return joined([inner(display(mappings, system, code)) for code in latest[:MOST_WORK]])


def _less_maladaptive(held: list[Session], mappings: Mappings) -> Iterator[Line]:
    """Yield what the patient relied on when last asked, and how much against the session before."""
    told = next((s for s in reversed(held) if s.coping_trend or s.maladaptive_coping), None)
    if told is None:
        return
    relied = joined([inner(display(mappings, "maladaptive-coping", code)) for code in told.maladaptive_coping])
    trend = inner(display(mappings, "coping-trend", told.coping_trend)) if told.coping_trend else ""
    last = f"{trend} than before" if trend in {"less", "more"} else trend
    yield Line("Maladaptive coping", (", ".join(filter(None, (relied, last))),))


def _substance_use(course: Course, held: list[Session], mappings: Mappings) -> Iterator[Line]:
    """Yield use and the care for it where either is a matter of the course, and that IPT is no treatment of it."""
    use = next((session.use_since_last for session in reversed(held) if session.use_since_last), None)
    care = next((session.addiction_care for session in reversed(held) if session.addiction_care), None)
    if not (use or care or any(goal.goal in SUBSTANCE_GOALS for goal in course.goals)):
        return
    said = [f"{inner(display(mappings, 'use-since-last', use))} since the last session"] if use else []
    said.append(f"addiction care {inner(display(mappings, 'addiction-care', care)) if care else 'not noted'}")
    yield Line("Substance use", (f"{'; '.join(said)}. {NO_TREATMENT_OF_USE.rstrip('.')}",))


def _aspect(aspect: WellBeing, mappings: Mappings) -> str:
    first, latest = (inner(display(mappings, "well-being", rating)) for rating in (aspect.first, aspect.latest))
    moved = f" (was {first})" if first != latest else ""
    return f"{clean(aspect.aspect)} {latest}{moved}"


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
    ahead = next(iter(course.planned), None)
    aim = "" if ahead is None else aimed_at(ahead, mappings)
    if planned:
        yield f"Session {course.held + 1}, planned for {day(planned[0].start.date())}{aim}."
    elif ahead is not None and ahead.encounter is None:
        yield f"Session {ahead.number}, due {day(ahead.on)} and not booked{aim}."
    else:
        yield "No session is planned."
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
