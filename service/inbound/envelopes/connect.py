"""Kafka Connect: what its JsonConverter wraps with a schema. Source: Apache Kafka, `JsonConverter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inbound.changes import Operation
from service.inbound.envelopes.document import Event
from service.inbound.envelopes.held import changes

if TYPE_CHECKING:
    from service.inbound.envelopes.document import Document, Found

_WRAPPER = frozenset({"schema", "payload"})


def wrapped(document: Document) -> Found | None:
    """Open `{"schema", "payload"}` around a resource or a Bundle, be it an object or a string."""
    content = document.content
    if content.keys() != _WRAPPER or content["payload"] is None:
        return None
    return changes(Event(Operation.UPDATE, None), content["payload"], document, f"{document.path}payload")
