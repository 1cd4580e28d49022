"""Synthetic patients, their diagnoses and those who treat them, as FHIR R4 resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from service.sandbox.events import Resource

PRACTITIONERS = 4
"""How many practitioners the synthetic clinic has."""

_GIVEN = ("Alba", "Bruno", "Cleo", "Dario", "Elif", "Fenna", "Goran", "Hana", "Ivo", "Jona")
_DEPRESSION = (
    ("F32.0", "Major depressive disorder, single episode, mild"),
    ("F32.1", "Major depressive disorder, single episode, moderate"),
    ("F33.1", "Major depressive disorder, recurrent, moderate"),
)


def patient(patient_id: str, rng: Random) -> Resource:
    """Return a patient whose name says that there is no such person."""
    return {
        "resourceType": "Patient",
        "id": patient_id,
        "identifier": [{"system": "https://ipt-bridge.org/fhir/synthetic-patient", "value": patient_id}],
        "active": True,
        "name": [{"use": "official", "family": f"Synthetic-{patient_id}", "given": [rng.choice(_GIVEN)]}],
        "gender": rng.choice(("female", "male", "other")),
        "birthDate": f"{rng.randint(1955, 2004)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
    }


def practitioner(number: int) -> Resource:
    """Return the practitioner of this number, from 1."""
    return {
        "resourceType": "Practitioner",
        "id": f"PR-{number}",
        "active": True,
        "name": [{"use": "official", "family": f"Synthetic-Therapist-{number}", "given": [_GIVEN[-number]]}],
    }


def depression(patient_id: str, rng: Random) -> Resource:
    """Return the diagnosis that the patient's encounters address."""
    code, display = rng.choice(_DEPRESSION)
    return {
        "resourceType": "Condition",
        "id": f"{patient_id}-c1",
        "clinicalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
        },
        "verificationStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed"}]
        },
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/condition-category",
                        "code": "problem-list-item",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code, "display": display}]},
        "subject": {"reference": f"Patient/{patient_id}"},
    }
