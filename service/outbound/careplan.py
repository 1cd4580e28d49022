"""The plan of a course as FHIR R4 JSON that every destination takes alike.

A CarePlan and its Goals, a Task for what a clinician is to look at, a Flag for safety, and their Provenance.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from service.domain.course import Decision, FindingState, Phase, uuid5
from service.outbound.activities import activities
from service.outbound.elements import (
    CAREPLAN,
    COURSE_IDENTIFIER,
    Element,
    coded,
    extension,
    findings,
    focus_area,
    identifier,
    meta,
    our_extension,
    references,
    text,
    with_code,
    with_value,
)
from service.outbound.goals import goals
from service.outbound.models import validate
from service.outbound.narrative import lines, markup
from service.outbound.provenance import PROVENANCE, provenance
from service.outbound.reviews import flags, reviews
from service.outbound.wording import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.outbound.elements import Told

_CATEGORIES = (
    ("http://hl7.org/fhir/us/core/CodeSystem/careplan-category", "assess-plan", "Assessment and Plan of Treatment"),
    ("http://snomed.info/sct", "734163000", "Care plan"),
)
_KEPT = ("resourceType", "id", "meta", "identifier", "category", "basedOn", "intent", "focus", "for", "subject")
"""Elements of a withdrawn Task or Flag that name it, and nothing that was found."""
WITHDRAWN = "entered-in-error"
"""Status of a resource that should never have been, as FHIR has it for all of them."""
WITHDRAWN_TEXT = text(
    "generated",
    "<p>Entered in error: the records that this plan of interpersonal psychotherapy rested on were withdrawn. "
    "Prepared by IPT Bridge; not a clinical decision.</p>",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The resources of one course's plan, valid FHIR R4."""

    course_id: str
    patient: str
    """Relative reference, `Patient/p-1`."""
    source: str
    resources: tuple[tuple[str, Element], ...]
    """By role, "careplan" first; references between them are relative."""
    course: Course = field(compare=False, repr=False)
    """What it tells of, for a destination that takes it in another shape."""
    mappings: Mappings = field(compare=False, repr=False)

    @property
    def withdrawn(self) -> bool:
        """Whether it only takes back what was told before."""
        return bool(self.resources[0][1]["status"] == WITHDRAWN)


def render(course: Course, mappings: Mappings) -> Plan:
    """Return the plan of a course. Same course and mappings, same plan to the byte.

    Raises InvalidPlan.
    """
    course_goals = list(goals(course, mappings))
    told = findings(course, mappings)
    resources = [
        (CAREPLAN, _careplan(course, mappings, course_goals, told)),
        *course_goals,
        *reviews(course, mappings, told),
        *flags(course, mappings, told),
    ]
    return _validated(course, mappings, [*resources, (PROVENANCE, provenance(course, mappings, resources))])


def retract(course: Course, mappings: Mappings) -> Plan:
    """Return the plan of a course whose facts were withdrawn: every resource `entered-in-error`, none for Provenance.

    Raises InvalidPlan.
    """
    course_goals = [(role, resource | {"lifecycleStatus": WITHDRAWN}) for role, resource in goals(course, mappings)]
    resource = _withdrawn_careplan(course, mappings)
    if course_goals:
        resource["goal"] = _goal_references(course_goals)
    told = findings(course, mappings)
    asked = (*reviews(course, mappings, told), *flags(course, mappings, told))
    withdrawn = [(role, _withdrawn(body)) for role, body in asked]
    return _validated(course, mappings, [(CAREPLAN, resource), *course_goals, *withdrawn])


def withheld(course: Course, mappings: Mappings) -> Plan:
    """Return what takes a plan back from a destination that must not learn more: its CarePlan, `entered-in-error`.

    Nothing else is in it: the roles of goals and Tasks would tell what they are about. Raises InvalidPlan.
    """
    return _validated(course, mappings, [(CAREPLAN, _withdrawn_careplan(course, mappings))])


def _withdrawn_careplan(course: Course, mappings: Mappings) -> Element:
    resource = _base(course, mappings)
    resource["text"] = WITHDRAWN_TEXT
    resource["status"] = WITHDRAWN
    return resource


def _withdrawn(resource: Element) -> Element:
    """Return a Task or Flag that says nothing but that it was entered in error."""
    kept = {name: resource[name] for name in _KEPT if name in resource}
    return kept | {"status": WITHDRAWN, "code": {"text": "Entered in error"}, "text": WITHDRAWN_TEXT}


def bundle(plan: Plan) -> bytes:
    """Return the plan as a collection Bundle, its CarePlan first, with all its labels. Same plan, same bytes."""
    security = plan.resources[0][1]["meta"].get("security")
    resource = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid5(uuid.UUID(plan.course_id), "bundle")),
        **({"meta": {"security": security}} if security else {}),
        "identifier": {"system": COURSE_IDENTIFIER, "value": plan.course_id},
        "type": "collection",
        "entry": [{"fullUrl": f"urn:uuid:{body['id']}", "resource": body} for _, body in plan.resources],
    }
    return orjson.dumps(resource)


def _careplan(
    course: Course, mappings: Mappings, course_goals: Sequence[tuple[str, Element]], told: Mapping[str, Told]
) -> Element:
    resource = _base(course, mappings)
    said = lines(course, mappings, {finding: each.sentence for finding, each in told.items()})
    # "additional": the scores and counts that it tells are not all in structured elements.
    resource["text"] = text("additional", markup(said))
    resource["extension"] = _extensions(course, mappings, told)
    resource["status"] = _status(course)
    resource["description"] = f"{said.headline} {said.focus}"
    if course.follows is not None:
        resource["replaces"] = [{"reference": f"CarePlan/{uuid5(course.follows, CAREPLAN)}"}]
    if course.practitioners:
        # Those who held its sessions or wrote its forms; none of them wrote this plan, so none is its author.
        resource["contributor"] = references(course.practitioners)
    if course.conditions:
        resource["addresses"] = references(course.conditions)
    if course_goals:
        resource["goal"] = _goal_references(course_goals)
    named = {role: f"Goal/{goal['id']}" for role, goal in course_goals}
    planned = list(activities(course, mappings, named))
    if planned:
        resource["activity"] = planned
    return resource


def _base(course: Course, mappings: Mappings) -> Element:
    protocol = mappings.protocols.get(course.protocol)
    period = {"start": course.opened.isoformat()}
    if course.closed is not None:
        period["end"] = course.closed.isoformat()
    return {
        "resourceType": "CarePlan",
        "id": course.resource_id(CAREPLAN),
        "meta": meta(course, mappings, CAREPLAN),
        "identifier": [identifier(course, CAREPLAN)],
        "intent": "plan",
        "category": [coded(category) for category in _CATEGORIES],
        "title": clean(protocol.title if protocol else "Interpersonal psychotherapy"),
        "subject": {"reference": course.patient},
        "period": period,
        "created": course.opened.isoformat(),
    }


def _extensions(course: Course, mappings: Mappings, told: Mapping[str, Told]) -> list[Element]:
    counts: list[Element] = [
        with_value("held", "valueUnsignedInt", course.held),
        with_value("planned", "valueUnsignedInt", course.planned_sessions),
        with_value("agreed", "valueBoolean", course.planned_sessions_agreed),
    ]
    return [
        with_code(our_extension("course-phase"), mappings, "phase", course.phase.value),
        extension("session-count", extension=counts),
        *(focus_area(mappings, area) for area in course.focus_areas),
        *(told[found.id].extension for found in course.findings if found.state is not FindingState.CLOSED),
    ]


def _status(course: Course) -> str:
    if course.phase is not Phase.CLOSED:
        return "active"
    if course.ending is not None and course.ending.decision is Decision.END:
        return "completed"
    # Over, and nobody documented an ending: not completed as intended.
    return "revoked"


def _goal_references(course_goals: Iterable[tuple[str, Element]]) -> list[Element]:
    return references(f"Goal/{goal['id']}" for _, goal in course_goals)


def _validated(course: Course, mappings: Mappings, resources: list[tuple[str, Element]]) -> Plan:
    for _, resource in resources:
        validate(resource)
    return Plan(course.id, course.patient, course.source, tuple(resources), course, mappings)
