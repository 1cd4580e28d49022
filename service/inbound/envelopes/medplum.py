"""Medplum: a resource as it is, and headers that say what happened. Source: Medplum, "Subscriptions"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inbound.changes import Operation
from service.inbound.envelopes.document import Event
from service.inbound.envelopes.held import changes, operation
from service.inbound.records import Reason, Unreadable
from service.inbound.references import named

if TYPE_CHECKING:
    from service.inbound.envelopes.document import Document, Found

_DELETED = "x-medplum-deleted-resource"
_INTERACTION = "x-medplum-interaction"
_SUBSCRIPTION = "x-medplum-subscription"


def delivery(document: Document) -> Found | None:
    """Open a resource with Medplum's headers; a delete's body is `{}`."""
    headers = document.headers
    if _DELETED in headers:
        place = named(headers[_DELETED])
        if place is None:
            raise Unreadable(Reason.NO_ID, _DELETED)
        return changes(Event(Operation.DELETE, place), None, document, f"{document.path}headers")
    if _INTERACTION not in headers and _SUBSCRIPTION not in headers:
        return None
    happened = operation(headers.get(_INTERACTION, "update"), _INTERACTION)
    resource_type = document.content.get("resourceType")
    path = document.path + (resource_type if isinstance(resource_type, str) else "resource")
    return changes(Event(happened, None), document.content, document, path)
