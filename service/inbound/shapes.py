"""The elements that the service reads of each resource, under FHIR's own names, R4's and R5's together.

An element that is not declared here can't fail a record. None stands for absent, as does JSON's null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from service.inbound.records import Reason, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")
_S = TypeVar("_S", bound="_Shape")


def _listed(value: object) -> object:
    return value if value is None or isinstance(value, list) else [value]


Many = tuple[_T, ...] | None
OneOrMany = Annotated[tuple[_T, ...] | None, BeforeValidator(_listed)]
"""One in R4 and a list in R5, or the reverse."""
Reference = dict[str, Any]
"""Read by `references.target`, which knows its shapes."""


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, str_strip_whitespace=True, coerce_numbers_to_str=True)


class Concept(_Shape):
    """A Coding, a CodeableConcept or a CodeableReference: told apart by what it holds."""

    system: str | None = None
    code: str | None = None
    coding: Many[Concept] = None
    concept: Concept | None = None
    reference: Any = None


class Meta(_Shape):
    """What a resource says of itself; its time and version are read in `order`."""

    security: Many[Concept] = None


class Period(_Shape):
    """Times are read by `times.parse_time`."""

    start: Any = None
    end: Any = None


class Participant(_Shape):
    """R4's `individual`, R5's `actor`."""

    individual: Reference | None = None
    actor: Reference | None = None


class Diagnosis(_Shape):
    """In R4 a Reference, in R5 a list of CodeableReferences."""

    condition: OneOrMany[Reference] = None


class EncounterReason(Concept):
    """R5's `reason` with its `value`; STU3's `reason` was a CodeableConcept."""

    value: Many[Concept] = None


class Location(_Shape):
    """Where an encounter was."""

    location: Reference | None = None


class Encounter(_Shape):
    """An Encounter of R4, R4B or R5."""

    meta: Meta | None = None
    status: str | None = None
    class_: OneOrMany[Concept] = Field(None, alias="class")
    type: Many[Concept] = None
    service_type: OneOrMany[Concept] = None
    period: Period | None = None
    actual_period: Period | None = None
    planned_start_date: Any = None
    planned_end_date: Any = None
    participant: Many[Participant] = None
    episode_of_care: Many[Reference] = None
    based_on: Many[Reference] = None
    part_of: Reference | None = None
    reason_code: Many[Concept] = None
    reason_reference: Many[Reference] = None
    reason: Many[EncounterReason] = None
    diagnosis: Many[Diagnosis] = None
    location: Many[Location] = None


class Extension(_Shape):
    """An extension that may hold a number."""

    url: str | None = None
    value_decimal: Any = None
    value_integer: Any = None


class AnswerCoding(_Shape):
    """A coded answer, which may carry its own score."""

    system: str | None = None
    code: str | None = None
    extension: Many[Extension] = None


class AidboxValue(_Shape):
    """Aidbox's own format of an answer: `value.Coding` in place of `valueCoding`."""

    value_coding: AnswerCoding | None = Field(None, alias="Coding")
    value_integer: Any = Field(None, alias="integer")
    value_decimal: Any = Field(None, alias="decimal")
    value_quantity: Any = Field(None, alias="Quantity")
    value_string: Any = Field(None, alias="string")
    value_boolean: Any = Field(None, alias="boolean")


class Answer(_Shape):
    """An answer and the items nested under it. Its numbers are read where they are taken."""

    value_coding: AnswerCoding | None = None
    value_integer: Any = None
    value_decimal: Any = None
    value_quantity: Any = None
    value_string: Any = None
    value_boolean: Any = None
    value: AidboxValue | None = None
    extension: Many[Extension] = None
    item: Many[Item] = None


class Item(_Shape):
    """An item: a question with its answers, or a group."""

    link_id: str | None = None
    code: OneOrMany[Concept] = None
    """No element of FHIR's QuestionnaireResponse; some senders write it."""
    answer: Many[Answer] = None
    item: Many[Item] = None


class QuestionnaireResponse(_Shape):
    """A QuestionnaireResponse of R4, R4B or R5."""

    meta: Meta | None = None
    status: str | None = None
    questionnaire: str | None = None
    authored: Any = None
    encounter: Reference | None = None
    author: Reference | None = None
    item: Many[Item] = None


def fit(shape: type[_S], resource: Mapping[str, Any], path: str) -> _S:
    """Return the elements that are read of a resource.

    Raises Unreadable (wrong-type) with the path of the first element whose JSON type is not FHIR's.
    """
    try:
        return shape.model_validate(resource)
    except ValidationError as problem:
        where = problem.errors(include_input=False, include_context=False, include_url=False)[0]["loc"]
        raise Unreadable(Reason.WRONG_TYPE, path + element_path(where)) from None


def element_path(location: tuple[int | str, ...]) -> str:
    """Return pydantic's location as FHIRPath writes it: `.item[3].answer[0].valueCoding`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
