"""Whatever happens to events on their way, the same courses and the same plans come out, to the byte."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.facts import PatientKey
from service.domain.projection import project
from service.domain.state import dump
from service.outbound.careplan import bundle, render
from service.sandbox.patients import PERIOD, SyntheticPatient
from tests.property.strategies import START, arrivals, batches, patients
from tests.synthetic import facts_of, merged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.domain.facts import Fact
    from service.domain.mappings import Mappings
    from service.sandbox.events import Event

END = datetime.combine(START + PERIOD, time(), UTC)
# Drawing a patient plays a whole course; how long that takes says nothing of the service.
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Outcome:
    """What the service makes of a patient's events, without the parts between."""

    def __init__(self, mappings: Mappings) -> None:
        """Read with these mappings."""
        self._mappings = mappings

    def facts(self, events: Iterable[Event]) -> list[Fact]:
        """Return the newest facts that the events tell of."""
        return facts_of(events, self._mappings)

    def plans(self, patient: SyntheticPatient, facts: Iterable[Fact]) -> list[tuple[bytes, bytes]]:
        """Return the state and the plan of each course, as bytes."""
        courses = project(PatientKey("main", patient.patient_id), facts, END, self._mappings).courses
        return [(dump(course), bundle(render(course, self._mappings))) for course in courses]


@pytest.fixture(scope="module")
def outcome(mappings: Mappings) -> Outcome:
    """Return the outcome under the standard mappings."""
    return Outcome(mappings)


@QUICK
@given(data=st.data(), patient=patients())
def test_any_order_and_repetition_of_events_gives_the_same_plans(
    outcome: Outcome, data: st.DataObject, patient: SyntheticPatient
) -> None:
    """Late, early, twice: it makes no difference."""
    as_written = outcome.plans(patient, outcome.facts(patient.events))
    arrived = data.draw(arrivals(patient.events), label="arrived")
    assert as_written == outcome.plans(patient, outcome.facts(arrived))


@QUICK
@given(data=st.data(), patient=patients())
def test_any_split_into_batches_gives_the_same_plans(
    outcome: Outcome, data: st.DataObject, patient: SyntheticPatient
) -> None:
    """Merging batch by batch is merging all at once."""
    at_once = outcome.plans(patient, outcome.facts(patient.events))
    arrived = data.draw(arrivals(patient.events), label="arrived")
    kept: list[Fact] = []
    for batch in data.draw(batches(arrived), label="batches"):
        kept = merged([*kept, *outcome.facts(batch)])
    assert at_once == outcome.plans(patient, kept)


@QUICK
@given(data=st.data(), patient=patients())
def test_the_order_in_which_facts_are_given_does_not_matter(
    outcome: Outcome, data: st.DataObject, patient: SyntheticPatient
) -> None:
    """The store may return them in any order."""
    facts = outcome.facts(patient.events)
    given_otherwise = data.draw(st.permutations(facts), label="facts")
    assert outcome.plans(patient, facts) == outcome.plans(patient, given_otherwise)
