"""The events that every row of the bench reads: 2 KB each, all different, half of them Encounters.

A patient's course begins with an assessment form; then each week brings an Encounter coded as IPT, and
a PHQ-9, a GAD-7 or a session form. What an EHR writes beside what the service reads (identifiers, a
narrative, places) fills each event up to its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from service.sandbox.encounters import IPT, OFFICE_VISIT, Visit
from service.sandbox.events import instant
from service.sandbox.responses import GAD_7, PHQ_2, PHQ_9, Response, Scale, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

ENCOUNTER = "Encounter"
RESPONSE = "QuestionnaireResponse"

BYTES = 2048
"""Size of each event; a resource that is larger by itself stays as it is."""
FIRST = datetime(2024, 1, 8, 14, tzinfo=UTC)
"""When the first patient's first session is held."""
WEEK = timedelta(days=7)
SPARSE_OF = 20
"""Of so many records of the sparse stream one is ours."""

_AREAS = ("grief", "role-dispute", "role-transition", "communication-patterns")
_TECHNIQUES = ("communication-analysis", "role-play", "decision-analysis", "expression-of-affect")


@dataclass(frozen=True, slots=True)
class Event:
    """One record."""

    kind: str
    """Which topic it is written to: `Encounter` or `QuestionnaireResponse`."""
    key: str
    patient: int
    value: bytes


def course(patient: int, events: int, first: datetime | None = None) -> list[Event]:
    """Return so many events of one patient, in the order in which they are written.

    `first` is when the first session is held; without it, about `FIRST`.
    """
    rng = Random(f"course/{patient}")  # noqa: S311 - the same events in every run
    begun = first or FIRST + timedelta(hours=patient % 4000)
    pairs = (_week(patient, week, begun + week * WEEK, rng) for week in range((events + 1) // 2))
    return [event for pair in pairs for event in pair][:events]


def shuffled(patients: int, each: int) -> list[Event]:
    """Return the events of so many patients in the order of no patient's chart."""
    events = lying_close(patients, each)
    Random("shuffled").shuffle(events)  # noqa: S311 - the same order in every run
    return events


def lying_close(patients: int, each: int) -> list[Event]:
    """Return the events of so many patients, each patient's together, as a history is loaded."""
    return [event for patient in range(patients) for event in course(patient, each)]


def sparse(records: int) -> Iterator[Event]:
    """Yield a hospital's stream: one in twenty is ours; Observations, other visits, other questionnaires."""
    ours = iter(shuffled(max(1, records // SPARSE_OF // 8), 8))
    rng = Random("sparse")  # noqa: S311 - the same events in every run
    for number in range(records):
        event = next(ours, None) if number % SPARSE_OF == 0 else None
        yield event or _other(number, rng)


def _week(patient: int, week: int, held: datetime, rng: Random) -> Iterator[Event]:
    visit = Visit(
        f"b{patient}-e{week}", f"b{patient}", f"PR-{patient % 40}", IPT, f"b{patient}-c", telehealth=week % 4 == 3
    )
    encounter = visit.finished(held, 50)
    response = Response(f"b{patient}-q{week}", f"b{patient}", f"Patient/b{patient}", held, visit.reference)
    yield _event(patient, encounter, held + timedelta(hours=1), rng)
    yield _event(patient, _answered(response, week, rng), held + timedelta(hours=2), rng)


def _answered(response: Response, week: int, rng: Random) -> dict[str, Any]:
    area = _AREAS[rng.randrange(len(_AREAS))]
    if week == 0:
        return response.form(
            "assessment",
            {
                "diagnosis-documented": True,
                "interpersonal-inventory": True,
                "primary-focus-area": f"focus-area/{area}",
                "formulation": True,
                "agreement": True,
                "planned-sessions": 16,
            },
        )
    if week % 4 == 2:
        return _scored(response, GAD_7, week, rng)
    if week % 4 == 3:
        return response.form(
            "session",
            {
                "worked-on": [f"focus-area/{area}"],
                "technique": [f"technique/{_TECHNIQUES[rng.randrange(len(_TECHNIQUES))]}"],
            },
        )
    return _scored(response, PHQ_9, week, rng)


def _scored(response: Response, scale: Scale, week: int, rng: Random) -> dict[str, Any]:
    most = sum(scale.highest)
    total = max(0, min(most, 18 - week // 2 + rng.randint(-3, 3)))
    return response.scored(scale, spread(total, scale.highest, rng))


def _other(number: int, rng: Random) -> Event:
    """Return a record that is none of ours, of a patient who is in no course."""
    at = FIRST + timedelta(minutes=number)
    visit = Visit(f"o{number}-e", f"o{number}", f"PR-{number % 400}", OFFICE_VISIT)
    if number % 3 == 0:
        return _event(number, visit.finished(at, 20), at, rng)
    if number % 3 == 1:
        response = Response(f"o{number}-q", f"o{number}", f"Patient/o{number}", at, visit.reference)
        return _event(number, response.scored(PHQ_2, spread(rng.randint(0, 6), PHQ_2.highest, rng)), at, rng)
    observation = {
        "resourceType": "Observation",
        "id": f"o{number}-o",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
        "subject": {"reference": f"Patient/o{number}"},
        "encounter": {"reference": visit.reference},
        "effectiveDateTime": instant(at),
        "valueQuantity": {"value": rng.randint(50, 110), "unit": "/min", "system": "http://unitsofmeasure.org"},
    }
    return _event(number, observation, at, rng)


def _event(patient: int, resource: dict[str, Any], written: datetime, rng: Random) -> Event:
    """Return a resource as an EHR writes it: stamped, with its own identifier, filled up to the size."""
    kind, id_ = resource["resourceType"], resource["id"]
    identifier = {"system": "urn:oid:1.2.36.146.595.217.0.1", "value": f"{id_}-{rng.getrandbits(64):x}"}
    whole = {
        "resourceType": kind,
        "id": id_,
        "meta": {"versionId": "1", "lastUpdated": instant(written), "source": "urn:ehr:interface-engine"},
        "text": {"status": "generated", "div": ""},
        **resource,
        "identifier": identifier if kind == RESPONSE else [identifier],
    }
    missing = BYTES - len(orjson.dumps(whole))
    words = f"{id_} " + "as written in the chart " * (max(0, missing) // 20)
    whole["text"]["div"] = f'<div xmlns="http://www.w3.org/1999/xhtml">{words[: max(1, missing - 48)]}</div>'
    topic = RESPONSE if kind == RESPONSE else ENCOUNTER
    return Event(topic, f"{kind}/{id_}", patient, orjson.dumps(whole))
