"""The sessions of a course as activities of its CarePlan."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.domain.course import SessionKind, SessionState
from service.outbound.elements import AUTHOR, Element, concept, extension, instant, references
from service.outbound.wording import count, display, inner, joined

if TYPE_CHECKING:
    from service.domain.course import Course, Session
    from service.domain.mappings import Mappings

_STATUS = {
    SessionState.PLANNED: "scheduled",
    SessionState.IN_PROGRESS: "in-progress",
    SessionState.HELD: "completed",
    SessionState.CANCELLED: "cancelled",
    SessionState.NO_SHOW: "cancelled",
    SessionState.UNRECORDED: "unknown",
}
_UNDER_WAY = frozenset({SessionState.HELD, SessionState.IN_PROGRESS})
# States that FHIR's status alone does not tell apart, or does not explain.
_EXPLAINED = frozenset({SessionState.CANCELLED, SessionState.NO_SHOW, SessionState.UNRECORDED})


def activity(course: Course, session: Session, mappings: Mappings, goals: dict[str, str]) -> Element:
    """Return one session as a CarePlan activity.

    `goals` names the Goal of each focus area that has one, as a relative reference by area.
    """
    start = instant(session.start)
    key = (*session.encounters, *session.forms, start)[0]
    element: Element = {
        # Stable while the session's first source stays: a clinician's notes on it are kept by this id.
        "id": course.resource_id(f"activity/{key}"),
        "detail": _detail(session, start, mappings, goals),
    }
    if session.state in _UNDER_WAY:
        sources = [f"Encounter/{encounter}" for encounter in session.encounters]
        sources += [f"QuestionnaireResponse/{form}" for form in session.forms]
        if sources:
            element["outcomeReference"] = references(sources)
    progress = _progress(session, mappings)
    if progress:
        element["progress"] = [{"authorString": AUTHOR, "time": start, "text": progress}]
    return element


def _detail(session: Session, start: str, mappings: Mappings, goals: dict[str, str]) -> Element:
    extensions: list[Element] = []
    if session.number is not None:
        extensions.append(extension("session-number", valuePositiveInt=session.number))
    if session.phase is not None:
        extensions.append(
            extension("session-phase", valueCodeableConcept=concept(mappings, "phase", session.phase.value))
        )
    detail: Element = {"extension": extensions} if extensions else {}
    detail |= {"kind": "Appointment", "code": _code(session, mappings)}
    worked_towards = [goals[area] for area in session.worked_on if area in goals]
    if worked_towards:
        detail["goal"] = references(worked_towards)
    detail["status"] = _STATUS[session.state]
    if session.state in _EXPLAINED:
        detail["statusReason"] = concept(mappings, "session-state", session.state.value)
    detail["scheduledPeriod"] = _period(session, start)
    detail["description"] = _description(session, mappings)
    return detail


def _code(session: Session, mappings: Mappings) -> Element:
    code = concept(mappings, "session-kind", session.kind.value)
    if session.kind is SessionKind.SESSION:
        # The mappings' first explicit IPT code is the standard one; a site's own come after it.
        code["coding"] = [
            *({"system": ipt.system, "code": ipt.code, "display": ipt.display} for ipt in mappings.encounters.ipt[:1]),
            *code["coding"],
        ]
    return code


def _period(session: Session, start: str) -> Element:
    period = {"start": start}
    if session.minutes is not None:
        period["end"] = instant(session.start + timedelta(minutes=session.minutes))
    return period


def _description(session: Session, mappings: Mappings) -> str:
    if session.number is not None:
        words = [f"Session {session.number}"]
    else:
        words = [display(mappings, "session-kind", session.kind.value)]
    if session.state is not SessionState.HELD:
        words.append(inner(display(mappings, "session-state", session.state.value)))
    if session.phase is not None:
        words.append(inner(display(mappings, "phase", session.phase.value)))
    if session.after_end:
        words.append("after the end of the course: not counted")
    if session.minutes is not None:
        words.append(count(session.minutes, "minute"))
    words += [word for word, said in (("group", session.group), ("video", session.telehealth)) if said]
    return ", ".join(words)


def _progress(session: Session, mappings: Mappings) -> str:
    """Return what the session's form documents, coded answers only; empty if nothing."""
    said = []
    for label, system, codes in (
        ("Worked on", "focus-area", session.worked_on),
        ("Techniques", "technique", session.techniques),
        ("Patterns", "pattern", session.patterns),
        ("Coping", "coping-strategy", session.coping),
        ("Next", "next-step", session.next_steps),
    ):
        if codes:
            said.append(f"{label}: {joined([inner(display(mappings, system, code)) for code in codes])}.")
    return " ".join(said)
