"""Synthetic encounters, as FHIR R4 resources in the shape that EHRs send."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from service.sandbox.events import local

if TYPE_CHECKING:
    from datetime import datetime

    from service.sandbox.events import Resource

_SNOMED_CT = "http://snomed.info/sct"
_ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
_CPT = "http://www.ama-assn.org/go/cpt"

IPT = {"system": _SNOMED_CT, "code": "443730003", "display": "Interpersonal psychotherapy"}
PSYCHOTHERAPY_45 = {"system": _CPT, "code": "90834", "display": "Psychotherapy, 45 minutes"}
PSYCHOTHERAPY_60 = {"system": _CPT, "code": "90837", "display": "Psychotherapy, 60 minutes"}
GROUP = {"system": _SNOMED_CT, "code": "76168009", "display": "Group psychotherapy"}
EVALUATION = {"system": _CPT, "code": "90791", "display": "Psychiatric diagnostic evaluation"}
CRISIS = {"system": _CPT, "code": "90839", "display": "Psychotherapy for crisis, first 60 minutes"}
OFFICE_VISIT = {"system": _CPT, "code": "99213", "display": "Office visit, established patient"}

_DID_NOT_ATTEND = {"system": _SNOMED_CT, "code": "281399006", "display": "Did not attend"}
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_AMBULATORY = {"system": _ACT_CODE, "code": "AMB", "display": "ambulatory"}
_VIRTUAL = {"system": _ACT_CODE, "code": "VR", "display": "virtual"}


@dataclass(frozen=True, slots=True)
class Visit:
    """What stays the same over the versions of one encounter."""

    encounter_id: str
    patient_id: str
    practitioner: str
    """Id of the practitioner."""
    code: dict[str, str]
    condition: str | None = None
    """Id of the condition that it addresses."""
    telehealth: bool = False
    reason: str | None = None
    """ICD-10-CM code of the reason for it."""

    @property
    def reference(self) -> str:
        """`Encounter/id`."""
        return f"Encounter/{self.encounter_id}"

    def planned(self, start: datetime) -> Resource:
        """Return the booking."""
        return self._version("planned", {"start": local(start)})

    def in_progress(self, start: datetime) -> Resource:
        """Return the encounter as it begins."""
        return self._version("in-progress", {"start": local(start)})

    def finished(self, start: datetime, minutes: float) -> Resource:
        """Return the encounter as it was held."""
        return self._version("finished", {"start": local(start), "end": local(start + timedelta(minutes=minutes))})

    def cancelled(self, start: datetime) -> Resource:
        """Return the booking, called off."""
        return self._version("cancelled", {"start": local(start)})

    def missed(self, start: datetime) -> Resource:
        """Return the booking to which the patient did not come."""
        return self._version("cancelled", {"start": local(start)}) | {"reasonCode": [{"coding": [_DID_NOT_ATTEND]}]}

    def entered_in_error(self, start: datetime) -> Resource:
        """Return the encounter, taken back."""
        return self._version("entered-in-error", {"start": local(start)})

    def _version(self, status: str, period: dict[str, str]) -> Resource:
        resource: Resource = {
            "resourceType": "Encounter",
            "id": self.encounter_id,
            "status": status,
            "class": _VIRTUAL if self.telehealth else _AMBULATORY,
            "type": [{"coding": [self.code], "text": self.code["display"]}],
            "subject": {"reference": f"Patient/{self.patient_id}"},
            "participant": [{"individual": {"reference": f"Practitioner/{self.practitioner}"}}],
            "period": period,
        }
        if self.reason is not None:
            resource["reasonCode"] = [{"coding": [{"system": _ICD_10_CM, "code": self.reason}]}]
        if self.condition is not None:
            resource["diagnosis"] = [{"condition": {"reference": f"Condition/{self.condition}"}}]
        return resource
