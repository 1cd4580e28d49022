"""Whether a resource of ours is surely valid FHIR, asked of compiled code before the full model is.

The models of `fhir.resources` check each object in Python. Of the 3.5 ms that the plan of a course with eight
facts took to render (a CarePlan and three Goals, 130 objects, 14 KB), 2.9 ms were theirs. Here the same fields
are compiled into one schema that needs next to no Python: 0.17 ms. Measured as CPU time, with fhir.resources 8.3
and pydantic 2.14.

The schema takes less than the model, never more, for it is made from the model's own fields: each value is
checked by its field's own type (but for plain dates, see below), required elements are required, and of a choice
(`value[x]`) there may be one. It passes nothing that it does not know: elements that no plan of ours has, nulls,
extensions of primitives (`_status`), contained resources, objects that are not plain JSON. So its yes is the
model's yes. Its no says nothing: then the model itself must judge. (The one exception is of no use to anybody: the
model gives up with a RecursionError on some hundred Extensions inside each other, the schema later.)

Many objects of a plan are the same in others: a concept, an extension with a small number. Such an element is made
once, found valid once, and marked by its class as what can't be changed since (`shared`); it is not looked at again.

`tests/property/test_validity.py` holds it to that, on plans with anything wrong in them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, get_args

from fhir_core.fhirabstractmodel import FHIRAbstractModel
from fhir_core.types import DateTimeType, DateType, FhirBase, FhirElementOrResourceBase
from fhir_core.utils import is_list_type, is_primitive_type
from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, core_schema

from service.outbound.unchangeable import UnchangeableDict, proven, unchangeable

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import CoreSchema

    from service.outbound.elements import Element

# The elements that plans are made of. One that is missing here costs time and nothing else; each one here
# costs a look-up in every object that could have it (an Extension could have fifty values).
_WRITTEN = frozenset(
    """
    id meta source security tag text status div extension url identifier system value
    valueBoolean valueCodeableConcept valueDate valuePositiveInt valueReference valueString valueUnsignedInt
    coding code display reference period start end
    intent category title description subject created contributor addresses goal activity
    detail outcomeReference progress kind statusReason scheduledPeriod authorString time
    lifecycleStatus achievementStatus expressedBy startDate statusDate target measure detailQuantity dueDate
    comparator unit replaces
    basedOn priority code focus for authoredOn reasonCode owner performerType restriction
    recorded policy agent type who entity role what
    """.split()  # noqa: SIM905 - quoted, the names would take a line each
)
# The types of dates check in Python too. These dates need no closer look: every year has them.
_DAY = "(19|20)[0-9][0-9]-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
_PLAIN: dict[object, CoreSchema] = {
    DateType: core_schema.str_schema(strict=True, pattern=f"^{_DAY}$"),
    DateTimeType: core_schema.str_schema(strict=True, pattern=f"^{_DAY}(T{_TIME})?$"),
}
# The types that elements are shared of. Each costs a question wherever such an element can stand.
_SHARED = frozenset({"CodeableConcept", "Extension", "Meta", "Narrative"})


class _Nothing:
    """Has no instances: a schema that asks for one leaves the value to the model."""


_LEFT_TO_THE_MODEL = core_schema.is_instance_schema(_Nothing)


def surely_valid(model: type[FHIRAbstractModel], resource: Element) -> bool:
    """Return True only for what `model` accepts; after False the model must be asked."""
    return _compiled(model).isinstance_python(resource)


def shared(model: type[FHIRAbstractModel], element: Element) -> Element:
    """Return an element that plans may share: it can't be changed, and if it is valid it is not looked into again."""
    valid = surely_valid(model, element)
    made: Element = unchangeable(element, proven(model.__name__) if valid else UnchangeableDict)
    return made


@cache
def _compiled(model: type[FHIRAbstractModel]) -> SchemaValidator:
    reached: dict[str, CoreSchema] = {}
    resource = _reference(model, reached)
    return SchemaValidator(core_schema.definitions_schema(resource, list(reached.values())))


def _reference(model: type[FHIRAbstractModel], reached: dict[str, CoreSchema]) -> CoreSchema:
    """Return a reference to a model's schema; that schema and all that it refers to are in `reached` by name."""
    name = f"{model.__module__}.{model.__name__}"
    if name not in reached:
        reached[name] = _LEFT_TO_THE_MODEL  # holds the place: an Extension may hold Extensions
        schema = _object(model, reached)
        if model.__name__ in _SHARED:
            found = core_schema.is_instance_schema(proven(model.__name__))
            schema = core_schema.union_schema([found, schema], mode="left_to_right")
        reached[name] = {**schema, "ref": name}
    return core_schema.definition_reference_schema(name)


def _object(model: type[FHIRAbstractModel], reached: dict[str, CoreSchema]) -> CoreSchema:
    choices = _choices(model)
    if _has_rules_of_its_own(model) or any(map(_is_required, choices)):
        return _LEFT_TO_THE_MODEL
    needed = {element for element, _ in model.model_construct().get_required_fields()}
    elements: dict[str, core_schema.TypedDictField] = {}
    if model.has_resource_base():
        kind = core_schema.literal_schema([model.get_resource_type()])
        elements["resourceType"] = core_schema.typed_dict_field(kind, required=True)
    for field_name, field in model.model_fields.items():
        element = field.alias or field_name
        required = element in needed or field.is_required()
        if required or element in _WRITTEN:
            elements[element] = core_schema.typed_dict_field(_value(field, reached), required=required)
    # Strict here means: a dict and nothing like it. What the values may be stays with their own types.
    schema = core_schema.typed_dict_schema(elements, strict=True, extra_behavior="forbid")
    if not any(map(_is_written_in_several_types, choices)):
        return schema
    # With one element beside the required ones there is at most one of a choice, and no Python to count them.
    return core_schema.chain_schema([core_schema.dict_schema(max_length=len(needed) + 1, strict=True), schema])


def _value(field: FieldInfo, reached: dict[str, CoreSchema]) -> CoreSchema:
    if is_primitive_type(field):
        if field.metadata or field.annotation is None:
            return _LEFT_TO_THE_MODEL
        schema = TypeAdapter(field.annotation).core_schema
        # A null is left to the model: it can stand where a value is required.
        schema = schema["schema"] if schema["type"] == "nullable" else schema
        plain = _PLAIN.get(next(iter(get_args(field.annotation)), None))
        return schema if plain is None else core_schema.union_schema([plain, schema], mode="left_to_right")
    kind = _fhir_type(field.annotation)
    if kind is None or issubclass(kind, FhirElementOrResourceBase):
        return _LEFT_TO_THE_MODEL
    schema = _reference(kind.get_model_klass(), reached)
    return core_schema.list_schema(schema, strict=True) if is_list_type(field) else schema


def _fhir_type(annotation: object) -> type[FhirBase] | None:
    """Return the type of the objects that an annotation is about, in whatever it is wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, FhirBase):
        return annotation
    return next(filter(None, map(_fhir_type, get_args(annotation))), None)


def _choices(model: type[FHIRAbstractModel]) -> list[list[FieldInfo]]:
    """Return the fields of each element `value[x]` of a model: of each there may be one."""
    groups = model.model_construct().get_one_of_many_fields().values()
    return [[model.model_fields[name] for name in names] for names in groups]


def _is_written_in_several_types(choice: list[FieldInfo]) -> bool:
    return len([field for field in choice if field.alias in _WRITTEN]) > 1


def _is_required(choice: list[FieldInfo]) -> bool:
    told = choice[0].json_schema_extra
    return isinstance(told, dict) and told.get("one_of_many_required") is True


def _has_rules_of_its_own(model: type[FHIRAbstractModel]) -> bool:
    """Whether a model checks more than all models do, by a validator that no schema here knows of."""
    own, common = model.__pydantic_decorators__, FHIRAbstractModel.__pydantic_decorators__
    return own.model_validators.keys() != common.model_validators.keys() or bool(own.field_validators)
