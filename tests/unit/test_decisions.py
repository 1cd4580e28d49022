"""What is written of a patient: a revision's history tells which findings it raised and which it closed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.decisions import decide
from service.domain import state
from service.domain.course import FindingState, Projection
from service.domain.facts import PatientKey
from service.store import StoredCourse
from tests.courses import FIRST_SESSION, course

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings


def test_a_finding_that_stays_as_closed_is_closed_in_the_history(mappings: Mappings) -> None:
    """It is neither raised anew nor kept open by being shown."""
    patient = PatientKey("main", "p-12")
    before = course()
    (finding,) = before.findings
    after = replace(before, findings=(replace(finding, state=FindingState.CLOSED, closed=FIRST_SESSION.date()),))

    def written(now: Course, stored: list[StoredCourse]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        projection = Projection(patient, FIRST_SESSION, (now,), None)
        (update,) = decide(projection, stored, (), mappings).update.courses
        return update.opened, update.closed

    known = StoredCourse(before.id, patient, before.anchor, before.phase, "r1", 1, state.dump(before), gone=False)
    assert ((finding.id,), ()) == written(before, [])
    assert ((), (finding.id,)) == written(after, [known])
    assert ((), ()) == written(after, [])
