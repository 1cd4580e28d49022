"""Merges of patients: whose facts are whose, from what the Patient resources say of each other. Pure.

A fact keeps the patient that it was read with; a merge is a fact about patients. So it makes no difference which of
the two comes first, and a newer version of a Patient takes a merge back by no longer saying it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.facts import PatientReading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.domain.facts import Fact, PatientKey


def survivors(facts: Mapping[PatientKey, Iterable[Fact]]) -> dict[PatientKey, PatientKey]:
    """Return, for each of these patients of one source, the patient whom the facts of that one count for.

    Most often the same. Who says itself replaced is; of others, those whom another one says to replace. Merges are
    followed to their end. Where they go round in a circle, nobody on it survives another: each stays.
    """
    own: dict[str, tuple[str, ...]] = {}
    others: dict[str, list[str]] = {}
    for patient, known in facts.items():
        for fact in known:
            if isinstance(fact.reading, PatientReading):
                own[patient.patient_id] = fact.reading.replaced_by
                for replaced in fact.reading.replaces:
                    others.setdefault(replaced, []).append(patient.patient_id)
    # Of several that are named, which contradict each other, the same one each time.
    after = {replaced: min(by) for replaced, by in others.items()}
    after |= {replaced: min(by) for replaced, by in own.items() if by}
    return {patient: patient._replace(patient_id=_last(patient.patient_id, after)) for patient in facts}


def _last(patient_id: str, after: Mapping[str, str]) -> str:
    met = {patient_id}
    while (following := after.get(patient_id)) is not None:
        if following in met:
            return following
        met.add(following)
        patient_id = following
    return patient_id


def by_survivor(facts: Mapping[PatientKey, Iterable[Fact]]) -> dict[PatientKey, list[Fact]]:
    """Return the facts of a group of patients as they count: with the survivor, and none for who is replaced."""
    found: dict[PatientKey, list[Fact]] = {patient: [] for patient in facts}
    for patient, survivor in survivors(facts).items():
        found.setdefault(survivor, []).extend(facts[patient])
    return found
