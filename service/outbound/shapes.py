"""A plan in the shape that one server takes: all of it as it is, parts within the CarePlan, or a note. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.evidence import TASK_ROLE
from service.outbound.document import NOTE, note, scores
from service.outbound.elements import CAREPLAN, Element, concept, identifier, meta
from service.outbound.ledger import rewritten
from service.outbound.models import validate
from service.outbound.negotiation import BY_ITSELF
from service.outbound.provenance import PROVENANCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.outbound.careplan import Plan
    from service.outbound.terms import Terms

Resources = list[tuple[str, Element]]
MESSAGE = "message"
"""First part of the roles of Communications."""
_ACTIVITY_STATUS = {"requested": "not-started", "completed": "completed"}
"""Status of an activity by that of the Task that it stands for; of any other status it would only be noise."""


def shaped(plan: Plan, terms: Terms) -> Resources:
    """Return the resources that a server with these terms is to hold of a plan, by role. Raises InvalidPlan."""
    if terms.plan in BY_ITSELF:
        return _resources(plan, terms)
    return _documents(plan, terms)


def _resources(plan: Plan, terms: Terms) -> Resources:
    kept = [(role, body) for role, body in plan.resources if body["resourceType"] in terms.taken]
    if len(kept) == len(plan.resources):
        return kept
    careplan = plan.resources[0][1]
    if "Task" not in terms.taken:
        careplan = _with_reviews(careplan, plan)
    if terms.contained_goals:
        careplan = _with_goals(careplan, plan)
    made: Resources = [(CAREPLAN, careplan)]
    if "Communication" in terms.taken:
        made += _messages(plan)
    kept = [*made, *((role, body) for role, body in kept if role != CAREPLAN)]
    if PROVENANCE in dict(kept):
        kept[-1] = (PROVENANCE, _retargeted(kept))
        made.append(kept[-1])
    for _, body in made:
        validate(body)
    return kept


def _documents(plan: Plan, terms: Terms) -> Resources:
    made: Resources = [(NOTE, note(plan, terms.note_format))]
    if "Observation" in terms.taken:
        made += scores(plan)
    told = dict(plan.resources).get(PROVENANCE)
    if told is not None and "Provenance" in terms.taken:
        made.append((PROVENANCE, told))
        made[-1] = (PROVENANCE, _retargeted(made))
    for _, body in made:
        validate(body)
    return made


def _retargeted(resources: Resources) -> Element:
    """Return the Provenance, which is last, of what else is written."""
    targets = [{"reference": f"{body['resourceType']}/{body['id']}"} for _, body in resources[:-1]]
    return resources[-1][1] | {"target": targets}


def _with_goals(careplan: Element, plan: Plan) -> Element:
    """Return the CarePlan with its goals within it: what names them names them there."""
    goals = [body for _, body in plan.resources if body["resourceType"] == "Goal"]
    if not goals:
        return careplan
    inner = {f"Goal/{goal['id']}": {"reference": f"#{goal['id']}"} for goal in goals}
    # FHIR: what is contained has no meta (its labels are the container's) and tells its text there.
    contained = [{name: value for name, value in goal.items() if name not in {"meta", "text"}} for goal in goals]
    # Renaming rather than editing: activities name goals as well.
    whole: Element = rewritten(careplan, inner)
    return {"resourceType": "CarePlan", "id": careplan["id"], "contained": contained} | whole


def _with_reviews(careplan: Element, plan: Plan) -> Element:
    """Return the CarePlan with an activity for each Task that is still to be done, or was done."""
    activities = [
        {"id": body["id"], "detail": detail}
        for _, body in plan.resources
        if body["resourceType"] == "Task" and (detail := _detail(body)) is not None
    ]
    if not activities:
        return careplan
    return careplan | {"activity": [*careplan.get("activity", []), *activities]}


def _detail(task: Element) -> Element | None:
    status = _ACTIVITY_STATUS.get(task["status"])
    if status is None:
        return None
    detail: Element = {"kind": "Task", "code": task["code"], "reasonCode": [task["reasonCode"]], "status": status}
    if "restriction" in task:
        detail["scheduledPeriod"] = {"start": task["authoredOn"], "end": task["restriction"]["period"]["end"]}
    if "owner" in task:
        detail["performer"] = [task["owner"]]
    return detail | {"description": task["description"]}


def _messages(plan: Plan) -> Iterator[tuple[str, Element]]:
    """Yield a Communication for each Task that is to be done."""
    for role, task in plan.resources:
        if task["resourceType"] == "Task" and task["status"] == "requested":
            told = f"{MESSAGE}{role.removeprefix(TASK_ROLE)}"
            due = f", due {task['restriction']['period']['end']}" if "restriction" in task else ""
            message: Element = {
                "resourceType": "Communication",
                "id": plan.course.resource_id(told),
                "meta": meta(plan.course, plan.mappings, MESSAGE),
                "text": task["text"],
                "identifier": [identifier(plan.course, told)],
                "basedOn": task["basedOn"],
                "status": "completed",
                "category": [concept(plan.mappings, "plan-part", MESSAGE)],
                "priority": task["priority"],
                "subject": task["for"],
                "about": task["basedOn"],
                "sent": task["authoredOn"],
                "reasonCode": [task["reasonCode"]],
                "payload": [{"contentString": f"{task['description']}{due}"}],
            }
            if "owner" in task:
                message["recipient"] = [task["owner"]]
            yield told, message
