"""What a Patient says of other patients who are the same person: nothing else of it is read.

Source: https://hl7.org/fhir/R4/patient.html#links
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.domain.facts import PatientReading
from service.inbound.codings import read_with_labels
from service.inbound.elements import many, one, text
from service.inbound.records import Reason, Unreadable
from service.inbound.references import is_elsewhere, target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from service.domain.facts import Code
    from service.inbound.elements import Element

REPLACED_BY, REPLACES = "replaced-by", "replaces"


def is_merged(patient: Element) -> bool:
    """Return whether a Patient says that it was merged with another. On raw JSON."""
    links = patient.get("link")
    return isinstance(links, list) and any(
        isinstance(each, dict) and each.get("type") in {REPLACED_BY, REPLACES} for each in links
    )


def is_replaced(patient: Element) -> bool:
    """Return whether a Patient says that another one is to be used instead. On raw JSON."""
    links = patient.get("link")
    return isinstance(links, list) and any(isinstance(each, dict) and each.get("type") == REPLACED_BY for each in links)


def read_patient(
    resource: Mapping[str, Any], local: Mapping[str, str], zone: ZoneInfo, path: str
) -> tuple[PatientReading, tuple[Code, ...]]:
    """Return the reading of a Patient and its security labels.

    Raises Unreadable: wrong-type; unresolved-link, where it can't be told who the other is.
    """
    reading, labels = read_with_labels(_reading, resource, local, zone, path)
    if "" in reading.replaced_by or "" in reading.replaces:
        raise Unreadable(Reason.UNRESOLVED_LINK, f"{path}.link")
    return reading, labels


def own_id(patient: Mapping[str, Any], resource_id: str, path: str, base: str | None) -> str:
    """Return the id of a Patient, whom its resource is about.

    Raises Unreadable (unresolved-link) where it was merged with a patient at an address outside the source's `base`.
    """
    links = [each for each in patient.get("link") or () if each.get("type") in {REPLACED_BY, REPLACES}]
    if base is not None and any(is_elsewhere(each.get("other"), base) for each in links):
        raise Unreadable(Reason.UNRESOLVED_LINK, f"{path}.link")
    return resource_id


def _reading(patient: Element, local: Mapping[str, str], _zone: ZoneInfo) -> PatientReading:
    found: dict[str, set[str]] = {REPLACED_BY: set(), REPLACES: set()}
    for link in many(patient, "link"):
        kind = text(link, "type")
        if kind in found:
            other = target(one(link, "other"), local, expected="Patient")
            found[kind].add(other.resource_id if other is not None and other.resource_type == "Patient" else "")
    own = {text(patient, "id")}
    return PatientReading(tuple(sorted(found[REPLACED_BY] - own)), tuple(sorted(found[REPLACES] - own)))
