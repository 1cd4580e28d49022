"""What else a hospital streams: records that are none of ours, and records that nobody can read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import orjson

from service.sandbox.encounters import IPT, OFFICE_VISIT, Visit
from service.sandbox.events import Chart, Event, instant, local
from service.sandbox.responses import PHQ_2, PHQ_9, Response, spread

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random

    from service.sandbox.events import Resource


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom other departments see, whether or not in psychotherapy."""

    patient_id: str
    practitioner: str
    """Id of a practitioner of another department."""


def other_care(person: Person, at: datetime, rng: Random) -> list[Event]:
    """Return an office visit with a blood pressure or a PHQ-2: relevant to no course."""
    chart = Chart()
    visit = Visit(f"{person.patient_id}-o{at:%m%d}", person.patient_id, person.practitioner, OFFICE_VISIT)
    chart.write(visit.planned(at), at - timedelta(days=3))
    chart.write(visit.finished(at, 20), at + timedelta(minutes=21))
    if rng.random() < 0.5:  # noqa: PLR2004 - one or the other
        chart.write(_blood_pressure(visit, at, rng), at + timedelta(minutes=5), kind="Encounter")
    else:
        patient = f"Patient/{person.patient_id}"
        response = Response(f"{person.patient_id}-q{at:%m%d}", person.patient_id, patient, at, visit.reference)
        chart.write(response.scored(PHQ_2, spread(rng.randint(0, 4), PHQ_2.highest, rng)), at)
    return chart.events


def broken(at: datetime) -> list[Event]:
    """Return records that can't be read: cut off, and without the patient that they are about."""
    visit = Visit("x-1", "x", "PR-1", IPT).finished(at, 45)
    response = Response("x-2", "x", "Patient/x", at).scored(PHQ_9, [1] * len(PHQ_9.items))
    return [
        Event("Encounter", "Encounter/x-0", None, at, b'{"resourceType": "Encounter", "id": "x-0", "status": "fin'),
        _without_patient("Encounter", visit, at + timedelta(hours=1)),
        _without_patient("QuestionnaireResponse", response, at + timedelta(hours=2)),
    ]


def _without_patient(kind: str, resource: Resource, at: datetime) -> Event:
    kept = {name: value for name, value in resource.items() if name not in {"subject", "author"}}
    value = orjson.dumps(kept | {"meta": {"versionId": "1", "lastUpdated": instant(at)}})
    return Event(kind, f"{kind}/{resource['id']}", None, at, value)


def _blood_pressure(visit: Visit, at: datetime, rng: Random) -> Resource:
    unit = {"unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
    return {
        "resourceType": "Observation",
        "id": f"{visit.encounter_id}-bp",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                    }
                ]
            }
        ],
        "code": {
            "coding": [
                {
                    "system": "http://loinc.org",
                    "code": "85354-9",
                    "display": "Blood pressure panel with all children optional",
                }
            ]
        },
        "subject": {"reference": f"Patient/{visit.patient_id}"},
        "encounter": {"reference": visit.reference},
        "effectiveDateTime": local(at),
        "component": [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]},
                "valueQuantity": {"value": value} | unit,
            }
            for code, display, value in (
                ("8480-6", "Systolic blood pressure", rng.randint(105, 150)),
                ("8462-4", "Diastolic blood pressure", rng.randint(60, 95)),
            )
        ],
    }
