"""Google Cloud Healthcare API: its Pub/Sub messages, attributes beside base64.

Source: Cloud Healthcare API, "FHIR Pub/Sub notifications".
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from service.inbound.envelopes.document import Event, text_of
from service.inbound.envelopes.held import changes, decoded_text, operation
from service.inbound.records import Reason, Unreadable
from service.inbound.references import named
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from service.inbound.changes import Change
    from service.inbound.envelopes.document import Document

_NAME_ONLY = "NameOnly"


def message(document: Document) -> list[Change | Unreadable] | None:
    """Open `{"message": {"attributes": {"action", "resourceType", …}, "data": base64}}`, or the message alone."""
    content, path = document.content, document.path
    wrapped = content.get("message")
    inner, path = (wrapped, f"{path}message.") if isinstance(wrapped, dict) else (content, path)
    attributes = inner.get("attributes")
    if not isinstance(attributes, dict) or "action" not in attributes:
        return None
    return _changes(attributes, inner.get("data"), document, path)


def _changes(
    attributes: Mapping[str, object], data: object, document: Document, path: str
) -> list[Change | Unreadable]:
    happened = operation(attributes["action"], f"{path}attributes.action")
    time = _time(text_of(attributes.get("lastUpdatedTime")), document)
    version = text_of(attributes.get("versionId")) or None
    held = data
    place = None
    if attributes.get("payloadType") == _NAME_ONLY:
        held = None
        text = text_of(data)
        place = named(decoded_text(text)) or named(text)
        if place is None:
            raise Unreadable(Reason.NO_ID, f"{path}data")
    return changes(Event(happened, place, time, version), held, document, f"{path}data")


def _time(text: str, document: Document) -> datetime | None:
    """Return a time as RFC 1123 writes it, or as FHIR does."""
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return parse_time(text, document.source.time_zone)
