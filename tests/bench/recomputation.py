"""Whether a store holds what the events say: every course is computed again from the events alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain import state
from service.domain.facts import PatientKey
from service.domain.projection import project
from service.store import Store
from tests.bench.parts import SOURCE
from tests.bench.worker import BenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.facts import Fact, FactKey
    from service.domain.mappings import Mappings

PAGE = 500


async def courses_equal(
    url: str, facts: Mapping[str, Mapping[FactKey, Fact]], mappings: Mappings, *, whole: bool = True
) -> int:
    """Return how many courses the store has of these patients, each equal to the byte to what the events say.

    Raises BenchError where one differs, is missing, or is too many; with `whole`, also where the store
    has other patients.
    """
    courses = 0
    async with await Store.open(url) as store:
        stored = await _all_patients(store) if whole else [PatientKey(SOURCE, patient) for patient in sorted(facts)]
        if {key.patient_id for key in stored} != facts.keys():
            raise BenchError(f"The store has {len(stored)} patients, and the events have {len(facts)}.")
        for start in range(0, len(stored), PAGE):
            records = await store.operators.facts_and_courses(stored[start : start + PAGE])
            for patient, record in records.items():
                found = {each.course_id: bytes(each.state) for each in record.courses if not each.gone}
                if record.projected_as_of is None:
                    raise BenchError("A patient was never projected.")
                projected = project(patient, facts[patient.patient_id].values(), record.projected_as_of, mappings)
                if found != {course.id: state.dump(course) for course in projected.courses}:
                    raise BenchError("A course in the store is not what its events say.")
                courses += len(found)
    if not courses:
        raise BenchError("The store has no course.")
    return courses


async def _all_patients(store: Store) -> list[PatientKey]:
    found: list[PatientKey] = []
    while page := await store.operators.patients(found[-1] if found else None, PAGE):
        found += page
    return found
