"""HAPI FHIR and Smile CDR: a message of their broker, its resource as a JSON string.

Source: HAPI FHIR, `ResourceModifiedJsonMessage` and `ResourceDeliveryJsonMessage`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inbound.envelopes.document import Event, object_of
from service.inbound.envelopes.held import changes, operation
from service.inbound.references import named

if TYPE_CHECKING:
    from service.inbound.envelopes.document import Document, Found


_OWN = frozenset({"payload", "payloadId", "resourceId"})


def message(document: Document) -> Found | None:
    """Open `{"headers": …, "payload": {"operationType", "resourceId", "payload"}}`, or its payload alone."""
    payload, path = object_of(document.content.get("payload")), f"{document.path}payload."
    if "operationType" not in payload:
        payload, path = document.content, document.path
    if "operationType" not in payload or payload.keys().isdisjoint(_OWN):
        return None
    place = named(payload.get("resourceId")) or named(payload.get("payloadId"))
    event = Event(operation(payload["operationType"], f"{path}operationType"), place)
    return changes(event, payload.get("payload"), document, f"{path}payload")
