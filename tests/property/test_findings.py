"""Findings of any course: they name facts that exist, and what was found once is found ever after."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.course import FindingState
from service.domain.facts import Fact, FactKey, OrderKey, PatientKey, TaskReading
from service.domain.projection import project
from service.sandbox.patients import PERIOD
from tests.property.strategies import START, patients
from tests.synthetic import facts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.domain.course import Course, Finding
    from service.domain.mappings import Mappings
    from service.sandbox.patients import SyntheticPatient

BEGIN = datetime.combine(START, time(7), UTC)
"""At night, when nothing is held or written: a day's findings are those at its end."""
DAYS = (PERIOD + timedelta(days=100)).days
END = BEGIN + timedelta(days=DAYS)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PASSING = frozenset({"data.future"})
"""Rules that tell of what is ahead: there is nothing to tell once it has come."""
BY_THE_LAST_PROTOCOL = (
    "review.",
    "change.recovery",
    "change.reliable-recovery",
    "ending.",
    "sessions.used-up",
    "course.",
)
"""Rules that judge a whole course by the protocol that it follows at last: another one tells another history."""


class Clinic:
    """What the service makes of a patient, under the standard mappings."""

    def __init__(self, mappings: Mappings) -> None:
        """Read with these mappings."""
        self._mappings = mappings

    def facts(self, patient: SyntheticPatient) -> list[Fact]:
        """Return the newest facts of the patient."""
        return facts_of(patient.events, self._mappings)

    def courses(self, patient: SyntheticPatient, facts: Sequence[Fact], as_of: datetime) -> tuple[Course, ...]:
        """Return the patient's courses."""
        return project(PatientKey("main", patient.patient_id), facts, as_of, self._mappings).courses


@pytest.fixture(scope="module")
def clinic(mappings: Mappings) -> Clinic:
    """Return the clinic."""
    return Clinic(mappings)


def days() -> st.SearchStrategy[datetime]:
    """Draw a night from the first event to long after the last."""
    return st.integers(0, DAYS).map(lambda day: BEGIN + timedelta(days=day))


@QUICK
@given(patient=patients(), as_of=days())
def test_a_finding_names_existing_facts(clinic: Clinic, patient: SyntheticPatient, as_of: datetime) -> None:
    """And at least one: nothing is found out of nothing. Its answer names one too."""
    facts = clinic.facts(patient)
    known = {fact.key.reference for fact in facts}
    for course in clinic.courses(patient, facts, as_of):
        for finding in course.findings:
            assert finding.facts
            assert set(finding.facts) <= known
            assert finding.answered is None or finding.answered.fact in known


@QUICK
@given(patient=patients(), as_of=days())
def test_a_life_has_its_order(clinic: Clinic, patient: SyntheticPatient, as_of: datetime) -> None:
    """No id twice; not closed before raised; the state is what the dates say."""
    for course in clinic.courses(patient, clinic.facts(patient), as_of):
        assert len(course.findings) == len({finding.id for finding in course.findings})
        for finding in course.findings:
            assert finding.closed is None or finding.raised <= finding.closed
            assert (finding.state is FindingState.CLOSED) == (finding.closed is not None)
            if finding.state is not FindingState.CLOSED:
                assert (finding.state is FindingState.ANSWERED) == (finding.answered is not None)


@QUICK
@given(patient=patients(), nights=st.tuples(days(), days()))
def test_history_read_late_tells_what_it_told_as_it_was_lived(
    clinic: Clinic, patient: SyntheticPatient, nights: tuple[datetime, datetime]
) -> None:
    """What was found on a day has begun on that day whenever it is looked at later, and what had ended had.

    Whatever the course: it may be anchored anew when the form that opens it is written.
    """
    facts = clinic.facts(patient)
    lived, late = (
        {
            (finding.id, finding.raised): finding
            for course in clinic.courses(patient, facts, night)
            for finding in course.findings
        }
        for night in sorted(nights)
    )
    for key, finding in lived.items():
        rejudged = patient.story.changed is not None and finding.rule.startswith(BY_THE_LAST_PROTOCOL)
        if finding.rule not in PASSING and not rejudged:
            assert key in late
            assert finding.closed in {None, late[key].closed}
            assert finding.answered in {None, late[key].answered}


@QUICK
@given(data=st.data(), patient=patients())
def test_a_completed_task_answers_its_finding_and_no_other(
    clinic: Clinic, data: st.DataObject, patient: SyntheticPatient
) -> None:
    """Everything else about the courses stays as it is."""
    facts = clinic.facts(patient)
    before = clinic.courses(patient, facts, END)
    asked = [(course.id, finding) for course in before for finding in course.findings]
    if not asked:
        return
    course_id, finding = data.draw(st.sampled_from(asked), label="asked")
    reading = TaskReading("completed", f"{course_id}/task/{finding.id}", END - timedelta(days=1), None)
    order = OrderKey(0, 1, deleted=False, digest="t")
    task = Fact(FactKey("main", "Task", "t"), order, patient.patient_id, reading)
    after = clinic.courses(patient, [*facts, task], END)
    answers = {
        (course.id, each.id): each.answered for course in after for each in course.findings if each.answered is not None
    }
    assert answers.keys() == {(course_id, finding.id)} | {
        (course.id, each.id) for course in before for each in course.findings if each.answered is not None
    }
    assert [_without_answers(course) for course in before] == [_without_answers(course) for course in after]


def _without_answers(course: Course) -> tuple[str, list[tuple[str, object]]]:
    return course.id, [(finding.id, _life(finding)) for finding in course.findings]


def _life(finding: Finding) -> tuple[object, ...]:
    return finding.raised, finding.closed, finding.values, finding.facts
