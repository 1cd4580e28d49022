"""Google Cloud Healthcare API: its Pub/Sub messages, attributes beside base64.

Source: Cloud Healthcare API, "FHIR Pub/Sub notifications".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from service.inbound.envelopes.document import Event, text_of
from service.inbound.envelopes.held import changes, changes_of, decoded_text, operation
from service.inbound.records import Reason, Unreadable
from service.inbound.references import named
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from service.inbound.changes import Change
    from service.inbound.envelopes.document import Document, Found

_ATTRIBUTES = ("action", "payloadType", "lastUpdatedTime", "versionId")
_NAME_ONLY = "NameOnly"
_RFC_1123 = re.compile(
    r"[A-Z][a-z]{2}, (\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d\d:\d\d:\d\d) (?:GMT|UTC|Z|[+-]0000)", re.ASCII
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def message(document: Document) -> Found | None:
    """Open `{"message": {"attributes": {"action", "resourceType", …}, "data": base64}}`, or the message alone."""
    content, path = document.content, document.path
    wrapped = content.get("message")
    inner, path = (wrapped, f"{path}message.") if isinstance(wrapped, dict) else (content, path)
    attributes = inner.get("attributes")
    if not isinstance(attributes, dict) or "action" not in attributes:
        return None
    return _changes(attributes, inner.get("data"), document, path)


def pulled(document: Document) -> list[Change | Unreadable] | None:
    """Open what a pull answers: `{"receivedMessages": [{"message": …}]}`, each on its own."""
    listed = document.content.get("receivedMessages")
    if not isinstance(listed, list):
        return None
    if len(listed) > document.limits.entries:
        raise Unreadable(Reason.TOO_MANY_ENTRIES, f"{document.path}receivedMessages")
    found: list[Change | Unreadable] = []
    for index, each in enumerate(listed):
        path = f"{document.path}receivedMessages[{index}]"
        try:
            inner = document._replace(content=each if isinstance(each, dict) else {}, path=f"{path}.")
            found += changes_of(message(inner) or [Unreadable(Reason.UNKNOWN_ENVELOPE, path)])
        except Unreadable as problem:
            found.append(problem)
    return found


def from_headers(headers: Mapping[str, str], text: bytes) -> dict[str, object] | None:
    """Return the message whose attributes a connector has put into headers, and its data into the value."""
    if "action" not in headers or "payloadtype" not in headers:
        return None
    attributes = {name: headers.get(name.lower()) for name in _ATTRIBUTES}
    return {"attributes": attributes, "data": text.decode(errors="replace")}


def _changes(attributes: Mapping[str, object], data: object, document: Document, path: str) -> Found:
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
    """Return a time as RFC 1123 writes it, in UTC, or as FHIR does."""
    written = _RFC_1123.fullmatch(text)
    if written is not None and written[2] in _MONTHS:
        text = f"{written[3]}-{_MONTHS.index(written[2]) + 1:02}-{int(written[1]):02}T{written[4]}Z"
    return parse_time(text, document.source.time_zone)
