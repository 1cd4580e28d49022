"""What a delivery wrote at its destination, and the AuditEvent that tells of it.

Source: IHE Basic Audit Log Patterns (BALP), RESTful activities with the patient as a subject,
https://profiles.ihe.net/ITI/BALP/
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal, NamedTuple

from fhir.resources.R4B.auditevent import AuditEvent

from service.domain.course import COURSE_NAMESPACE, uuid5
from service.outbound.elements import AUTHOR, Element, instant, source_uri

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Action = Literal["create", "update", "delete"]
SUCCESS = "success"

_BALP = "https://profiles.ihe.net/ITI/BALP"
_BASIC_AUDIT = f"{_BALP}/StructureDefinition/IHE.BasicAudit"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_LETTERS: Mapping[Action, str] = {"create": "C", "update": "U", "delete": "D"}
_PROFILES: Mapping[Action, str] = {"create": "PatientCreate", "update": "PatientUpdate", "delete": "PatientDelete"}


class Write(NamedTuple):
    """One resource that a delivery created, updated or deleted, or failed to."""

    action: Action
    resource_type: str
    resource_id: str | None
    """None where the destination chooses ids and did not answer with one."""
    version: str | None
    """After the write; None where the destination names none, it was a delete, or it failed."""
    outcome: str = SUCCESS
    """`success`, or the reason code of what it failed with: without an answer it may have taken effect all the same."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One write, with all that its AuditEvent tells: never what the resource says."""

    at: datetime
    write: Write
    destination: str
    base: str | None
    """FHIR base URL of the destination, as far as it is known."""
    course_id: str
    source: str
    patient_id: str
    """In the source."""
    revision: str
    """The X-Request-Id that the write went out with."""
    row: int
    """Its number in the audit trail."""

    @property
    def id(self) -> str:
        """The id of its AuditEvent: the same whenever and by whomever it is told."""
        return uuid5(COURSE_NAMESPACE, f"audit/{self.course_id}/{self.destination}/{self.at.isoformat()}/{self.row}")


class Naming(Enum):
    """How an AuditEvent names the patient and what was written."""

    OUTSIDE = auto()
    """The patient by the source's identifier, what was written by its place: for a reader outside the EHR."""
    REFERENCES = auto()
    """Both by reference too: for the EHR, where both stand."""
    PATIENT = auto()
    """The patient by reference too; not what was written, which may be deleted, or was never there."""
    IDENTIFIERS = auto()
    """Neither by reference: for an EHR that may lack both."""


def audit_event(told: Audited, naming: Naming = Naming.OUTSIDE) -> Element:
    """Return the AuditEvent of a write, valid FHIR R4. The same write gives the same id."""
    write, action = told.write, told.write.action
    version = f"/_history/{write.version}" if write.version is not None else ""
    place = f"{write.resource_type}/{write.resource_id}{version}" if write.resource_id is not None else None
    resource: Element = {
        "resourceType": "AuditEvent",
        "id": told.id,
        # A server that has not loaded a profile refuses a resource that claims it.
        **({"meta": {"profile": [f"{_BASIC_AUDIT}.{_PROFILES[action]}"]}} if naming is Naming.OUTSIDE else {}),
        "type": {"system": f"{_TERMINOLOGY}/audit-event-type", "code": "rest", "display": "Restful Operation"},
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": action, "display": action}],
        "action": _LETTERS[action],
        "recorded": instant(told.at),
        **({"outcome": "0"} if write.outcome == SUCCESS else {"outcome": "8", "outcomeDesc": write.outcome}),
        "agent": [
            _agent("110153", "Source Role ID", AUTHOR, None),
            _agent("110152", "Destination Role ID", told.destination, told.base),
        ],
        "source": {
            "site": AUTHOR,
            "observer": {"display": AUTHOR},
            "type": [{"system": f"{_TERMINOLOGY}/security-source-type", "code": "4", "display": "Application Server"}],
        },
        "entity": [
            _entity("1", "Person", "1", "Patient", _patient(told, naming)),
            _entity("2", "System Object", "4", "Domain Resource", _what(write.resource_type, place, naming)),
            {
                "what": {"identifier": {"value": told.revision}},
                "type": {"system": f"{_BALP}/CodeSystem/BasicAuditEntityType", "code": "XrequestId"},
            },
        ],
    }
    AuditEvent.model_validate(resource)
    return resource


def _what(kind: str, place: str | None, naming: Naming) -> Element:
    if place is None:
        return {"type": kind, "display": "under an id that was not told"}
    if naming in {Naming.OUTSIDE, Naming.REFERENCES}:
        return {"reference": place}
    return {"type": kind, "identifier": {"value": place}}


def _patient(told: Audited, naming: Naming) -> Element:
    """Return which patient it is: the source knows its own identifier, whatever the destination calls them."""
    reference = f"Patient/{told.patient_id}"
    who: Element = {"type": "Patient", "identifier": {"system": source_uri(told.source), "value": reference}}
    return {"reference": reference} | who if naming in {Naming.REFERENCES, Naming.PATIENT} else who


def _agent(code: str, display: str, who: str, address: str | None) -> Element:
    agent: Element = {
        "type": {"coding": [{"system": _DCM, "code": code, "display": display}]},
        "who": {"display": who},
        "requestor": address is None,
    }
    return agent if address is None else agent | {"network": {"address": address, "type": "5"}}


def _entity(type_code: str, type_display: str, role_code: str, role_display: str, what: Element) -> Element:
    return {
        "what": what,
        "type": {"system": f"{_TERMINOLOGY}/audit-entity-type", "code": type_code, "display": type_display},
        "role": {"system": f"{_TERMINOLOGY}/object-role", "code": role_code, "display": role_display},
    }
