"""A second opinion: where a resource deviates from the full FHIR model. Paths only, never a value."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fhir.resources import get_fhir_model_class as r5_model
from fhir.resources.R4B import get_fhir_model_class as r4b_model
from pydantic import ValidationError

from service.inbound.records import Reason, Unreadable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from service.inbound.changes import Change

_DEEPEST = 8
"""Names of a path that are told: nesting makes no more paths of it."""


def conform(change: Change, fhir_version: str) -> None:
    """Raise Unreadable (not-conformant) at the first path at which a change's resource deviates from FHIR."""
    found = deviations(change, fhir_version)
    if found:
        problem = Unreadable(Reason.NOT_CONFORMANT, change.path + found[0].removeprefix(change.resource_type))
        problem.deviations = tuple(found)
        raise problem


def deviations(change: Change, fhir_version: str) -> list[str]:
    """Return the paths at which a change's resource deviates from FHIR, sorted, without list indices.

    `fhir_version` is "R4", "R4B", "R5" or a number such as "4.0.1". R4 is held against R4B, whose
    Encounter and QuestionnaireResponse are the same. An element that the version doesn't know is named
    where another version knows it, else it is `?`. Empty for a change without resource. Never raises.
    """
    if change.resource is None:
        return []
    try:
        model = _model(change.resource_type, r5=fhir_version.removeprefix("R").startswith("5"))
        model.model_validate(change.resource)
    except ValidationError as problem:
        errors = problem.errors(include_input=False, include_context=False, include_url=False)
        return sorted({_path(change.resource_type, error["loc"], error["type"]) for error in errors})
    except Exception:  # noqa: BLE001 - the full models raise KeyError, RecursionError and more on foreign data
        return [change.resource_type]
    return []


def _model(resource_type: str, *, r5: bool) -> type[BaseModel]:
    model: type[BaseModel] = r5_model(resource_type) if r5 else r4b_model(resource_type)
    return model


@cache
def _known_elements(resource_type: str) -> frozenset[str]:
    """Elements of the resource in either version: an unknown name could be anything, even a person's."""
    models = (_model(resource_type, r5=r5) for r5 in (False, True))
    return frozenset(field.alias or name for model in models for name, field in model.model_fields.items())


def _path(resource_type: str, location: tuple[int | str, ...], kind: str) -> str:
    # "root" is pydantic's own, for a value that is no object at all.
    parts = [resource_type, *(part for part in location if isinstance(part, str) and part != "root")]
    if kind == "extra_forbidden" and not (len(parts) == 2 and parts[1] in _known_elements(resource_type)):  # noqa: PLR2004 - the resource and its element
        parts[-1] = "?"
    # Items within items are the same place, however deep.
    told = [part for place, part in enumerate(parts) if part not in parts[max(0, place - 2) : place]]
    return ".".join(told[:_DEEPEST])
