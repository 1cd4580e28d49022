"""Whose facts are whose once patients are merged, whatever their resources say of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.domain.facts import Fact, FactKey, OrderKey, PatientKey, PatientReading
from service.domain.merges import by_survivor, survivors
from tests.history import encounter

if TYPE_CHECKING:
    from collections.abc import Mapping

A, B, C, D = (PatientKey("main", name) for name in "abcd")


def says(patient: PatientKey, *, replaced_by: str = "", replaces: str = "") -> Fact:
    """A Patient that names others, each by one letter."""
    key = FactKey(patient.source, "Patient", patient.patient_id)
    return Fact(
        key,
        OrderKey(1, 1, deleted=False, digest=""),
        patient.patient_id,
        PatientReading(tuple(replaced_by), tuple(replaces)),
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({A: [], B: []}, {A: A, B: B}),
        ({A: [says(A, replaced_by="b")], B: []}, {A: B, B: B}),
        ({A: [], B: [says(B, replaces="a")]}, {A: B, B: B}),
        ({A: [says(A, replaced_by="b")], B: [says(B, replaces="a")]}, {A: B, B: B}),
        ({A: [says(A, replaced_by="b")], B: [says(B, replaced_by="c")], C: []}, {A: C, B: C, C: C}),
        ({A: [], B: [says(B, replaced_by="d", replaces="a")], D: []}, {A: D, B: D, D: D}),
        # Who says itself replaced knows best; of several that contradict each other, the same one each time.
        ({A: [says(A, replaced_by="c")], B: [says(B, replaces="a")], C: []}, {A: C, B: B, C: C}),
        ({A: [says(A, replaced_by="bc")], B: [], C: []}, {A: B, B: B, C: C}),
        ({A: [], B: [says(B, replaces="a")], C: [says(C, replaces="a")]}, {A: B, B: B, C: C}),
        # A circle: nobody on it survives another, and who leads to it is with the first one met.
        ({A: [says(A, replaced_by="b")], B: [says(B, replaced_by="a")]}, {A: A, B: B}),
        ({A: [says(A, replaced_by="a")]}, {A: A}),
        (
            {A: [says(A, replaced_by="b")], B: [says(B, replaced_by="c")], C: [says(C, replaced_by="b")]},
            {A: B, B: B, C: C},
        ),
    ],
)
def test_merges_are_followed_to_their_end(
    said: Mapping[PatientKey, list[Fact]], expected: Mapping[PatientKey, PatientKey]
) -> None:
    """By what each says, alone or both; a circle ends."""
    assert expected == survivors(said)


def test_facts_count_for_the_survivor_and_keep_the_patient_that_they_were_read_with() -> None:
    """So that a merge can be taken back."""
    session = encounter("e-1", None)
    counted = by_survivor({A: [session, says(A, replaced_by="b")], B: []})
    assert ([], [session, says(A, replaced_by="b")]) == (counted[A], counted[B])
