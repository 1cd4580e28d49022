"""A plan as a document: the plan-of-care note for an EHR that takes no CarePlan, and scores beside it.

The note is what the CarePlan's narrative says, then its goals and sessions, as one HTML page without scripts,
styles or links, or that page as PDF. Sources: https://loinc.org/18776-5 (plan of care note) and US Core's
DocumentReference (type, category, author, content) and Observation for screening and assessment (category `survey`).
"""

from __future__ import annotations

import base64
import html
from datetime import date
from typing import TYPE_CHECKING

from service.domain.codes import LOINC
from service.domain.course import SessionState
from service.outbound.careplan import WITHDRAWN
from service.outbound.elements import AUTHOR, Element, identifier, instant, meta, source_uri
from service.outbound.goals import UCUM
from service.outbound.pdf import PDF, pdf_of
from service.outbound.wording import clean, day

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.course import Measure
    from service.domain.instruments import Instrument
    from service.outbound.careplan import Plan

NOTE = "note"
"""Role of the DocumentReference."""
SCORE = "score"
"""First part of the roles of Observations."""
HTML = "text/html"
_PLAN_OF_CARE_NOTE = {"system": LOINC, "code": "18776-5", "display": "Plan of care note"}
_CLINICAL_NOTE = {
    "system": "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
    "code": "clinical-note",
    "display": "Clinical Note",
}
_SURVEY = {
    "system": "http://terminology.hl7.org/CodeSystem/observation-category",
    "code": "survey",
    "display": "Survey",
}


def note(plan: Plan, media_type: str = HTML) -> Element:
    """Return the plan-of-care note of a plan, its page as HTML or PDF. Same plan, same bytes.

    `date` is the newest instant that the course's facts tell of, and not the clock.
    """
    course, careplan = plan.course, plan.resources[0][1]
    text = _page(plan)
    page = pdf_of(text, careplan["title"]) if media_type == PDF else text.encode()
    attachment: Element = {
        "contentType": media_type,
        "language": "en",
        "data": base64.b64encode(page).decode(),
        "size": len(page),
        "title": careplan["title"],
    }
    resource: Element = {
        "resourceType": "DocumentReference",
        "id": course.resource_id(NOTE),
        "meta": meta(course, plan.mappings, NOTE),
        "identifier": [identifier(course, NOTE)],
        "status": WITHDRAWN if plan.withdrawn else "current",
        "type": {"coding": [_PLAN_OF_CARE_NOTE], "text": _PLAN_OF_CARE_NOTE["display"]},
        "category": [{"coding": [_CLINICAL_NOTE]}],
        "subject": careplan["subject"],
        "author": [{"display": AUTHOR}],
        "content": [{"attachment": attachment}],
        "context": {"period": careplan["period"]},
    }
    if course.latest is not None:
        resource["date"] = instant(course.latest)
    if "description" in careplan:
        resource["description"] = careplan["description"]
    if "security" in resource["meta"]:
        resource["securityLabel"] = [{"coding": [label]} for label in resource["meta"]["security"]]
    return resource


def scores(plan: Plan) -> Iterator[tuple[str, Element]]:
    """Yield an Observation for each total of a course, with its role; none for a plan that is taken back."""
    if plan.withdrawn:
        return
    for measure in plan.course.measures:
        instrument = plan.mappings.instruments.get(measure.instrument)
        if instrument is not None and instrument.total is not None and measure.total is not None:
            yield _score(plan, measure, instrument, instrument.total, measure.total)


def _score(plan: Plan, measure: Measure, instrument: Instrument, code: str, total: int) -> tuple[str, Element]:
    course = plan.course
    role = f"{SCORE}/{measure.instrument}/{measure.fact}"
    resource: Element = {
        "resourceType": "Observation",
        "id": course.resource_id(role),
        "meta": meta(course, plan.mappings, SCORE),
        "identifier": [identifier(course, role)],
        "status": "final",
        "category": [{"coding": [_SURVEY]}],
        "code": {
            "coding": [{"system": LOINC, "code": code, "display": f"{clean(instrument.title)} total score"}],
            "text": f"{clean(instrument.title)} total score",
        },
        "subject": {"reference": course.patient},
        "effectiveDateTime": instant(measure.taken),
        "valueQuantity": {"value": total, "unit": "score", "system": UCUM, "code": "{score}"},
        # By identifier: the source has the questionnaire, and a server that the plan goes to may not.
        "derivedFrom": [
            {
                "type": "QuestionnaireResponse",
                "identifier": {"system": source_uri(course.source), "value": measure.fact},
            }
        ],
    }
    if measure.band is not None:
        resource["interpretation"] = [{"text": clean(measure.band)}]
    return role, resource


def _page(plan: Plan) -> str:
    """Return the note as one HTML page."""
    careplan = plan.resources[0][1]
    title = html.escape(careplan["title"])
    body = careplan["text"]["div"]
    if not plan.withdrawn:
        goals = [_goal(resource) for _, resource in plan.resources if resource["resourceType"] == "Goal"]
        body += _section("Goals", goals) + _section("Sessions", list(_sessions(plan)))
    head = f'<meta charset="utf-8"><title>{title}</title>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><h1>{title}</h1>{body}</body></html>'


def _section(heading: str, items: list[str]) -> str:
    if not items:
        return ""
    return f"<h2>{heading}</h2><ul>{''.join(f'<li>{html.escape(item)}</li>' for item in items)}</ul>"


def _goal(goal: Element) -> str:
    """Return a goal in words, with how far it is and by when."""
    words = [str(goal["description"]["text"])]
    if "achievementStatus" in goal:
        words.append(goal["achievementStatus"]["coding"][0]["display"].lower())
    due = next((target["dueDate"] for target in goal.get("target", []) if "dueDate" in target), None)
    if due is not None:
        words.append(f"due {day(date.fromisoformat(due))}")
    return ", ".join(words)


def _sessions(plan: Plan) -> Iterator[str]:
    """Yield the sessions that were held, the latest first."""
    for session in reversed(plan.course.sessions):
        if session.state is SessionState.HELD:
            number = f"Session {session.number}" if session.number is not None else "Meeting"
            minutes = f", {session.minutes} minutes" if session.minutes is not None else ""
            yield f"{day(session.start.date())}: {number}{minutes}"
