"""LinuxForHealth FHIR Server (IBM FHIR Server): its notification events. Source: its User's Guide, section 4.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inbound.envelopes.document import Event
from service.inbound.envelopes.held import changes, operation
from service.inbound.references import named
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from service.inbound.envelopes.document import Document, Found


def event(document: Document) -> Found | None:
    """Open `{"lastUpdated", "location", "operationType", "resourceId", "resource"}`; a large resource is left out."""
    content, path = document.content, document.path
    if "operationType" not in content or "location" not in content:
        return None
    happened = Event(
        operation(content["operationType"], f"{path}operationType"),
        named(content["location"]),
        parse_time(content.get("lastUpdated"), document.source.time_zone),
    )
    return changes(happened, content.get("resource"), document, f"{path}resource")
