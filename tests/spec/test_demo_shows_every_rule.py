"""Each rule can be seen in the demo: in the course of a patient whom it was made for."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

import pytest

from service.domain.facts import PatientKey
from service.domain.projection import project
from service.sandbox.patients import PERIOD, SyntheticPatient, generate
from service.sandbox.stories import STORIES, Archetype
from tests.synthetic import facts_of

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

START = date(2026, 1, 5)
END = datetime.combine(START + PERIOD, time(), UTC)

SHOWN_BY = {
    "safety.self-harm-item": {Archetype.SELF_HARM, Archetype.CRISIS},
    "safety.screener-positive": {Archetype.AFTER_BIRTH},
    "safety.item-unanswered": {Archetype.ITEM_UNANSWERED},
    "change.deterioration": {Archetype.DETERIORATING},
    "change.improvement": {Archetype.RESPONDER, Archetype.ENDING, Archetype.ENDED, Archetype.MAINTENANCE},
    "change.recovery": {Archetype.RECOVERED},
    "change.reliable-recovery": {Archetype.RESPONDER, Archetype.ENDED},
    "initial.complete": {Archetype.RESPONDER, Archetype.NON_RESPONDER},
    "initial.overrun": {Archetype.OVERRUN},
    "review.soft": {Archetype.LATE_RESPONDER, Archetype.OFTEN_MISSED},
    "review.firm": {Archetype.NON_RESPONDER, Archetype.OFTEN_MISSED},
    "ending.due": {Archetype.ENDING},
    "sessions.used-up": {Archetype.USED_UP},
    "ending.classification": {
        Archetype.ENDING,
        Archetype.ENDED,
        Archetype.NON_RESPONDER,
        Archetype.USED_UP,
    },
    "course.stalled": {Archetype.DROPOUT},
    "course.dropout": {Archetype.LONG_GONE},
    "course.session-after-end": {Archetype.CAME_BACK},
    "protocol.changed": {Archetype.OTHER_PROTOCOL},
    "protocol.exclusion": {Archetype.ADOLESCENT},
    "sessions.planned-changed": {Archetype.OTHER_PROTOCOL},
    "sessions.planned-out-of-range": {Archetype.BRIEF},
    "data.stated-total": {Archetype.WRONG_TOTAL},
    "data.contradicted-answer": {Archetype.ODD_RECORDS},
    "data.duration": {Archetype.ODD_RECORDS},
    "data.same-day": {Archetype.ODD_RECORDS},
    "data.sex-unknown": {Archetype.DRUG_USE},
    "data.form-of-cancelled": {Archetype.ODD_RECORDS},
    "focus.suggested": {Archetype.SUGGESTED},
    "substance.care-not-noted": {Archetype.ALCOHOL},
}
"""Rule × demo patient."""

NOT_YET = {"data.future", "ehr.plan-ended", "ehr.goal-ended", "ehr.edited"}
"""Rules that no demo patient shows: nobody works in the demo's EHRs."""


@pytest.fixture(scope="module")
def patients() -> dict[Archetype, SyntheticPatient]:
    """Return the demo's patients, one of each archetype."""
    return {patient.story.archetype: patient for patient in generate(7, len(STORIES), START)}


def test_every_rule_has_a_demo_patient_who_shows_it(mappings: Mappings) -> None:
    """What the mappings hold, the demo shows, but for what is named."""
    assert set(mappings.rules) == SHOWN_BY.keys() | NOT_YET
    assert not SHOWN_BY.keys() & NOT_YET


@pytest.mark.parametrize(
    ("rule", "archetype"), [(rule, who) for rule, shown in SHOWN_BY.items() for who in sorted(shown)]
)
def test_the_rule_finds_something_in_the_course_of(
    rule: str, archetype: Archetype, patients: dict[Archetype, SyntheticPatient], mappings: Mappings
) -> None:
    """Once the story has been played to its end."""
    patient = patients[archetype]
    key = PatientKey("main", patient.patient_id)
    courses = project(key, facts_of(patient.events, mappings), END, mappings).courses
    assert rule in {finding.rule for course in courses for finding in course.findings}


def test_a_rule_that_is_not_yet_shown_is_in_no_demo_course(
    patients: dict[Archetype, SyntheticPatient], mappings: Mappings
) -> None:
    """Else it belongs into the table."""
    found = {
        finding.rule
        for patient in patients.values()
        for course in project(
            PatientKey("main", patient.patient_id), facts_of(patient.events, mappings), END, mappings
        ).courses
        for finding in course.findings
    }
    assert not NOT_YET & found
