"""The second opinion of the full FHIR models."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from service.inbound.changes import Change, Operation
from service.inbound.conformance import deviations
from service.inbound.reading import RecordReading, read_record
from service.inbound.records import Limits, Record

if TYPE_CHECKING:
    from service.inbound.records import SourceContext
    from service.inbound.relevance import Relevance

CODED = {"system": "http://snomed.info/sct", "code": "443730003"}
R4 = {"resourceType": "Encounter", "id": "e-1", "status": "finished", "class": CODED}
R5 = {"resourceType": "Encounter", "id": "e-1", "status": "completed", "class": [{"coding": [CODED]}]}


def updated(resource: dict[str, Any] | None, resource_type: str = "Encounter") -> Change:
    """Return an update with this resource."""
    return Change(resource_type, "e-1", Operation.UPDATE, resource, path=resource_type)


@pytest.mark.parametrize(("resource", "version"), [(R4, "R4"), (R4, "4.0.1"), (R4, "R4B"), (R5, "R5"), (R5, "5.0.0")])
def test_conformant_resource_has_no_deviations(resource: dict[str, Any], version: str) -> None:
    """Each against its own version."""
    assert [] == deviations(updated(resource), version)


def test_deviations_are_told_by_path_alone() -> None:
    """Sorted, each once, without indices and without a word of what was written."""
    odd = R4 | {
        "id": "secret_id",
        "type": [{"coding": [{"code": "\tsecret"}]}, {"coding": [{"code": "\tsecret"}]}],
        "actualPeriod": {"start": "2026-01-01"},
        "Jane Doe": 1,
        "period": {"Jane Doe": 1, "start": "2026-01-01T10:00"},
    }

    assert [
        "Encounter.?",
        "Encounter.actualPeriod",
        "Encounter.id",
        "Encounter.period.?",
        "Encounter.period.start",
        "Encounter.type.coding.code",
    ] == deviations(updated(odd), "R4")


def test_r5_shape_deviates_from_r4() -> None:
    """Which is how an operator finds out what a feed really is."""
    assert ["Encounter.class"] == deviations(updated(R5), "R4")


@pytest.mark.parametrize(
    "change",
    [
        updated(R4 | {"contained": [{"resourceType": "NoSuchThing"}]}),
        updated({"resourceType": "NoSuchThing"}, "NoSuchThing"),
        updated(R4 | {"extension": "x"}),
        updated({}),
    ],
)
def test_second_opinion_never_raises(change: Change) -> None:
    """The full models raise all sorts of things on foreign data."""
    assert deviations(change, "R4")


def test_change_without_resource_deviates_from_nothing() -> None:
    """A delete can't be wrong."""
    assert [] == deviations(updated(None), "R4")


def test_nesting_makes_no_more_paths() -> None:
    """However deep a sender nests items, the place is the same."""
    response: dict[str, Any] = {"linkId": "x", "answer": [{"valueInteger": "secret"}]}
    for _ in range(20):
        response = {"linkId": "x", "item": [response]}
    response = {"resourceType": "QuestionnaireResponse", "status": "completed", "item": [response]}

    assert ["QuestionnaireResponse.item.answer.valueInteger"] == deviations(
        updated(response, "QuestionnaireResponse"), "R4"
    )


def enforced(resources: list[dict[str, Any]], source: SourceContext, relevance: Relevance) -> RecordReading:
    """Return what is read of a Bundle of these where what deviates is parked."""
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources]}
    record = Record("fhir", 0, 0, datetime(2026, 3, 2, tzinfo=UTC), None, orjson.dumps(bundle))
    return read_record(record, replace(source, enforces=True), relevance, Limits())


def test_where_it_is_enforced_what_is_ours_and_deviates_is_parked(source: SourceContext, relevance: Relevance) -> None:
    """With the first path in its record, and all of them for the count; what is not ours is let be."""
    session = R4 | {"type": [{"coding": [CODED]}], "subject": {"reference": "Patient/p"}}
    odd = session | {"id": "e_2", "period": {"start": "2026-03-02T10:00"}}
    reading = enforced([session, odd, R4 | {"id": "e_3"}], source, relevance)

    assert ["e-1"] == [fact.key.resource_id for fact in reading.facts]
    ((place, problem),) = reading.unreadable
    assert (1, "not-conformant", "Bundle.entry[1].resource.id") == (place, problem.code, problem.path)
    assert ("Encounter", ("Encounter.id", "Encounter.period.start")) == (problem.resource_type, problem.deviations)
    assert 1 == len(reading.irrelevant)
