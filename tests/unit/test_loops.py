"""What the two loops decide: revisions, courses that go, courses that take over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.decisions import decide
from service.domain.projection import project
from service.store import StoredCourse
from tests.history import PATIENT, assessment, encounter, ending, sessions, week

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.domain.facts import Fact
    from service.domain.mappings import Mappings
    from service.store import PatientUpdate

NOW = week(20)


def decided(facts: Iterable[Fact], stored: Sequence[StoredCourse], mappings: Mappings) -> PatientUpdate:
    """Return what is written for the example patient."""
    return decide(project(PATIENT, facts, NOW, mappings), stored, ("Encounter/x",), mappings).update


def as_stored(update: PatientUpdate) -> list[StoredCourse]:
    """Return the courses of an update as the store gives them back."""
    return [
        StoredCourse(each.course_id, PATIENT, each.anchor, each.phase, each.revision, 1, each.state, gone=False)
        for each in update.courses
    ]


def test_same_facts_leave_nothing_to_write(mappings: Mappings) -> None:
    """The same revision is no change."""
    first = decided(sessions(3), [], mappings)
    again = decided(reversed(sessions(3)), as_stored(first), mappings)
    assert 1 == len(first.courses)
    assert ((), ()) == (again.courses, again.gone)


def test_findings_that_open_and_close_are_named(mappings: Mappings) -> None:
    """An ending closes what asked for it."""
    before = decided([assessment(), *sessions(12)], [], mappings)
    after = decided([assessment(), *sessions(12), ending("e", week(12), "end")], as_stored(before), mappings)
    assert before.courses[0].opened
    assert set(after.courses[0].closed) <= set(before.courses[0].opened)
    assert after.courses[0].closed


def test_earlier_session_moves_the_anchor_and_the_new_course_takes_over(mappings: Mappings) -> None:
    """A clinician's CarePlan goes on under the new name."""
    known = as_stored(decided(sessions(3, first=1), [], mappings))
    update = decided([encounter("e-0", week(0)), *sessions(3, first=1)], known, mappings)
    (gone,) = update.gone
    assert (known[0].course_id, update.courses[0].course_id) == (gone.course_id, gone.superseded_by)


def test_course_whose_facts_are_gone_is_retracted(mappings: Mappings) -> None:
    """Nothing takes its place, and its last revision is another than any it had."""
    known = as_stored(decided(sessions(2), [], mappings))
    (gone,) = decided([], known, mappings).gone
    assert (known[0].course_id, None) == (gone.course_id, gone.superseded_by)
    assert gone.revision != known[0].revision
