"""Synthetic patients: real FHIR, the same every time, and every story told as its archetype promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class

from service.domain.course import Phase, Sex
from service.domain.facts import PatientKey
from service.domain.projection import project
from service.sandbox.patients import PERIOD, SyntheticPatient, bystanders, generate, in_order, play_patient, stream
from service.sandbox.stories import STORIES, Archetype
from tests.synthetic import facts_of, read

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings

SEED = 7
START = date(2026, 1, 5)
END = datetime.combine(START + PERIOD, time(), UTC)


@pytest.fixture(scope="module")
def patients() -> list[SyntheticPatient]:
    """Return as many patients as the demo has."""
    return generate(SEED, 40, START)


def courses(patient: SyntheticPatient, mappings: Mappings) -> tuple[Course, ...]:
    """Return the patient's courses when all stories have ended."""
    key = PatientKey("main", patient.patient_id)
    return project(key, facts_of(patient.events, mappings), END, mappings).courses


def course(patient: SyntheticPatient, mappings: Mappings) -> Course:
    """Return the patient's course: the one that maintenance follows, where there are two."""
    first, *following = courses(patient, mappings)
    assert [first.id] * len(following) == [later.follows for later in following]
    return first


def test_every_archetype_has_a_story() -> None:
    """The demo can show each of them."""
    assert list(Archetype) == [story.archetype for story in STORIES]


def test_every_archetype_is_played_once_there_are_enough_patients(patients: list[SyntheticPatient]) -> None:
    """In turn, so that few patients show much."""
    assert set(Archetype) == {patient.story.archetype for patient in patients}


def test_every_resource_is_valid_fhir(patients: list[SyntheticPatient]) -> None:
    """R4 as the models of fhir.resources know it."""
    resources = [resource for patient in patients for resource in patient.resources]
    sent = [*stream(patients), *bystanders(SEED, 5, START)]
    for resource in (*resources, *(event.resource for event in sent if event.resource is not None)):
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def test_the_same_seed_gives_the_same_bytes(patients: list[SyntheticPatient]) -> None:
    """Resources, events, their order and times."""
    again = generate(SEED, 40, START)
    assert orjson.dumps([p.resources for p in patients]) == orjson.dumps([p.resources for p in again])
    assert [(e.key, e.value, e.time) for e in stream(patients)] == [(e.key, e.value, e.time) for e in stream(again)]


def test_another_seed_gives_other_patients(patients: list[SyntheticPatient]) -> None:
    """The seed matters."""
    assert patients != generate(SEED + 1, 40, START)


def test_a_patient_does_not_depend_on_how_many_others_there_are(patients: list[SyntheticPatient]) -> None:
    """More patients leave the first ones as they are."""
    assert patients[:3] == generate(SEED, 3, START)


def test_forty_patients_send_about_two_thousand_events(patients: list[SyntheticPatient]) -> None:
    """Enough to see the service at work, few enough to wait for."""
    assert 1_800 <= len(stream(patients)) <= 3_000


def test_all_stories_are_played_within_the_period(patients: list[SyntheticPatient]) -> None:
    """No event is dated before the start or after the end."""
    days = {event.time.date() for event in stream(patients)}
    assert START <= min(days)
    assert max(days) < START + PERIOD


def test_events_are_in_the_order_of_their_times(patients: list[SyntheticPatient]) -> None:
    """As the EHR writes them."""
    times = [event.time for event in stream(patients)]
    assert sorted(times) == times


def test_versions_of_a_resource_count_up_with_its_times(patients: list[SyntheticPatient]) -> None:
    """A later version has a higher number and a later instant."""
    newest: dict[str, tuple[int, str]] = {}
    for event in stream(patients):
        if event.resource is not None:
            meta = event.resource["meta"]
            version = (int(meta["versionId"]), meta["lastUpdated"])
            number, instant = newest.get(event.key, (0, ""))
            assert number + 1 == version[0]
            assert instant <= version[1]
            newest[event.key] = version


def test_the_stream_holds_what_feeds_hold(patients: list[SyntheticPatient]) -> None:
    """Every state of an encounter, every kind of correction."""
    events = stream(patients)
    statuses = Counter(event.resource["status"] for event in events if event.resource is not None)
    expected = {"planned", "in-progress", "finished", "cancelled", "completed", "amended", "entered-in-error"}
    assert expected <= set(statuses)
    assert any(event.value is None for event in events)


def test_no_relevant_event_is_unreadable(patients: list[SyntheticPatient], mappings: Mappings) -> None:
    """Patients' own events can all be read."""
    assert not [event.key for event in stream(patients) if read(event, mappings).unreadable]


def test_bystanders_send_nothing_of_ours_but_three_broken_records(mappings: Mappings) -> None:
    """Office visits, blood pressures and PHQ-2 are no part of any course."""
    readings = [read(event, mappings) for event in bystanders(SEED, 20, START)]
    assert not [fact for reading in readings for fact in reading.facts]
    assert 3 == sum(len(reading.unreadable) for reading in readings)


@pytest.mark.parametrize("place", range(len(STORIES)), ids=list(Archetype))
def test_a_story_shows_what_its_archetype_promises(
    patients: list[SyntheticPatient], place: int, mappings: Mappings
) -> None:
    """The rules find in the course what the story is about."""
    played = course(patients[place], mappings)
    story = patients[place].story
    assert set(story.rules) <= {finding.rule for finding in played.findings}
    assert story.held == played.held


@pytest.mark.parametrize(
    ("archetype", "phase"),
    [
        (Archetype.NEWCOMER, Phase.ASSESSMENT_PENDING),
        (Archetype.SELF_HARM, Phase.INITIAL),
        (Archetype.RESPONDER, Phase.MIDDLE),
        (Archetype.ENDING, Phase.ENDING),
        (Archetype.MAINTENANCE, Phase.MAINTENANCE),
        (Archetype.ENDED, Phase.CLOSED),
    ],
)
def test_the_stories_stand_in_every_phase(
    patients: list[SyntheticPatient], archetype: Archetype, phase: Phase, mappings: Mappings
) -> None:
    """From the assessment to after the end."""
    patient = next(patient for patient in patients if patient.story.archetype is archetype)
    assert phase is courses(patient, mappings)[-1].phase


def test_a_story_says_who_its_patient_is_where_that_matters(mappings: Mappings) -> None:
    """Sex and age are on the assessment form."""
    story = replace(STORIES[0], sex="female", age=34, protocol="adult-standard")
    played = course(play_patient(SEED, 1, START, story), mappings)
    assert (Sex.FEMALE, 34, "adult-standard") == (played.sex, played.age, played.protocol)


def test_calm_stories_raise_no_alarm(patients: list[SyntheticPatient], mappings: Mappings) -> None:
    """A responder needs no attention."""
    rules = {finding.rule for finding in course(patients[0], mappings).findings}
    assert rules <= {"initial.complete", "change.improvement", "change.recovery", "change.reliable-recovery"}


def test_events_of_one_instant_keep_their_order(patients: list[SyntheticPatient]) -> None:
    """Sorting twice changes nothing."""
    events = stream(patients)
    assert events == in_order(events)
