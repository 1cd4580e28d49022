"""Time alone changes a course only at the instants that its projection announces."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.facts import PatientKey
from service.domain.projection import project
from service.domain.state import dump
from service.sandbox.patients import PERIOD
from tests.property.strategies import START, patients
from tests.synthetic import facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.domain.facts import Fact
    from service.domain.mappings import Mappings
    from service.sandbox.patients import SyntheticPatient

BEGIN = datetime.combine(START, time(), UTC)
SPAN = PERIOD + timedelta(days=400)
"""Until long after the last event, when every course has stalled or been closed."""
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Clock:
    """What a patient's courses are at an instant."""

    def __init__(self, mappings: Mappings) -> None:
        """Read with these mappings."""
        self._mappings = mappings

    def facts(self, patient: SyntheticPatient) -> list[Fact]:
        """Return the newest facts of the patient."""
        return facts_of(patient.events, self._mappings)

    def states(self, patient: SyntheticPatient, facts: Iterable[Fact], as_of: datetime) -> list[bytes]:
        """Return the states of the courses."""
        courses = project(PatientKey("main", patient.patient_id), facts, as_of, self._mappings).courses
        return [dump(course) for course in courses]

    def next_due(self, patient: SyntheticPatient, facts: Iterable[Fact], as_of: datetime) -> datetime | None:
        """Return when they would next change."""
        return project(PatientKey("main", patient.patient_id), facts, as_of, self._mappings).next_due


@pytest.fixture(scope="module")
def clock(mappings: Mappings) -> Clock:
    """Return the clock under the standard mappings."""
    return Clock(mappings)


def instants() -> st.SearchStrategy[datetime]:
    """Draw an instant from the first event to long after the last."""
    return st.timedeltas(timedelta(), SPAN).map(lambda since: BEGIN + since)


@QUICK
@given(data=st.data(), patient=patients(), as_of=instants())
def test_nothing_changes_before_the_announced_instant(
    clock: Clock, data: st.DataObject, patient: SyntheticPatient, as_of: datetime
) -> None:
    """Between two steps the courses are the same to the byte."""
    facts = clock.facts(patient)
    due = clock.next_due(patient, facts, as_of)
    until = BEGIN + SPAN if due is None else due - timedelta(microseconds=1)
    latest = max(until, as_of).astimezone(UTC).replace(tzinfo=None)
    later = data.draw(st.datetimes(as_of.replace(tzinfo=None), latest), label="later")
    assert clock.states(patient, facts, as_of) == clock.states(patient, facts, later.replace(tzinfo=UTC))


@QUICK
@given(patient=patients(), as_of=instants())
def test_every_announced_instant_lies_ahead_and_their_number_is_finite(
    clock: Clock, patient: SyntheticPatient, as_of: datetime
) -> None:
    """A sweeper that projects whatever is due comes to rest."""
    facts = clock.facts(patient)
    steps = 0
    moment: datetime | None = as_of
    while moment is not None:
        due = clock.next_due(patient, facts, moment)
        assert due is None or due > moment
        moment = due
        steps += 1
        assert steps < 200
