"""The rules: what a course's record gives reason to tell a clinician.

Each rule is a small pure function that yields findings; its title, version, sentence and sources stand
in `mappings/rules.toml`, its thresholds there, in the protocol or in the instrument. No rule decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.domain.course import Finding, Phase, SessionState, Severity
from service.domain.facts import Code
from service.domain.forms import COURSE_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from service.domain.course import Change, Documented, Measure, Session
    from service.domain.mappings import Mappings, Protocol
    from service.domain.sessions import Sitting, Sittings

Values = dict[str, str | int | float]
"""Named values of a finding."""

_URGENCY = {severity: place for place, severity in enumerate(Severity)}
_OPEN_STATES = frozenset({SessionState.PLANNED, SessionState.IN_PROGRESS})
_OVER = frozenset({Phase.CLOSED, Phase.MAINTENANCE})


class Case(NamedTuple):
    """What the rules look at: the course as far as it is known before its findings."""

    anchor: str
    phase: Phase
    planned_sessions: int
    documented: tuple[Documented, ...]
    measures: tuple[Measure, ...]
    changes: tuple[Change, ...]
    sessions: tuple[Session, ...]
    held: list[Session]
    """The held sessions, by number."""
    joined: Sittings
    initial_complete: date | None
    last_activity: datetime
    as_of: datetime

    @property
    def open(self) -> bool:
        """Whether the course still runs toward its ending."""
        return self.phase not in _OVER


class Raised(NamedTuple):
    """A finding before its rule's version, severity and source are put to it."""

    rule: str
    on: date
    values: Values
    facts: tuple[str, ...]
    due: date | None = None
    key: str = ""
    """Tells findings of one rule in one course apart."""


def findings(case: Case, mappings: Mappings, protocol: Protocol) -> tuple[Finding, ...]:
    """Return what the rules find in a course, the most urgent first, then by date."""
    found = [_finding(raised, mappings) for rule in RULES for raised in rule(case, mappings, protocol)]
    found.sort(key=lambda finding: (_URGENCY[finding.severity], finding.raised, finding.rule, finding.id))
    return tuple(found)


def _finding(raised: Raised, mappings: Mappings) -> Finding:
    rule = mappings.rules[raised.rule]
    return Finding(
        id=f"{raised.rule}/{raised.key}" if raised.key else raised.rule,
        rule=rule.id,
        version=rule.version,
        severity=rule.severity,
        raised=raised.on,
        due=raised.due,
        values=tuple(raised.values.items()),
        facts=tuple(dict.fromkeys(raised.facts)),
        source=rule.sources[0],
    )


def _safety(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """PHQ-9 item 9 of 1 or more calls a clinician the same day, whatever the total (Kroenke 2001)."""
    del protocol
    for measure in case.measures:
        if not (measure.safety or measure.safety_unanswered):
            continue
        instrument = mappings.instruments[measure.instrument]
        if instrument.safety is None:
            continue
        on = measure.taken.date()
        values: Values = {"instrument": instrument.title, "on": on.isoformat()}
        if measure.safety is not None and measure.safety >= instrument.safety.at_least.value:
            scored: Values = values | {"item": instrument.safety.item, "score": measure.safety}
            yield Raised("safety.self-harm-item", on, scored, (measure.fact,), due=on, key=measure.fact)
        elif measure.safety_unanswered:
            yield Raised("safety.item-unanswered", on, values, (measure.fact,), key=measure.fact)


def _stated_scores(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """The answers count; what a sender states beside them and contradicts them is shown."""
    del protocol
    for measure in case.measures:
        stated = None if measure.total is None else measure.stated_total
        if stated in {None, measure.total} and not measure.contradicted:
            continue
        title = mappings.instruments[measure.instrument].title
        on = measure.taken.date()
        if measure.total is not None and stated is not None and stated != measure.total:
            values: Values = {
                "instrument": title,
                "on": on.isoformat(),
                "total": measure.total,
                "stated": _short(stated),
            }
            yield Raised("data.stated-total", on, values, (measure.fact,), key=measure.fact)
        for item in measure.contradicted:
            values = {"instrument": title, "on": on.isoformat(), "item": item}
            yield Raised("data.contradicted-answer", on, values, (measure.fact,), key=f"{measure.fact}/{item}")


def _short(number: float) -> int | float:
    return int(number) if number.is_integer() else number


def _reliable_change(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Improved if one measure is reliably better and none reliably worse (NHS Talking Therapies)."""
    del protocol
    worse = [change for change in case.changes if change.reliable > 0]
    better = [change for change in case.changes if change.reliable < 0 and not worse]
    for rule, moved in (("change.deterioration", worse), ("change.improvement", better)):
        for change in moved:
            instrument = mappings.instruments[change.instrument]
            threshold = instrument.reliable_change
            values = _moved(change, mappings) | {"threshold": _short(threshold.value) if threshold else 0}
            facts = (change.first_fact, change.latest_fact)
            yield Raised(rule, change.latest_on, values, facts, key=change.instrument)


def _moved(change: Change, mappings: Mappings) -> Values:
    title = mappings.instruments[change.instrument].title
    return {"instrument": title, "first": change.first, "latest": change.latest, "percent": change.percent}


def _initial_phase(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Complete when its tasks are documented; overrun when the published number of sessions is held without."""
    documents = {document.task: document for document in case.documented}
    if case.initial_complete is not None:
        facts = tuple(documents[task].fact for task in protocol.initial.tasks)
        if case.open:
            yield Raised("initial.complete", case.initial_complete, {"on": case.initial_complete.isoformat()}, facts)
        return
    overrun = protocol.initial.overrun_after.count
    if case.open and len(case.held) >= overrun:
        missing = [
            mappings.displays[Code(COURSE_FIELD, task)] for task in protocol.initial.tasks if task not in documents
        ]
        values: Values = {"held": len(case.held), "missing": ", ".join(missing)}
        yield Raised("initial.overrun", case.held[overrun - 1].start.date(), values, _rests_on(case.held))


def _rests_on(sessions: list[Session]) -> tuple[str, ...]:
    return tuple(
        f"Encounter/{session.encounters[0]}" if session.encounters else f"QuestionnaireResponse/{session.forms[0]}"
        for session in sessions
    )


def _reviews(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Little change by session 4 asks for a look, by session 8 for a review (ICSI 2016; PMC6428692)."""
    sessions = case.held
    soft, firm = protocol.reviews.soft_after.count, protocol.reviews.firm_after.count
    if not case.open or len(sessions) < soft:
        return
    change = _reviewed(case, mappings, protocol)
    if change is None:
        return
    facts = (change.first_fact, change.latest_fact)
    if len(sessions) < firm:
        threshold = mappings.threshold("review.soft", "improvement")
        if change.percent < threshold:
            values = _moved(change, mappings) | {"session": soft, "threshold": _short(threshold)}
            yield Raised("review.soft", sessions[soft - 1].start.date(), values, (*_rests_on(sessions[:soft]), *facts))
        return
    threshold = mappings.threshold("review.firm", "improvement")
    if change.reliable >= 0 or change.percent < threshold:
        day = sessions[firm - 1].start.date()
        values = _moved(change, mappings) | {"session": firm, "threshold": _short(threshold)}
        due = day + protocol.reviews.firm_due.days
        yield Raised("review.firm", day, values, (*_rests_on(sessions[:firm]), *facts), due=due)


def _reviewed(case: Case, mappings: Mappings, protocol: Protocol) -> Change | None:
    """The change that progress is judged by: of the protocol's first measure that was a case at the start."""
    changes = {change.instrument: change for change in case.changes}
    for name in protocol.reviews.measures:
        caseness = mappings.instruments[name].caseness
        if name in changes and caseness is not None and changes[name].first >= caseness.value:
            return changes[name]
    return None


def _ending(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """The ending goes by sessions remaining; when all are held, a clinician decides what comes next."""
    del mappings
    sessions, planned = case.held, case.planned_sessions
    if not case.open or not sessions:
        return
    remaining = planned - len(sessions)
    counted: Values = {"held": len(sessions), "planned": planned}
    if remaining <= 0:
        last_planned = sessions[planned - 1]
        yield Raised("sessions.used-up", last_planned.start.date(), counted, _rests_on(sessions))
    elif remaining <= protocol.ending.count:
        reached = max(planned - protocol.ending.count, 1)
        values = counted | {"remaining": remaining}
        yield Raised("ending.due", sessions[reached - 1].start.date(), values, _rests_on(sessions))


def _stalled(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """No session for weeks and none ahead: dropped out or paused, a clinician knows."""
    del mappings
    since = case.last_activity + protocol.course.stalled_after.days
    if case.as_of < since or not case.open or any(session.state in _OPEN_STATES for session in case.sessions):
        return
    last = case.last_activity.date()
    values: Values = {
        "last": last.isoformat(),
        "threshold": protocol.course.stalled_after.count,
    }
    facts = _rests_on(case.held[-1:]) or (case.anchor,)
    yield Raised("course.stalled", since.date(), values, facts, key=last.isoformat())


def _odd_records(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """What in the record of the sessions can't be, and how it was counted all the same."""
    del mappings, protocol
    for sitting in case.joined.sittings:
        meetings = sitting.meetings
        for meeting in meetings:
            if meeting.odd_duration:
                yield Raised("data.duration", sitting.day, _on(sitting), (meeting.reference,), key=meeting.reference)
        if sitting.future:
            facts = tuple([meeting.reference for meeting in meetings])
            yield Raised("data.future", sitting.day, _on(sitting), facts, key=facts[0])
        held = sum([meeting.state is SessionState.HELD for meeting in meetings]) if len(meetings) > 1 else 0
        if held > 1 and sitting.counts:
            facts = tuple([meeting.reference for meeting in meetings])
            yield Raised("data.same-day", sitting.day, _on(sitting) | {"count": held}, facts, key=facts[0])
    for form, sitting in case.joined.unheld_forms:
        values = _on(sitting) | {"state": sitting.state.value}
        facts = (form.reference, *(meeting.reference for meeting in sitting.meetings))
        yield Raised("data.form-of-cancelled", sitting.day, values, facts, key=form.reference)


def _on(sitting: Sitting) -> Values:
    return {"on": sitting.day.isoformat()}


RULES = (
    _safety,
    _reliable_change,
    _initial_phase,
    _reviews,
    _ending,
    _stalled,
    _stated_scores,
    _odd_records,
)
"""Every rule function, in the order in which a clinician would ask."""
