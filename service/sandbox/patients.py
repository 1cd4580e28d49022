"""Synthetic patients whose charts play whole IPT courses: the same seed gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import time, timedelta
from random import Random
from typing import TYPE_CHECKING

from service.sandbox.courses import Cast, play
from service.sandbox.events import at_clinic
from service.sandbox.noise import Person, broken, other_care
from service.sandbox.people import PRACTITIONERS, depression, patient, practitioner
from service.sandbox.stories import STORIES, Story

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from service.sandbox.events import Event, Resource

PERIOD = timedelta(weeks=26)
"""How long all stories take: the longest one with its assessment, its missed sessions and what follows."""
_OTHER_VISITS = 2
"""Visits to other departments for each patient."""
_ANY_FOCUS = ("grief", "role-transition", "communication-patterns")


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """One patient of the synthetic clinic."""

    patient_id: str
    story: Story
    resources: tuple[Resource, ...] = field(repr=False)
    """Patient, practitioner and condition: what a FHIR server holds before the first event."""
    events: tuple[Event, ...] = field(repr=False)
    """In the order in which they are written."""


def generate(seed: int, patients: int, start: date) -> list[SyntheticPatient]:
    """Return patients whose stories begin on or after `start` and end before `start + PERIOD`.

    Stories are played in turn, so as many patients as there are archetypes play each of them. A
    patient is the same whatever the number of patients.
    """
    return [
        play_patient(seed, number, start, _varied(STORIES[(number - 1) % len(STORIES)], seed, number))
        for number in range(1, patients + 1)
    ]


def play_patient(seed: int, number: int, start: date, story: Story) -> SyntheticPatient:
    """Return the patient of this number, from 1, who plays a story that ends before `start + PERIOD`."""
    rng = Random(f"{seed}/{number}")  # noqa: S311 - synthetic data, to be repeated
    today = start + PERIOD
    patient_id = f"P-{number:04}"
    therapist = practitioner(number % PRACTITIONERS + 1)
    resources = (patient(patient_id, rng), therapist, depression(patient_id, rng))
    cast = Cast(patient_id, therapist["id"], time(rng.randint(8, 16), rng.choice((0, 30))))
    events = [*play(story, cast, rng, today).events, *_other_visits(patient_id, rng, today)]
    return SyntheticPatient(patient_id, story, resources, tuple(in_order(events)))


def bystanders(seed: int, patients: int, start: date) -> list[Event]:
    """Return the events of patients who are in no course, with a few records that can't be read."""
    events: list[Event] = []
    for number in range(1, patients + 1):
        rng = Random(f"{seed}/bystander/{number}")  # noqa: S311 - synthetic data, to be repeated
        events += _other_visits(f"B-{number:04}", rng, start + PERIOD)
    events += broken(at_clinic(start + PERIOD / 2, time(12)))
    return in_order(events)


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return the events by the time at which they are written; of one resource in their given order."""
    return sorted(events, key=lambda event: event.time)


def stream(patients: Iterable[SyntheticPatient]) -> list[Event]:
    """Return the events of all patients, by time."""
    return in_order(event for patient in patients for event in patient.events)


def _varied(story: Story, seed: int, number: int) -> Story:
    """The story with its totals shifted by a point and, when it is played again, another focus if it has no stage."""
    rng = Random(f"{seed}/{number}/story")  # noqa: S311 - synthetic data, to be repeated
    shift = rng.choice((-1, 0, 1))
    focus = rng.choice(_ANY_FOCUS) if story.stage is None and number > len(STORIES) else story.focus
    return replace(
        story,
        focus=focus,
        phq_9=tuple(total + shift for total in story.phq_9),
        gad_7=tuple(total + shift for total in story.gad_7),
    )


def _other_visits(patient_id: str, rng: Random, today: date) -> list[Event]:
    person = Person(patient_id, "PR-9")
    days = rng.sample(range(7, PERIOD.days - 7), _OTHER_VISITS)
    visits = [at_clinic(today - timedelta(days=day), time(rng.randint(8, 16), 15)) for day in days]
    return [event for at in visits for event in other_care(person, at, rng)]
