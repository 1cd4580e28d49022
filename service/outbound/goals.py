"""The Goals of a course: symptom targets, the focus area's goal, and the patient's own."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from service.domain.codes import LOINC
from service.domain.course import Phase
from service.domain.focus import SUBSTANCE_GOALS
from service.outbound.elements import (
    SHARED,
    Element,
    coded,
    concept,
    focus_area,
    identifier,
    meta,
    paragraphs,
    references,
    usual_paragraphs,
)
from service.outbound.wording import NO_TREATMENT_OF_USE, clean, day, display, inner, joined, subject, used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.course import Change, Course, FocusArea, PatientGoal
    from service.domain.instruments import Instrument
    from service.domain.mappings import FocusAreaText, Mappings

UCUM = "http://unitsofmeasure.org"

_ACHIEVEMENT = "http://terminology.hl7.org/CodeSystem/goal-achievement"
_ACHIEVEMENT_DISPLAYS = {
    "in-progress": "In Progress",
    "improving": "Improving",
    "worsening": "Worsening",
    "no-change": "No Change",
    "achieved": "Achieved",
    "not-achieved": "Not Achieved",
}
_BEHAVIORAL = ("http://terminology.hl7.org/CodeSystem/goal-category", "behavioral", "Behavioral")
_FOLLOWED_BY = {"lift-mood": ("phq-9", "phq-9m"), "less-anxiety": ("gad-7",), **SUBSTANCE_GOALS}
"""The patient's goals that instruments follow, the first that was answered."""
_GAINS = {
    "express-needs": "expresses-needs",
    "form-relationships": "closer-relationships",
    "mourn-loss": "loss-accepted",
    "find-supports": "wider-supports",
    "resolve-dispute": "dispute-resolved",
    "accept-new-role": "mastery-of-new-role",
    "build-new-skills": "mastery-of-new-role",
}
"""The gain of an ending form that says that a goal was achieved."""
_AREA_GAINS = {
    "grief": "loss-accepted",
    "role-dispute": "dispute-resolved",
    "role-transition": "mastery-of-new-role",
    "communication-patterns": "expresses-needs",
}


def goals(course: Course, mappings: Mappings) -> Iterator[tuple[str, Element]]:
    """Yield the Goals of a course by role: symptom targets, focus area, then the patient's own."""
    for change in course.changes:
        instrument = mappings.instruments.get(change.instrument)
        if instrument is not None and _is_case(course, instrument):
            yield _symptom_goal(course, mappings, instrument, change)
    for area in course.focus_areas:
        yield _focus_goal(course, mappings, area)
    for goal in course.goals:
        yield _patient_goal(course, mappings, goal)


def _patient_goal(course: Course, mappings: Mappings, goal: PatientGoal) -> tuple[str, Element]:
    role = f"goal/patient/{goal.goal}"
    about_use = goal.goal in SUBSTANCE_GOALS
    words = display(mappings, "patient-goal", goal.goal)
    description = concept(mappings, "patient-goal", goal.goal) | {"text": words}
    resource = _goal(course, mappings, role, "substance-use-goal" if about_use else "patient-goal", description)
    resource["startDate"] = goal.since.isoformat()
    resource["expressedBy"] = {"reference": course.patient}
    if about_use:
        resource["text"] = usual_paragraphs(words, NO_TREATMENT_OF_USE)
    change = _following(course, mappings, goal.goal)
    if change is None:
        return role, _due(course, _credited(course, resource, _GAINS.get(goal.goal)))
    instrument = mappings.instruments[change.instrument]
    threshold = _threshold(instrument)
    return role, _due(
        course, _measured(resource, instrument, threshold, change, _achievement(course, change, threshold, instrument))
    )


def _following(course: Course, mappings: Mappings, goal: str) -> Change | None:
    """The change of the instrument that follows a goal; None if none was answered, or has a threshold."""
    changes = {change.instrument: change for change in course.changes}
    for name in _FOLLOWED_BY.get(goal, ()):
        if name in changes and name in mappings.instruments and _threshold(mappings.instruments[name]):
            return changes[name]
    return None


def _threshold(instrument: Instrument) -> int:
    """The score below which a total is in no clinical range: caseness, else where the second band starts."""
    if instrument.caseness is not None:
        return instrument.caseness.count
    return instrument.bands[1].start if len(instrument.bands) > 1 else 0


def focus_goal_role(area: str) -> str:
    """Return the role of a focus area's goal. Another focus area is another goal, not the same one reworded."""
    return f"goal/focus/{area}"


def _is_case(course: Course, instrument: Instrument) -> bool:
    """Whether the patient was a case by this instrument at any time of the course."""
    if instrument.caseness is None:
        return False
    totals = (m.total for m in course.measures if m.instrument == instrument.id and m.total is not None)
    return any(total >= instrument.caseness.value for total in totals)


def _symptom_goal(course: Course, mappings: Mappings, instrument: Instrument, change: Change) -> tuple[str, Element]:
    role = f"goal/{instrument.id}"
    threshold = instrument.caseness.count if instrument.caseness else 0
    description = {"text": f"{subject(mappings, instrument.id)} below {threshold}"}
    resource = _goal(course, mappings, role, "symptom-goal", description)
    resource["startDate"] = course.opened.isoformat()
    return role, _due(
        course, _measured(resource, instrument, threshold, change, _achievement(course, change, threshold, instrument))
    )


def _measured(resource: Element, instrument: Instrument, threshold: int, change: Change, achievement: str) -> Element:
    """Return a goal with the target that its instrument sets, and how far it is."""
    resource["achievementStatus"] = _achieved(achievement)
    resource["statusDate"] = change.latest_on.isoformat()
    resource["target"] = [
        {
            "measure": _total_score(instrument),
            "detailQuantity": {
                "value": threshold,
                "comparator": "<",
                "unit": "score",
                "system": UCUM,
                "code": "{score}",
            },
        }
    ]
    return resource


def _credited(course: Course, resource: Element, gain: str | None) -> Element:
    """Return a goal that no instrument follows: achieved where the ending form credits the gain, else under way."""
    ending = course.ending
    if ending is not None and gain in ending.gains:
        resource["achievementStatus"] = _achieved("achieved")
        resource["statusDate"] = ending.on.isoformat()
    elif course.phase is not Phase.CLOSED:
        resource["achievementStatus"] = _achieved("in-progress")
    return resource


def _achieved(code: str) -> Element:
    return coded((_ACHIEVEMENT, code, _ACHIEVEMENT_DISPLAYS[code]))


def _total_score(instrument: Instrument) -> Element:
    words = f"{clean(instrument.title)} total score"
    if instrument.total is None:
        return {"text": words}
    return coded((LOINC, instrument.total, words))


def _achievement(course: Course, change: Change, threshold: int, instrument: Instrument) -> str:
    if change.latest < threshold:
        return "achieved"
    if course.phase is Phase.CLOSED:
        return "not-achieved"
    if change.first_on == change.latest_on or instrument.reliable_change is None:
        # Without a published reliable change, no change is claimed.
        return "in-progress"
    return {-1: "improving", 0: "no-change", 1: "worsening"}[change.reliable]


def _focus_goal(course: Course, mappings: Mappings, area: FocusArea) -> tuple[str, Element]:
    role = focus_goal_role(area.area)
    known = mappings.focus_areas.get(area.area)
    description = {"text": clean(known.goal if known else area.area)}
    resource = _goal(course, mappings, role, "focus-goal", description)
    resource["extension"] = [focus_area(mappings, area)]
    resource["startDate"] = area.since.isoformat()
    if known is not None:
        tasks = f"Therapist: {_sentence(known.therapist_tasks)}", f"Patient: {_sentence(known.patient_goals)}"
        done = (*_strategies(course, mappings, area, known), *_earlier(course, mappings, area))
        told = paragraphs if done else usual_paragraphs
        resource["text"] = told(description["text"], *tasks, *done)
    return role, _due(course, _credited(course, resource, _AREA_GAINS.get(area.area)))


def _strategies(course: Course, mappings: Mappings, area: FocusArea, known: FocusAreaText) -> Iterator[str]:
    """The area's strategies that its sessions used, with the number of sessions."""
    sessions = [session for session in course.sessions if area.area in session.worked_on]
    named = [[code for code in session.techniques if code in known.strategies] for session in sessions]
    if any(named):
        yield f"Strategies used: {joined(used(mappings, 'technique', named))}."


def _earlier(course: Course, mappings: Mappings, area: FocusArea) -> Iterator[str]:
    """The stages and ranks that the area had before."""
    for span in course.focus_history:
        if span.area == area.area and span.until is not None:
            stage = f", {inner(display(mappings, 'dispute-stage', span.stage))}" if span.stage else ""
            rank = "primary" if span.primary else "secondary"
            yield f"From {day(span.since)} to {day(span.until)}: {rank}{stage}."


@lru_cache(SHARED)
def _sentence(parts: tuple[str, ...]) -> str:
    return f"{'; '.join(inner(part) for part in parts)}."


def _goal(course: Course, mappings: Mappings, role: str, part: str, description: Element) -> Element:
    resource: Element = {
        "resourceType": "Goal",
        "id": course.resource_id(role),
        "meta": meta(course, mappings, part),
        "identifier": [identifier(course, role)],
        "lifecycleStatus": "completed" if course.phase is Phase.CLOSED else "active",
        "category": [coded(_BEHAVIORAL)],
        "description": description,
        "subject": {"reference": course.patient},
        "text": usual_paragraphs(description["text"]),
    }
    if course.conditions:
        resource["addresses"] = references(course.conditions)
    return resource


def _due(course: Course, resource: Element) -> Element:
    due = course.closed or course.projected_end
    if due is not None:
        resource.setdefault("target", [{}])[0]["dueDate"] = due.isoformat()
    return resource
