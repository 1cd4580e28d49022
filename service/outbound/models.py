"""That what leaves is valid FHIR R4: each resource as its model, before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fhir.resources.R4B.careplan import CarePlan
from fhir.resources.R4B.communication import Communication
from fhir.resources.R4B.documentreference import DocumentReference
from fhir.resources.R4B.flag import Flag
from fhir.resources.R4B.goal import Goal
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.provenance import Provenance
from fhir.resources.R4B.task import Task
from pydantic import ValidationError

from service.outbound.validity import surely_valid

if TYPE_CHECKING:
    from fhir_core.fhirabstractmodel import FHIRAbstractModel

    from service.outbound.elements import Element

_MODELS: dict[str, type[FHIRAbstractModel]] = {
    "CarePlan": CarePlan,
    "Communication": Communication,
    "DocumentReference": DocumentReference,
    "Flag": Flag,
    "Goal": Goal,
    "Observation": Observation,
    "Provenance": Provenance,
    "Task": Task,
}


class InvalidPlan(Exception):  # noqa: N818 - it names what the plan is, as Transient and Permanent do
    """A plan is not valid FHIR. The message names element paths, never a value."""


def validate(resource: Element) -> None:
    """Raise InvalidPlan unless a resource is valid FHIR R4."""
    model = _MODELS[resource["resourceType"]]
    if surely_valid(model, resource):
        return
    try:
        model.model_validate(resource)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_context=False, include_url=False)
        paths = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in problems}))
        message = f"The {model.__name__} of a course is not valid FHIR at {paths}. Look at its source data."
        raise InvalidPlan(message) from None
