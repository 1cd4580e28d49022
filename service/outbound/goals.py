"""The Goals of a course: symptom targets, the focus area's goal, and the patient's own."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from service.domain.codes import LOINC
from service.domain.course import Phase
from service.outbound.elements import Element, concept, focus_area, identifier, meta, references, text
from service.outbound.wording import clean, display, subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.course import Change, Course
    from service.domain.instruments import Instrument
    from service.domain.mappings import Mappings

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
_BEHAVIORAL = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/goal-category",
            "code": "behavioral",
            "display": "Behavioral",
        }
    ]
}
_SUBSTANCE_USE = frozenset({"reduce-alcohol-use", "reduce-substance-use"})


def goals(course: Course, mappings: Mappings) -> Iterator[tuple[str, Element]]:
    """Yield the Goals of a course by role: symptom targets, focus area, then the patient's own."""
    for change in course.changes:
        instrument = mappings.instruments.get(change.instrument)
        if instrument is not None and _is_case(course, instrument):
            yield _symptom_goal(course, mappings, instrument, change)
    yield from _focus_goal(course, mappings)
    for goal in course.goals:
        role = f"goal/patient/{goal.goal}"
        part = "substance-use-goal" if goal.goal in _SUBSTANCE_USE else "patient-goal"
        description = concept(mappings, "patient-goal", goal.goal)
        description["text"] = display(mappings, "patient-goal", goal.goal)
        resource = _goal(course, mappings, role, part, description)
        resource["startDate"] = goal.since.isoformat()
        resource["expressedBy"] = {"reference": course.patient}
        yield role, _due(course, resource)


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
    achievement = _achievement(course, change, threshold)
    resource["achievementStatus"] = {
        "coding": [{"system": _ACHIEVEMENT, "code": achievement, "display": _ACHIEVEMENT_DISPLAYS[achievement]}]
    }
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
    return role, _due(course, resource)


def _total_score(instrument: Instrument) -> Element:
    words = f"{clean(instrument.title)} total score"
    if instrument.total is None:
        return {"text": words}
    return {"coding": [{"system": LOINC, "code": instrument.total, "display": words}]}


def _achievement(course: Course, change: Change, threshold: int) -> str:
    if change.latest < threshold:
        return "achieved"
    if course.phase is Phase.CLOSED:
        return "not-achieved"
    if change.first_on == change.latest_on:
        return "in-progress"
    return {-1: "improving", 0: "no-change", 1: "worsening"}[change.reliable]


def _focus_goal(course: Course, mappings: Mappings) -> Iterator[tuple[str, Element]]:
    area = next((area for area in course.focus_areas if area.primary), None)
    if area is None:
        return
    role = focus_goal_role(area.area)
    known = mappings.focus_areas.get(area.area)
    description = {"text": clean(known.goal if known else area.area)}
    resource = _goal(course, mappings, role, "focus-goal", description)
    resource["extension"] = [focus_area(mappings, area)]
    resource["startDate"] = area.since.isoformat()
    yield role, _due(course, resource)


def _goal(course: Course, mappings: Mappings, role: str, part: str, description: Element) -> Element:
    resource: Element = {
        "resourceType": "Goal",
        "id": course.resource_id(role),
        "meta": meta(course, mappings, part),
        "identifier": [identifier(course, role)],
        "lifecycleStatus": "completed" if course.phase is Phase.CLOSED else "active",
        "category": [_BEHAVIORAL],
        "description": description,
        "subject": {"reference": course.patient},
        "text": text("generated", f"<p>{html.escape(description['text'])}</p>"),
    }
    if course.conditions:
        resource["addresses"] = references(course.conditions)
    return resource


def _due(course: Course, resource: Element) -> Element:
    due = course.closed or course.projected_end
    if due is not None:
        resource.setdefault("target", [{}])[0]["dueDate"] = due.isoformat()
    return resource
