"""Azure Health Data Services: its events by name, as CloudEvents, in Event Grid's schema, or their data alone.

Source: Azure Health Data Services, "Events schema and message structure".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.inbound.changes import Change, Operation
from service.inbound.envelopes.document import object_of, text_of
from service.inbound.envelopes.held import operation
from service.inbound.records import Reason, Unreadable
from service.inbound.references import named, resource_id
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.inbound.envelopes.document import Document

_TYPES = ("Microsoft.HealthcareApis.FhirResource", "Microsoft.Health.FhirResource")
_OTHERS = "Microsoft.HealthcareApis."
"""Of its other services, as DICOM: no FHIR resource changed."""
_HANDSHAKE = "Microsoft.EventGrid.SubscriptionValidationEvent"


def event(document: Document) -> list[Change | Unreadable] | None:
    """Open an event of either schema, or the data of one."""
    content = document.content
    if "resourceFhirId" in content:
        return [_change(content, Operation.UPDATE, None, document, document.path)]
    kind = text_of(content.get("eventType") or content.get("type"))
    if kind == _HANDSHAKE:
        return []
    if not is_azure(kind):
        return [] if kind.startswith(_OTHERS) else None
    return named_by(content, object_of(content.get("data")), document)


def is_azure(kind: str) -> bool:
    """Return whether the type of an event is one of Azure's FHIR service."""
    return kind.startswith(_TYPES)


def named_by(attributes: Mapping[str, Any], data: Mapping[str, Any], document: Document) -> list[Change | Unreadable]:
    """Return the change that an event's attributes and data amount to. Raises Unreadable: unknown-envelope, no-id."""
    name = "eventType" if "eventType" in attributes else "type"
    kind = text_of(attributes.get(name))
    happened = operation(
        next(kind.removeprefix(each) for each in _TYPES if kind.startswith(each)), document.path + name
    )
    if not data:
        place = named(attributes.get("subject"))
        data = {} if place is None else {"resourceType": place.resource_type, "resourceFhirId": place.resource_id}
    time = attributes.get("eventTime") or attributes.get("time")
    return [_change(data, happened, time, document, f"{document.path}data.")]


def _change(data: Mapping[str, Any], happened: Operation, time: object, document: Document, path: str) -> Change:
    resource_type, identity = text_of(data.get("resourceType")), resource_id(data.get("resourceFhirId"))
    if not resource_type or not identity:
        raise Unreadable(Reason.NO_ID, f"{path}resourceFhirId")
    version = data.get("resourceVersionId")
    return Change(
        resource_type,
        identity,
        happened,
        None,
        f"{path}resourceFhirId",
        None if version is None else str(version),
        parse_time(time, document.source.time_zone),
    )
