"""What the compiled schema says yes to, the full model says yes to: our plans, with anything wrong in them."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.careplan import CarePlan
from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.narrative import Narrative
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.domain.facts import Code
from service.domain.mapping_files import parse
from service.outbound.careplan import render, retract, withheld
from service.outbound.unchangeable import UnchangeableDict, UnchangeableList
from service.outbound.validity import shared, surely_valid
from tests import courses
from tests.conftest import MAPPINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fhir_core.fhirabstractmodel import FHIRAbstractModel

    from service.outbound.elements import Element

LABELS = (Code("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "R"), Code("", "X"))
KINDS = (
    "CarePlan",
    "Goal",
    "Extension",
    "Reference",
    "Identifier",
    "Coding",
    "Period",
    "Annotation",
    "Meta",
    "Quantity",
    "Task",
    "TaskRestriction",
    "Flag",
    "Provenance",
    "ProvenanceAgent",
    "ProvenanceEntity",
)
NAMES = sorted(
    {field.alias or name for kind in KINDS for name, field in get_fhir_model_class(kind).model_fields.items()}
    | {"resourceType", "resource_type", "status__ext", "self", "unknown"}
)
ODD: list[Any] = [
    *("", " ", "\n", " x", "x ", "a b", "a  b", "\x00", "\ud800", "ä", "x" * 64, "x" * 65, "x" * 256, "true", "1", "0"),
    *("2026", "2026-13", "2026-02-30", "0000-01-01", "2026-01-06T09:00", "2026-01-06T09:00:00", "2026-1-6"),
    *("2026-01-06T09:00:00Z", "2026-01-06T24:00:00Z", "2026-12-31T23:59:60Z", "2026-01-06T09:00:00.5+14:00"),
    *("CarePlan", "Goal", "Patient/p-1", "http://a", "urn:uuid:x", "YQ==", "<div/>"),
    *(None, True, False, 0, 1, -1, 2**31 - 1, 2**31, 10**30, 1.0, 1.5, float("nan"), float("inf")),
    *([], [None], [""], [[]], [{}], {}, {"id": "x"}, {"extension": []}, {"extension": [{}]}, {"reference": None}),
    *((), ("x",), b"x", date(2026, 1, 6), datetime(2026, 1, 6, tzinfo=UTC), datetime(2026, 1, 6)),  # noqa: DTZ001 - a time without zone is odd
]


def _resources() -> list[Element]:
    """Return the resources of plans in every state, with and without security labels, and of one that was withdrawn."""
    mappings = parse(
        {path.relative_to(MAPPINGS).as_posix(): path.read_bytes() for path in MAPPINGS.rglob("*") if path.is_file()}
    )
    labelled = [replace(course, labels=LABELS) for course in courses.states().values()]
    plans = [
        *(render(course, mappings) for course in labelled),
        *(retract(course, mappings) for course in labelled),
        withheld(labelled[0], mappings),
        *(render(course, mappings) for course in courses.states().values()),
    ]
    return [resource for plan in plans for _, resource in plan.resources]


RESOURCES = _resources()


def valid(model: type[FHIRAbstractModel], resource: Element) -> bool:
    """Return what the full model says."""
    try:
        model.model_validate(resource)
    except Exception:  # noqa: BLE001 - beside ValidationError the models raise KeyError, AttributeError and more
        return False
    return True


def model_of(resource: Element) -> type[FHIRAbstractModel]:
    """Return the model of a resource's type."""
    model: type[FHIRAbstractModel] = get_fhir_model_class(resource["resourceType"])
    return model


def parts(value: Any) -> Iterator[Any]:  # noqa: ANN401 - any JSON value
    """Yield every object and list in a value, the outermost first."""
    if isinstance(value, (dict, list)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from parts(inner)


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[type[FHIRAbstractModel], Element]:
    """Draw a resource of a plan to which up to three things were done, and the model that it was valid by."""
    whole = _one(draw, RESOURCES)
    resource = copy.deepcopy(whole)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        _spoil(draw, _one(draw, list(parts(resource))), list(parts(_one(draw, RESOURCES))))
    return model_of(whole), resource


def _one(draw: st.DrawFn, those: list[Any]) -> Any:  # noqa: ANN401 - any JSON value
    # By its place: what is sampled from is written down, and these are whole plans.
    return those[draw(st.sampled_from(range(len(those))))]


def _value(draw: st.DrawFn, others: list[Any]) -> Any:  # noqa: ANN401 - any JSON value, and some that JSON has not
    if draw(st.booleans()):
        return copy.deepcopy(_one(draw, ODD))
    return copy.deepcopy(_one(draw, others)) if draw(st.booleans()) else draw(st.text(max_size=5) | st.integers())


def _spoil(draw: st.DrawFn, part: Any, others: list[Any]) -> None:  # noqa: ANN401 - an object or a list
    places = list(part) if isinstance(part, dict) else list(range(len(part)))
    if isinstance(part, dict) and (not part or draw(st.booleans())):
        _spoil_names(draw, part, others)
    elif not places:
        part.append(_value(draw, others))
    else:
        place = draw(st.sampled_from(places))
        what = draw(st.sampled_from(["drop", "empty", "replace", "wrap", "nest"]))
        if what == "drop":
            del part[place]
        elif what == "nest":
            for _ in range(draw(st.integers(1, 20))):
                part[place] = {"url": "x", "extension": [part[place]]}
        else:
            part[place] = {"empty": None, "wrap": [part[place]]}.get(what, _value(draw, others))


def _spoil_names(draw: st.DrawFn, part: Element, others: list[Any]) -> None:
    akin = [other for other in others if isinstance(other, dict) and part.keys() & other.keys()]
    what = draw(st.sampled_from(["add", "borrow", "rename"]))
    if what == "borrow" and akin:
        # What is right elsewhere, such as a second value of an Extension.
        part |= copy.deepcopy(dict([_one(draw, list(_one(draw, akin).items()))]))
    elif what == "rename" and part:
        name = draw(st.sampled_from(list(part)))
        part[draw(st.sampled_from([*NAMES, f"_{name}", f"{name}__ext"]))] = part.pop(name)
    else:
        part[draw(st.sampled_from(NAMES))] = _value(draw, others)


def test_every_resource_of_a_plan_is_taken_without_its_model() -> None:
    """Else rendering would be as slow as the models are, and nothing else would tell."""
    assert {"CarePlan", "Goal", "Task", "Flag", "Provenance"} == {each["resourceType"] for each in RESOURCES}
    assert [] == [resource for resource in RESOURCES if not surely_valid(model_of(resource), resource)]


def test_what_plans_share_is_valid_by_itself() -> None:
    """It was looked at when it was made, and no more since."""
    found = [part for resource in RESOURCES for part in parts(resource) if type(part).__name__.startswith("Proven")]
    kinds = {type(part).__name__.removeprefix("Proven") for part in found}
    assert {"CodeableConcept", "Extension", "Meta", "Narrative"} == kinds
    for part in found:
        model: type[FHIRAbstractModel] = get_fhir_model_class(type(part).__name__.removeprefix("Proven"))
        assert valid(model, copy.deepcopy(part))


@pytest.mark.parametrize("resource", RESOURCES, ids=range(len(RESOURCES)))
def test_nothing_that_plans_share_can_be_changed(resource: Element) -> None:
    """Nor anything in it: what was found valid stays so, and one plan changes no other."""
    for part in parts(resource):
        if isinstance(part, UnchangeableDict):
            for inner in parts(part):
                assert isinstance(inner, (UnchangeableDict, UnchangeableList))
                with pytest.raises(TypeError):
                    inner[0] = "changed"
                with pytest.raises(TypeError):
                    inner.pop()


def test_an_invalid_element_is_no_more_valid_for_being_shared() -> None:
    """Each plan that has it is told so by the model."""
    concept = shared(CodeableConcept, {"coding": [{"code": " x"}]})
    task = next(whole for whole in RESOURCES if whole["resourceType"] == "Task") | {"code": concept}
    assert not surely_valid(model_of(task), task)
    assert not valid(model_of(task), task)


def test_a_shared_element_counts_as_what_it_is_alone() -> None:
    """A valid Narrative is no concept."""
    task = next(whole for whole in RESOURCES if whole["resourceType"] == "Task")
    narrative = shared(Narrative, {"status": "generated", "div": "<div/>"})
    assert not surely_valid(model_of(task), task | {"code": narrative})


def test_a_copy_of_what_is_shared_is_plain() -> None:
    """So that destinations can add to what they were given."""
    concept = shared(CodeableConcept, {"coding": [{"code": "x"}]})
    for made in (copy.deepcopy(concept), concept | {}, {**concept}):
        assert dict is type(made)
        assert concept == made
    assert list is type(copy.deepcopy(concept)["coding"])


@settings(max_examples=1000, deadline=None)
@given(spoilt())
def test_whatever_is_taken_without_its_model_is_valid(drawn: tuple[type[FHIRAbstractModel], Element]) -> None:
    """The other way round nothing is claimed: the model is asked then."""
    model, resource = drawn
    taken, truth = surely_valid(model, resource), valid(model, resource)
    event(f"taken {taken}, valid {truth}")
    assert truth or not taken


@given(st.from_regex(r"\A(19|20)\d\d-[01]\d-[0-3]\d(T[0-2]\d:[0-6]\d:[0-6]\d(Z|[+-][01]\d:[0-6]\d)?)?\Z"))
def test_a_time_that_is_taken_without_its_model_is_valid(time: str) -> None:
    """As dateTime and as date, times that are none among them."""
    resource = next(whole for whole in RESOURCES if whole["resourceType"] == "CarePlan")
    for spoiling in ({"created": time}, {"extension": [{"url": "x", "valueDate": time}]}):
        changed = resource | spoiling
        assert valid(CarePlan, changed) or not surely_valid(CarePlan, changed)
