"""What a worker remembers of patients between batches, and when it counts."""

from __future__ import annotations

from service.domain.facts import FactKey, PatientKey
from service.remembered import Known, Remembered
from service.store.values import Edition

ANNA, BEN, CLARA = (PatientKey("main", name) for name in ("anna", "ben", "clara"))
FIRST, SECOND = Edition(1, 1_000), Edition(2, 2_000)


def known(edition: Edition = FIRST, *, facts: int = 1) -> Known:
    """Return what is known of a patient with so many facts."""
    return Known(edition, {FactKey("main", "Encounter", str(number)): () for number in range(facts)}, {})


def test_patient_is_recalled_in_the_very_edition_only() -> None:
    """One more version, another instant of projection, or a projection put off: the patient is read anew."""
    remembered = Remembered()
    remembered.keep(ANNA, known(SECOND))
    others = [FIRST, Edition(3, 2_000), Edition(2, 2_001), Edition(2, None)]
    assert known(SECOND) == remembered.recall(ANNA, SECOND)
    assert [None] * len(others) == [remembered.recall(ANNA, edition) for edition in others]


def test_nothing_is_recalled_of_a_patient_never_met() -> None:
    """Nor of the one of another source with the same id."""
    remembered = Remembered()
    remembered.keep(ANNA, known())
    assert None is remembered.recall(BEN, FIRST)
    assert None is remembered.recall(PatientKey("other", "anna"), FIRST)


def test_patient_not_met_for_longest_is_forgotten_first() -> None:
    """Meeting a patient again makes it one of the last to go."""
    remembered = Remembered(most_facts=8)
    remembered.keep(ANNA, known(facts=3))
    remembered.keep(BEN, known(facts=3))
    remembered.keep(ANNA, known(SECOND, facts=3))
    remembered.keep(CLARA, known(facts=3))
    assert None is remembered.recall(BEN, FIRST)
    assert known(SECOND, facts=3) == remembered.recall(ANNA, SECOND)
    assert known(facts=3) == remembered.recall(CLARA, FIRST)


def test_patient_remembered_again_and_again_takes_the_room_of_one() -> None:
    """What is replaced counts no more: the other patient is not forgotten for it."""
    remembered = Remembered(most_facts=10)
    remembered.keep(BEN, known(facts=4))
    for version in range(50):
        remembered.keep(ANNA, known(Edition(version, 1), facts=4))
    assert known(facts=4) == remembered.recall(BEN, FIRST)


def test_patient_forgotten_makes_room() -> None:
    """And forgetting somebody unknown changes nothing."""
    remembered = Remembered(most_facts=12)
    for _ in range(50):
        remembered.keep(ANNA, known(facts=4))
        remembered.forget(ANNA)
        remembered.forget(CLARA)
    remembered.keep(BEN, known(facts=9))
    remembered.keep(ANNA, known(facts=1))
    assert known(facts=9) == remembered.recall(BEN, FIRST)
    assert known() == remembered.recall(ANNA, FIRST)


def test_patient_too_large_to_be_remembered_is_not() -> None:
    """One with more facts than there is room for is read anew each time."""
    remembered = Remembered(most_facts=3)
    remembered.keep(ANNA, known(facts=4))
    assert None is remembered.recall(ANNA, FIRST)


def test_patients_without_evidence_are_forgotten_too() -> None:
    """A patient whose facts mean nothing takes room as well: there may be any number of them."""
    remembered = Remembered(most_facts=3)
    patients = [PatientKey("main", str(number)) for number in range(10)]
    for patient in patients:
        remembered.keep(patient, known(facts=0))
    assert None is remembered.recall(patients[0], FIRST)
    assert known(facts=0) == remembered.recall(patients[-1], FIRST)
