"""FHIR as it is: a resource, a Bundle, an entry without its Bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.inbound.bundles import is_notification, open_bundle, open_entry
from service.inbound.changes import Change, Operation
from service.inbound.envelopes.document import Event
from service.inbound.envelopes.held import changes, unpacked
from service.inbound.references import resource_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.inbound.envelopes.document import Document, Found
    from service.inbound.records import Unreadable

_ENTRY = frozenset({"resource", "fullUrl", "request", "response", "search", "link", "id", "extension"})
"""Elements of Bundle.entry: an object of these alone is one, whoever left the Bundle out."""


def resource(document: Document) -> list[Change | Unreadable] | None:
    """Open a resource as it is, but for a Bundle."""
    return as_it_is(document.content, document.path)


def as_it_is(content: Mapping[str, Any], path: str) -> list[Change | Unreadable] | None:
    """Return the change that a resource alone is, but for a Bundle; `path` is what stands before it."""
    resource_type = content.get("resourceType")
    if not isinstance(resource_type, str) or resource_type == "Bundle":
        return None
    identity = resource_id(content.get("id"))
    if not identity and "resourceFhirId" in content:
        return None  # Azure's event, without what is around it
    return [Change(resource_type, identity, Operation.UPDATE, content, path + resource_type)]


def bundle(document: Document) -> list[Change | Unreadable] | None:
    """Open a Bundle: collection, history, transaction, message, searchset."""
    if document.content.get("resourceType") != "Bundle" or is_notification(document.content):
        return None
    return list(open_bundle(document.content, document.source, document.limits, f"{document.path}Bundle"))


def entry(document: Document) -> Found | None:
    """Open a Bundle entry that stands alone: `{"resource": …}`, or with its request and no resource."""
    content = document.content
    if not content.keys() <= _ENTRY or not (content.get("resource") or content.get("request")):
        return None
    if content.get("resource"):
        held = unpacked(content["resource"], document.limits, f"{document.path}resource")
        if held.get("resourceType") == "Bundle":
            return changes(Event(Operation.UPDATE, None), held, document, f"{document.path}Bundle")
        content = {**content, "resource": held}
    change = open_entry(content, f"{document.path}entry", document.source)
    return [] if change is None else [change]
