"""CloudEvents: in structured mode one JSON object, in binary mode the data with attributes in headers.

Source: CloudEvents 1.0, "Kafka Protocol Binding" and "JSON Event Format".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from service.inbound.changes import Operation
from service.inbound.envelopes import azure
from service.inbound.envelopes.document import Event, object_of, text_of
from service.inbound.envelopes.held import OPERATIONS, changes
from service.inbound.references import named
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.inbound.envelopes.document import Document, Found

_REQUIRED = ("specversion", "type", "source")
_PREFIX = "ce_"
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def structured(document: Document) -> Found | None:
    """Open an event that is one JSON object."""
    content = document.content
    if not all(name in content for name in _REQUIRED):
        return None
    name = "data_base64" if "data_base64" in content else "data"
    return _changes(content, content.get(name), document, document.path + name)


def binary(document: Document) -> Found | None:
    """Open data whose event stands in the headers."""
    attributes = attributes_of(document.headers)
    if not attributes:
        return None
    resource_type = document.content.get("resourceType")
    path = document.path + (resource_type if isinstance(resource_type, str) else "data")
    return _changes(attributes, document.content, document, path)


def attributes_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that headers in binary mode give; none where they are of no event."""
    if "ce_type" not in headers and "ce_specversion" not in headers:
        return {}
    return {name.removeprefix(_PREFIX): value for name, value in headers.items() if name.startswith(_PREFIX)}


def event_of(attributes: Mapping[str, Any], document: Document) -> Event:
    """Return what an event's attributes say: its type's last word that is one of a change, else an update."""
    words = [word.lower() for word in _WORD.findall(text_of(attributes.get("type")))]
    happened = next((OPERATIONS[word] for word in reversed(words) if word in OPERATIONS), Operation.UPDATE)
    return Event(
        happened, named(attributes.get("subject")), parse_time(attributes.get("time"), document.source.time_zone)
    )


def _changes(attributes: Mapping[str, Any], data: object, document: Document, path: str) -> Found:
    if azure.is_azure(text_of(attributes.get("type"))):
        return azure.named_by(attributes, object_of(data), document)
    return changes(event_of(attributes, document), data, document, path)
