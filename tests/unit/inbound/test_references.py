"""References as EHRs write them."""

from __future__ import annotations

from typing import Any

import pytest

from service.inbound.records import Reason, Unreadable
from service.inbound.references import Target, patient_id, target

LOCAL = {"urn:uuid:5f0e": "Patient/p-9"}


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ({"reference": "Patient/p-1"}, Target("Patient", "p-1")),
        ({"reference": " Patient/p_1 "}, Target("Patient", "p_1")),
        ({"reference": "https://ehr.example/fhir/Patient/p-1"}, Target("Patient", "p-1")),
        ({"reference": "Patient/p-1/_history/3"}, Target("Patient", "p-1", "3")),
        ({"reference": "Patient/_history/3"}, None),
        ({"reference": "https://ehr.example/fhir/Patient/ p-1"}, Target("Patient", "p-1")),
        ({"reference": "urn:uuid:5f0e"}, Target("Patient", "p-9")),
        ({"reference": "urn:uuid:77aa"}, Target("Patient", "77aa")),
        ({"reference": "urn:uuid:77aa", "type": "Group"}, Target("Group", "77aa")),
        ({"reference": "p-1", "type": "Patient"}, Target("Patient", "p-1")),
        ({"resourceType": "Patient", "id": "p-1"}, Target("Patient", "p-1")),
        ({"reference": {"reference": "Patient/p-1"}}, Target("Patient", "p-1")),
        ({"reference": "#p1"}, None),
        ({"reference": "Patient?identifier=a|b"}, None),
        ({"reference": "Patient/"}, None),
        ({"reference": "Patient/two words"}, None),
        ({"reference": ""}, None),
        ({"reference": 7}, None),
        ({"identifier": {"value": "1"}}, None),
        ({"display": "somebody"}, None),
        ("Patient/p-1", None),
        (None, None),
    ],
)
def test_reference_names_its_resource(reference: object, found: Target | None) -> None:
    """Whatever shape it has; nothing is guessed where it names none."""
    assert found == target(reference, LOCAL, expected="Patient")


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ({}, Reason.NO_SUBJECT),
        ({"subject": {}}, Reason.NO_SUBJECT),
        ({"subject": {"display": "somebody"}}, Reason.NO_SUBJECT),
        ({"subject": {"reference": "Group/g-1"}}, Reason.SUBJECT_NOT_A_PATIENT),
        ({"subject": {"identifier": {"value": "1"}}}, Reason.UNRESOLVED_SUBJECT),
        ({"subject": {"reference": "#contained"}}, Reason.UNRESOLVED_SUBJECT),
        ({"resourceType": "QuestionnaireResponse", "source": {"reference": "RelatedPerson/r-1"}}, Reason.NO_SUBJECT),
        ({"resourceType": "Encounter", "source": {"reference": "Patient/p-1"}}, Reason.NO_SUBJECT),
    ],
)
def test_resource_that_names_no_patient_says_why(resource: dict[str, Any], reason: Reason) -> None:
    """Nobody's course is changed by a resource that can't be told whose it is."""
    with pytest.raises(Unreadable) as caught:
        patient_id(resource, {}, "Encounter")

    assert (reason, "Encounter.subject") == (caught.value.reason, caught.value.path)


def test_response_without_subject_is_about_the_patient_who_answered() -> None:
    """`source` is who answered; only a Patient answers for themselves."""
    response = {"resourceType": "QuestionnaireResponse", "source": {"reference": "Patient/p-1"}}

    assert "p-1" == patient_id(response, {}, "QuestionnaireResponse")
