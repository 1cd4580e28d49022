"""What a worker remembers of patients between batches, so that one more event does not read a whole history.

Nothing here is trusted by itself: each entry names the edition of the patient's row that it was true of,
and it counts only while the row, locked, still is of that edition. Another worker's batch, a restored
backup or a release before this one make another edition, and the patient is read anew.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.course import Phase
    from service.domain.evidence import Evidence
    from service.domain.facts import FactKey, PatientKey
    from service.store.values import Edition

MOST_FACTS = 16_000
"""Facts remembered over all patients: about 0.9 KB each, so some 14 MB at the most. A patient counts as one more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A course as it is stored, as far as the next revision needs it."""

    revision: str
    findings: frozenset[str]
    """Ids of its findings that are not closed."""
    phase: Phase


@dataclass(frozen=True, slots=True)
class Known:
    """All of a patient's evidence, by fact, and the patient's courses, by id: none of them gone."""

    edition: Edition
    evidence: Mapping[FactKey, tuple[Evidence, ...]]
    courses: Mapping[str, Standing]


class Remembered:
    """The patients met last, up to a number of facts."""

    def __init__(self, most_facts: int = MOST_FACTS) -> None:
        self._most_facts = most_facts
        self._facts = 0
        self._patients: OrderedDict[PatientKey, Known] = OrderedDict()

    def recall(self, patient: PatientKey, edition: Edition) -> Known | None:
        """Return what is remembered of a patient whose row is of this edition; None if nothing that still holds."""
        known = self._patients.get(patient)
        return known if known is not None and known.edition == edition else None

    def keep(self, patient: PatientKey, known: Known) -> None:
        """Remember a patient as of a committed transaction, and forget those not met for longest."""
        self.forget(patient)
        self._patients[patient] = known
        self._facts += _size(known)
        while self._facts > self._most_facts:
            _, forgotten = self._patients.popitem(last=False)
            self._facts -= _size(forgotten)

    def forget(self, patient: PatientKey) -> None:
        """Remember nothing of a patient."""
        known = self._patients.pop(patient, None)
        if known is not None:
            self._facts -= _size(known)


def _size(known: Known) -> int:
    return 1 + len(known.evidence)
