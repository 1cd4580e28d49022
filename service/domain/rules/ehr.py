"""What clinicians did to a course's plan in an EHR: respected there, told here, and never a decision of the course."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.evidence import GOAL_ROLE, PLAN_ROLE, TASK_ROLE
from service.domain.facts import Code
from service.domain.forms import FHIR_BASE
from service.domain.rules.case import Raised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.evidence import PlanAct
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values

_PATIENT_GOAL = f"{FHIR_BASE}/CodeSystem/patient-goal"
_ENDED = {
    "completed": "ended (completed)",
    "revoked": "ended (revoked)",
    "cancelled": "cancelled",
    "rejected": "rejected",
    "on-hold": "put on hold",
    "entered-in-error": "marked as entered in error",
}
"""What was done, by the status there: those of a CarePlan and of a Goal by which it goes on no longer."""
_ELEMENTS = {
    "achievementStatus": "how far it is achieved, or since when",
    "activity": "the words of a session or another activity",
    "addresses": "the conditions that it addresses",
    "authoredOn": "its date",
    "category": "its category",
    "code": "what it is about",
    "contained": "the words of a goal within it",
    "contributor": "who contributed",
    "created": "its date",
    "description": "its description",
    "expressedBy": "whose goal it is",
    "goal": "its goals",
    "period": "when it applies",
    "priority": "its priority",
    "reasonCode": "its reason",
    "replaces": "the plan that it replaces",
    "restriction": "by when it is due",
    "startDate": "its start",
    "target": "its target",
    "title": "its title",
}
"""What FHIR's elements say, in a clinician's words."""


def _plan_ended(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """A plan that a clinician ended stays ended in the EHR; the course goes on until its ending form closes it."""
    del mappings, protocol
    for act in case.acts:
        if act.role == PLAN_ROLE:
            yield from _raised("ehr.plan-ended", act, case, {})


def _goal_ended(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """A Goal that a clinician rejected, ended or paused stays so in the EHR."""
    del protocol
    for act in case.acts:
        group, _, goal = act.role.partition("/")
        if group == GOAL_ROLE:
            yield from _raised("ehr.goal-ended", act, case, {"goal": _title(goal, mappings)})


def _edited(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """What a clinician changed in the EHR, and again after it was put back, is left as they have it there."""
    del protocol
    for act in case.acts:
        on, ended = act.start.date(), case.ended
        if act.edited and (ended is None or on <= ended):
            said: Values = {
                "what": _resource(act.role, mappings),
                "elements": ", ".join(_element(path) for path in act.edited),
                "on": on.isoformat(),
                "destination": act.destination,
            }
            yield Raised("ehr.edited", on, said, (act.reference,), key=act.reference, closed=ended)


def _resource(role: str, mappings: Mappings) -> str:
    """Return which resource of the plan plays a role, as a clinician knows it."""
    group, _, rest = role.partition("/")
    if group == GOAL_ROLE:
        return f"the goal about {_title(rest, mappings)}"
    if group == PLAN_ROLE:
        return "the plan"
    rule = mappings.rules.get(rest.partition("/")[0])
    return f"the {'task' if group == TASK_ROLE else 'flag'} about {rule.title if rule else rest}"


def _element(path: str) -> str:
    name = path.partition(".")[2]
    return f"{_ELEMENTS[name]} ({path})" if name in _ELEMENTS else path


def _raised(rule: str, act: PlanAct, case: Case, values: Values) -> Iterator[Raised]:
    on, ended = act.start.date(), case.ended
    if act.status in _ENDED and (ended is None or on <= ended):
        said = {"did": _ENDED[act.status], "on": on.isoformat(), "destination": act.destination} | values
        yield Raised(rule, on, said, (act.reference,), key=act.reference, closed=ended)


def _title(goal: str, mappings: Mappings) -> str:
    """Return what a Goal is about, by its role without its first part: an instrument, a focus area, a patient's own."""
    group, _, code = goal.partition("/")
    if group == "focus" and code in mappings.focus_areas:
        return mappings.focus_areas[code].title
    if group == "patient":
        return mappings.displays.get(Code(_PATIENT_GOAL, code), code)
    return mappings.instruments[goal].title if goal in mappings.instruments else goal


RULES = (_plan_ended, _goal_ended, _edited)
