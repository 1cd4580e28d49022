"""What a plan asks of a clinician: a Task for each finding that is due, and a Flag for each about safety."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from service.domain.course import FindingState, Severity
from service.domain.evidence import TASK_ROLE
from service.outbound.elements import CAREPLAN, Element, coded, concept, identifier, meta, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.domain.course import Course, Finding
    from service.domain.mappings import Mappings
    from service.outbound.elements import Told

FLAG_ROLE = "flag"
_SAFETY = "safety."
"""Rules on what a patient answers about self-harm."""
_PRIORITIES = {Severity.CRITICAL: "stat", Severity.WARNING: "urgent", Severity.INFO: "routine"}
_SAFETY_CATEGORY = ("http://terminology.hl7.org/CodeSystem/flag-category", "safety", "Safety")
_THERAPIST = {"text": "Treating therapist"}


def reviews(course: Course, mappings: Mappings, told: Mapping[str, Told]) -> Iterator[tuple[str, Element]]:
    """Yield the Task of each finding that has a date by which a clinician is to look, with its role; open or not.

    `told` is what `elements.findings` returns.
    """
    for found in course.findings:
        if found.due is not None:
            yield f"{TASK_ROLE}/{found.id}", _task(course, mappings, found, told[found.id])


def flags(course: Course, mappings: Mappings, told: Mapping[str, Told]) -> Iterator[tuple[str, Element]]:
    """Yield the Flag of each critical finding about safety, with its role: active until a clinician has answered."""
    for found in course.findings:
        if found.rule.startswith(_SAFETY) and found.severity is Severity.CRITICAL:
            yield f"{FLAG_ROLE}/{found.id}", _flag(course, mappings, found, told[found.id])


def _task(course: Course, mappings: Mappings, found: Finding, told: Told) -> Element:
    role = f"{TASK_ROLE}/{found.id}"
    plan = {"reference": f"CarePlan/{course.resource_id(CAREPLAN)}"}
    task: Element = {
        "resourceType": "Task",
        "id": course.resource_id(role),
        "meta": meta(course, mappings, "review"),
        "text": _text(told.sentence),
        "extension": [told.extension],
        "identifier": [identifier(course, role)],
        "basedOn": [plan],
        "status": _status(found),
        "intent": "proposal",
        "priority": _PRIORITIES[found.severity],
        "code": concept(mappings, "plan-part", "review"),
        "description": told.sentence,
        "focus": plan,
        "for": {"reference": course.patient},
        "authoredOn": found.raised.isoformat(),
        "reasonCode": concept(mappings, "finding-rule", found.rule),
    }
    if len(course.practitioners) == 1:
        task["owner"] = {"reference": course.practitioners[0]}
    else:
        task["performerType"] = [_THERAPIST]
    if found.due is not None:
        task["restriction"] = {"period": {"end": found.due.isoformat()}}
    return task


def _status(found: Finding) -> str:
    """Only a clinician completes a Task: what else has answered or closed the finding cancels it."""
    if found.state is FindingState.OPEN:
        return "requested"
    by_task = found.answered is not None and found.answered.fact.startswith("Task/")
    return "completed" if by_task else "cancelled"


def _flag(course: Course, mappings: Mappings, found: Finding, told: Told) -> Element:
    role = f"{FLAG_ROLE}/{found.id}"
    period = {"start": found.raised.isoformat()}
    ended = found.answered.on if found.answered is not None else found.closed
    if ended is not None:
        period["end"] = ended.isoformat()
    return {
        "resourceType": "Flag",
        "id": course.resource_id(role),
        "meta": meta(course, mappings, "safety-flag"),
        "text": _text(told.sentence),
        "extension": [told.extension],
        "identifier": [identifier(course, role)],
        "status": "active" if found.state is FindingState.OPEN else "inactive",
        "category": [coded(_SAFETY_CATEGORY)],
        "code": concept(mappings, "finding-rule", found.rule),
        "subject": {"reference": course.patient},
        "period": period,
    }


def _text(said: str) -> Element:
    return text("generated", f"<p>{html.escape(said)}. Prepared by IPT Bridge; not a clinical decision.</p>")
