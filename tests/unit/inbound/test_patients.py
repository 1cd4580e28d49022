"""What is read of a Patient: whom it was merged with, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.domain.facts import PatientReading

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.inbound.reading import RecordReading


def patient(*links: tuple[str, str], **elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """A Patient with links, each of a type to a reference, and a name that is nobody's."""
    link = [{"type": kind, "other": {"reference": reference}} for kind, reference in links]
    named = {"resourceType": "Patient", "id": "p-1", "name": [{"family": "Roe"}], "birthDate": "1980-01-01"}
    return named | ({"link": link} if link else {}) | elements


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([("replaced-by", "Patient/p-2")], PatientReading(("p-2",), ())),
        ([("replaces", "Patient/p-3"), ("replaces", "Patient/p-2")], PatientReading((), ("p-2", "p-3"))),
        ([("replaced-by", "Patient/p-2"), ("seealso", "Patient/p-4")], PatientReading(("p-2",), ())),
        ([("replaced-by", "Patient/p-2/_history/7")], PatientReading(("p-2",), ())),
        ([("replaced-by", "Patient/p-1"), ("replaces", "Patient/p-2")], PatientReading((), ("p-2",))),
    ],
)
def test_links_of_a_merge_are_read(
    links: list[tuple[str, str]], expected: PatientReading, read_value: Callable[..., RecordReading]
) -> None:
    """In both directions; itself and other kinds of links are left out."""
    (fact,) = read_value(patient(*links)).facts
    assert (expected, "p-1") == (fact.reading, fact.patient_id)
    assert "Roe" not in repr(fact)


@pytest.mark.parametrize("links", [[], [("seealso", "Patient/p-2")], [("refer", "Patient/p-2")]])
def test_patient_who_was_not_merged_is_not_ours(
    links: list[tuple[str, str]], read_value: Callable[..., RecordReading]
) -> None:
    """But may take back a merge that was said before."""
    reading = read_value(patient(*links))
    assert ([], ["p-1"]) == (reading.facts, [each.key.resource_id for each in reading.irrelevant])


@pytest.mark.parametrize(
    "link", [{"type": "replaced-by"}, {"type": "replaces", "other": {"identifier": {"value": "7"}}}]
)
def test_merge_with_nobody_who_can_be_told_is_parked(
    link: dict[str, Any], read_value: Callable[..., RecordReading]
) -> None:
    """Whose facts move is never guessed."""
    ((_, problem),) = read_value(patient(link=[link])).unreadable
    assert ("unresolved-link", "Patient.link") == (problem.code, problem.path)


def test_patient_who_is_only_named_is_passed_over_without_a_server_to_ask(
    read_value: Callable[..., RecordReading],
) -> None:
    """Most were never merged: nobody has to look at all of them."""
    reading = read_value({"operationType": "update", "location": "Patient/p-1/_history/2"})
    assert (["Patient"], []) == (reading.skipped, reading.unreadable)
