"""From changed facts to written courses, for the patients of one transaction.

What the worker remembers of a patient spares it reading the history again (`remembered`); where it
remembers nothing that still holds, facts and courses are read from the store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from service.decisions import decide, decide_together, revise
from service.domain.evidence import interpret
from service.domain.merges import by_survivor
from service.domain.projection import project as project_facts
from service.domain.projection import project_evidence
from service.remembered import Known, Remembered
from service.store.values import NOTHING_STORED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from service.decisions import Decided
    from service.domain.evidence import Evidence
    from service.domain.facts import FactKey, PatientKey
    from service.domain.mappings import Mappings
    from service.store.transaction import Transaction
    from service.store.values import Destination, Edition, PatientUpdate

AT_ONCE = 100
"""Patients whose courses are in memory at once: a few megabytes, however many a batch touches."""
BREATH = 16
"""Patients projected in one go, some 2 ms: then the database's answers get their turn."""

Changes = dict["FactKey", tuple["Evidence", ...] | None]
"""What facts mean that a transaction merged; nothing, where a fact left the patient or is none of ours.

None of those merged in an earlier transaction, while projecting was put off: the patient is read anew then, for
what is remembered of it may have been projected with them since.
"""


@dataclass(frozen=True, slots=True)
class Projected:
    """What a transaction projected; to be remembered once it is committed."""

    courses: Counter[str]
    """How many courses are others than before, by source."""
    known: Mapping[PatientKey, Known]


class Projector:
    """Projects patients in the transactions of one worker."""

    def __init__(self, mappings: Mapping[str, Mappings], destinations: Sequence[Destination]) -> None:
        """`mappings` by source."""
        self._mappings = mappings
        self._destinations = destinations
        self._remembered = Remembered()

    async def project(
        self,
        transaction: Transaction,
        editions: Mapping[PatientKey, Edition],
        changes: Mapping[PatientKey, Changes],
        as_of: datetime,
    ) -> Projected:
        """Write the courses of these patients, whom the transaction has locked in these editions.

        While the database writes some, the next ones are projected.
        """
        if any(editions[key].merged is not None for key in changes):
            return await self._project_groups(transaction, editions, changes, as_of)
        courses: Counter[str] = Counter()
        known: dict[PatientKey, Known] = {}
        for patients in _slices(sorted(changes)):
            evidence = await self._evidence(transaction, patients, editions, changes)
            decided = await self._decided(transaction, evidence, editions, changes, as_of)
            updates = [each.update for each in decided.values()]
            transaction.begin_to_write(updates, self._destinations, as_of)
            _count(courses, updates)
            for patient, each in decided.items():
                known[patient] = Known(editions[patient].after(as_of), evidence[patient], each.courses)
        return Projected(courses, known)

    async def _project_groups(
        self,
        transaction: Transaction,
        editions: Mapping[PatientKey, Edition],
        changes: Mapping[PatientKey, Changes],
        as_of: datetime,
    ) -> Projected:
        """As `project`, where some of the patients are, or were, merged with others: with everyone in their groups.

        Nothing is remembered of those: they are few.
        """
        alone = {key: each for key, each in changes.items() if editions[key].merged is None}
        projected = await self.project(transaction, editions, alone, as_of)
        courses = projected.courses.copy()
        grouped = await transaction.group(changes.keys() - alone.keys())
        for members in {tuple(each): None for _, each in sorted(grouped.items())}:
            mappings = self._mappings[members[0].source]
            facts = by_survivor(await transaction.facts_of(members))
            stored = await transaction.courses_of(members)
            merged = {key: each for member in members for key, each in changes.get(member, {}).items()}
            decided = decide_together(
                [project_facts(member, facts[member], as_of, mappings) for member in members],
                [course for member in members for course in stored[member]],
                _cause(merged),
                mappings,
            )
            updates = [each.update for each in decided]
            transaction.begin_to_write(updates, self._destinations, as_of)
            _count(courses, updates)
        return Projected(courses, projected.known)

    def remember(self, projected: Projected) -> None:
        """Remember what was projected: its transaction is committed."""
        for patient, known in projected.known.items():
            self._remembered.keep(patient, known)

    async def _evidence(
        self,
        transaction: Transaction,
        patients: Sequence[PatientKey],
        editions: Mapping[PatientKey, Edition],
        changes: Mapping[PatientKey, Changes],
    ) -> dict[PatientKey, Mapping[FactKey, tuple[Evidence, ...]]]:
        """Return what all facts of these patients mean, those just merged among them."""
        found: dict[PatientKey, Mapping[FactKey, tuple[Evidence, ...]]] = {}
        unknown = []
        for patient in patients:
            before = self._recall(patient, editions[patient], changes[patient])
            if before is None:
                unknown.append(patient)
            else:
                both = {**before.evidence, **changes[patient]}
                found[patient] = {key: evidence for key, evidence in both.items() if evidence}
        for patient, facts in (await transaction.facts_of(unknown)).items():
            mappings = self._mappings[patient.source]
            meant = ((fact.key, interpret(fact, mappings)) for fact in facts)
            found[patient] = {key: evidence for key, evidence in meant if evidence}
        return found

    async def _decided(
        self,
        transaction: Transaction,
        evidence: Mapping[PatientKey, Mapping[FactKey, tuple[Evidence, ...]]],
        editions: Mapping[PatientKey, Edition],
        changes: Mapping[PatientKey, Changes],
        as_of: datetime,
    ) -> dict[PatientKey, Decided]:
        decided: dict[PatientKey, Decided] = {}
        unclear = {}
        for place, (patient, meant) in enumerate(evidence.items()):
            if place % BREATH == 0:
                await asyncio.sleep(0)
            mappings = self._mappings[patient.source]
            projection = project_evidence(patient, chain.from_iterable(meant.values()), as_of, mappings)
            before = self._recall(patient, editions[patient], changes[patient])
            revised = None
            if before is not None:
                revised = revise(projection, before.courses, _cause(changes[patient]), mappings)
            if revised is not None:
                decided[patient] = revised
            else:
                unclear[patient] = projection
        # New patients, those not remembered, and the few whose courses became more or fewer.
        stored = await transaction.courses_of([each for each in unclear if editions[each] != NOTHING_STORED])
        for patient, projection in unclear.items():
            mappings = self._mappings[patient.source]
            decided[patient] = decide(projection, stored.get(patient, ()), _cause(changes[patient]), mappings)
        return decided

    def _recall(self, patient: PatientKey, edition: Edition, changes: Changes) -> Known | None:
        if None in changes.values():
            return None
        if edition == NOTHING_STORED:
            return Known(edition, {}, {})
        return self._remembered.recall(patient, edition)


def _cause(changes: Changes) -> tuple[str, ...]:
    return tuple(sorted([key.reference for key in changes]))


def _count(courses: Counter[str], updates: Sequence[PatientUpdate]) -> None:
    for each in updates:
        courses[each.patient.source] += len(each.courses) + len(each.gone)


def _slices(patients: Sequence[PatientKey]) -> Iterator[Sequence[PatientKey]]:
    return (patients[start : start + AT_ONCE] for start in range(0, len(patients), AT_ONCE))
