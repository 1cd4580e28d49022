"""The sessions of a course, held and to come, and its assessment, as activities of its CarePlan."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.domain.course import SessionKind, SessionState
from service.outbound.elements import (
    AUTHOR,
    Element,
    coded,
    coding_of,
    concept,
    instant,
    our_extension,
    references,
    with_code,
    with_value,
)
from service.outbound.wording import aimed_at, clean, count, day, display, inner, joined, task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.domain.course import Course, Documented, PlannedSession, Session
    from service.domain.mappings import Mappings

_STATUS = {
    SessionState.PLANNED: "scheduled",
    SessionState.IN_PROGRESS: "in-progress",
    SessionState.HELD: "completed",
    SessionState.CANCELLED: "cancelled",
    SessionState.NO_SHOW: "cancelled",
    SessionState.UNRECORDED: "unknown",
}
ASSESSMENT = (
    "psychiatric-history",
    "diagnosis-documented",
    "medication-need",
    "sick-role",
    "interpersonal-inventory",
    "primary-focus-area",
    "formulation",
    "agreement",
    "time-limit",
)
"""The tasks of assessment and formulation, in the order in which IPT takes them."""
_UNDER_WAY = frozenset({SessionState.HELD, SessionState.IN_PROGRESS})
# States that FHIR's status alone does not tell apart, or does not explain.
_EXPLAINED = frozenset({SessionState.CANCELLED, SessionState.NO_SHOW, SessionState.UNRECORDED})


def activities(course: Course, mappings: Mappings, goals: Mapping[str, str]) -> Iterator[Element]:
    """Yield the activities of a plan: each session by its start, those to come, then the assessment's checklist.

    `goals` names the Goals as relative references, by their role. A session that remains and is neither booked nor
    aimed at anything is left to the projected end.
    """
    aims = {planned.encounter: planned for planned in course.planned if planned.encounter is not None}
    for session in course.sessions:
        aim = aims.get(session.encounters[0]) if aims and session.encounters else None
        yield _session(course, session, aim, mappings, goals)
    ahead = [planned for planned in course.planned if planned.encounter is None and planned.area is not None]
    if ahead:
        code = _code(SessionKind.SESSION, mappings)
        # A dozen sessions are aimed at two or three things: each is put in words once.
        aimed = {
            (each.area, each.goal): (aimed_at(each, mappings), references(_aimed(each, goals)))
            for each in {(each.area, each.goal): each for each in ahead}.values()
        }
        for planned in ahead:
            yield _to_come(course, planned, code, *aimed[planned.area, planned.goal])
    checklist = _checklist(course, mappings)
    if checklist is not None:
        yield checklist


def _checklist(course: Course, mappings: Mappings) -> Element | None:
    """Return what the protocol's initial phase asks for, with the day on which each was documented."""
    protocol = mappings.protocols.get(course.protocol)
    tasks = protocol.initial.tasks if protocol else ()
    done = {document.task: document for document in course.documented}
    if not tasks or not done:
        return None
    missing = [task for task in tasks if task not in done]
    shown = [done[task] for task in _in_order(tasks, done)]
    said = [f"{task(mappings, each.task)} {day(each.on)}" for each in shown]
    open_ = [task(mappings, each) for each in missing]
    words = f"Assessment and formulation: {joined(said)}." + (f" Not documented yet: {joined(open_)}." if open_ else "")
    detail: Element = {"kind": "Appointment", "code": concept(mappings, "session-kind", "assessment")}
    detail["status"] = "in-progress" if missing else "completed"
    detail["description"] = clean(words)
    return {
        "id": course.resource_id("activity/assessment-checklist"),
        "detail": detail,
        "outcomeReference": references(dict.fromkeys(each.fact for each in shown)),
    }


def _in_order(tasks: tuple[str, ...], done: Mapping[str, Documented]) -> list[str]:
    """The protocol's tasks that are documented, then the others of the assessment, as they are asked for."""
    others = [task for task in ASSESSMENT if task not in tasks]
    return [task for task in (*tasks, *others) if task in done]


def _session(
    course: Course, session: Session, aim: PlannedSession | None, mappings: Mappings, goals: Mapping[str, str]
) -> Element:
    start = instant(session.start)
    key = (*session.encounters, *session.forms, start)[0]
    element: Element = {
        # Stable while the session's first source stays: a clinician's notes on it are kept by this id.
        "id": course.resource_id(f"activity/{key}"),
        "detail": _detail(session, start, aim, mappings, goals),
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


def _to_come(course: Course, planned: PlannedSession, code: Element, aimed: str, goals: list[Element]) -> Element:
    """Return a session that nobody has booked, on the day on which it is due."""
    detail: Element = {"kind": "Appointment", "code": code}
    if goals:
        detail["goal"] = goals
    detail["status"] = "not-started"
    detail["scheduledPeriod"] = {"start": planned.on.isoformat()}
    detail["description"] = f"Session {planned.number}, not booked{aimed}"
    return {"id": course.resource_id(f"activity/planned/{planned.number}"), "detail": detail}


def _aimed(planned: PlannedSession, goals: Mapping[str, str]) -> list[str]:
    roles = (f"goal/focus/{planned.area}", f"goal/patient/{planned.goal}")
    return [goals[role] for role in roles if role in goals]


def _detail(
    session: Session, start: str, aim: PlannedSession | None, mappings: Mappings, goals: Mapping[str, str]
) -> Element:
    extensions: list[Element] = []
    if session.number is not None:
        extensions.append(with_value(our_extension("session-number"), "valuePositiveInt", session.number))
    if session.phase is not None:
        extensions.append(with_code(our_extension("session-phase"), mappings, "phase", session.phase.value))
    detail: Element = {"extension": extensions} if extensions else {}
    detail |= {"kind": "Appointment", "code": _code(session.kind, mappings)}
    roles = [f"goal/focus/{area}" for area in session.worked_on]
    worked_towards = [goals[role] for role in roles if role in goals] if aim is None else _aimed(aim, goals)
    if worked_towards:
        detail["goal"] = references(worked_towards)
    detail["status"] = _STATUS[session.state]
    if session.state in _EXPLAINED:
        detail["statusReason"] = concept(mappings, "session-state", session.state.value)
    detail["scheduledPeriod"] = _period(session, start)
    detail["description"] = _description(session, mappings) + ("" if aim is None else aimed_at(aim, mappings))
    return detail


def _code(kind: SessionKind, mappings: Mappings) -> Element:
    if kind is not SessionKind.SESSION:
        return concept(mappings, "session-kind", kind.value)
    ours = coding_of(mappings, "session-kind", kind.value)
    # The mappings' first explicit IPT code is the standard one; a site's own come after it.
    return coded(*((ipt.system, ipt.code, ipt.display) for ipt in mappings.encounters.ipt[:1]), ours)


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
    if session.number is not None and not session.forms:
        words.append("without a session form")
    if session.forms and not session.encounters:
        words.append("known by its form alone")
    return ", ".join(words)


def _progress(session: Session, mappings: Mappings) -> str:
    """Return what the session's form documents, coded answers only; empty if nothing."""
    if not session.forms:
        return ""
    said = []
    for label, system, codes in (
        ("Worked on", "focus-area", session.worked_on),
        ("Techniques", "technique", session.techniques),
        ("At home", "technique", session.techniques_at_home),
        ("Patterns", "pattern", session.patterns),
        ("Their effect", "pattern-effect", session.effects),
        ("Coping", "coping-strategy", session.coping),
        ("Maladaptive coping", "maladaptive-coping", session.maladaptive_coping),
        ("Reliance on it", "coping-trend", (session.coping_trend,)),
        ("Use since the last session", "use-since-last", (session.use_since_last,)),
        ("Addiction care", "addiction-care", (session.addiction_care,)),
        ("Next", "next-step", session.next_steps),
    ):
        if codes and codes[0] is not None:
            words = [inner(display(mappings, system, code)) for code in codes if code is not None]
            said.append(f"{label}: {joined(words)}.")
    return " ".join(said)
