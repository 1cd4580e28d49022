"""What is written of a patient: a revision's history tells which findings it raised and which it closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from service.decisions import decide
from service.domain import state
from service.domain.course import FindingState, Projection
from service.domain.facts import PatientKey
from service.domain.projection import project
from service.store import StoredCourse
from tests.courses import FIRST_SESSION, course
from tests.history import PATIENT, encounter, ending, sessions, week

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


def test_maintenance_never_takes_over_the_plan_of_the_treatment_before_it(mappings: Mappings) -> None:
    """Although it holds sessions that were the treatment's until the ending form came, and the treatment is renamed."""
    held = [encounter("first", week(1)), *sessions(3, first=2), encounter("monthly", week(9))]
    before = project(PATIENT, held, week(10), mappings).courses
    stored = [StoredCourse(c.id, PATIENT, c.anchor, c.phase, "r1", 1, state.dump(c), gone=False) for c in before]
    earlier = [encounter("earlier", week(0)), *held, ending("z", week(4), "maintenance")]
    projection = project(PATIENT, earlier, week(10), mappings)
    finished, maintenance = projection.courses
    (gone,) = decide(projection, stored, (), mappings).update.gone
    assert (before[0].id, finished.id) == (gone.course_id, gone.superseded_by)
    assert finished.id == maintenance.follows
