"""Who is the only patient that a search has found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from service.inbound.changes import Change, Operation
from service.inbound.fetched import MOST_FOUND, about
from service.inbound.records import Limits, Reason, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

CHANGE = Change("Encounter", "e-1", Operation.UPDATE, {"resourceType": "Encounter"}, "Encounter")


def patient(name: str, *kinds: str) -> dict[str, Any]:
    """Return a Patient with links of these types."""
    links = [{"type": kind, "other": {"reference": "Patient/other"}} for kind in kinds]
    return {"resourceType": "Patient", "id": name, "link": links}


def found(patients: Iterable[dict[str, Any]], *relations: str) -> Change | Unreadable:
    """Return what the change is about after a search that found these, on a page with links."""
    entries = [{"resource": each} for each in patients]
    links = [{"relation": each, "url": "https://ehr.example/fhir/Patient"} for each in relations]
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries, "link": links}
    return about(CHANGE, orjson.dumps(bundle), Limits())


@pytest.mark.parametrize(
    "patients",
    [
        [patient("p-1")],
        [patient("p-0", "replaced-by"), patient("p-1", "replaces", "seealso")],
        [patient("p-1"), patient("p-0", "replaced-by"), patient("p-00", "refer", "replaced-by")],
        [patient("p-1", "replaced-by")],
    ],
)
def test_the_one_who_was_not_replaced_is_the_patient(patients: list[dict[str, Any]]) -> None:
    """Or who was, where nobody else is found: what is merged is followed from there."""
    change = found(patients, "self")
    assert isinstance(change, Change)
    assert {"reference": "Patient/p-1"} == (change.resource or {})["subject"]


@pytest.mark.parametrize(
    ("patients", "relations"),
    [
        ([patient("p-1"), patient("p-2")], []),
        ([patient("p-1", "replaced-by"), patient("p-2", "replaced-by")], []),
        ([patient("p-1")], ["next"]),
        ([], ["next"]),
        ([patient("p-1"), *(patient(f"q-{number}", "replaced-by") for number in range(MOST_FOUND))], []),
    ],
)
def test_nobody_is_guessed(patients: list[dict[str, Any]], relations: list[str]) -> None:
    """Two who are current, none who is, or more than one page shows."""
    problem = found(patients, *relations)
    assert isinstance(problem, Unreadable)
    assert Reason.SUBJECT_AMBIGUOUS is problem.reason
