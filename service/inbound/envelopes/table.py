"""The table of dialects, and the opening of a record by it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from service.inbound.documents import load, utf8
from service.inbound.envelopes import (
    aidbox,
    azure,
    cloudevents,
    connect,
    firely,
    google,
    hapi,
    linuxforhealth,
    medplum,
    notifications,
    plain,
)
from service.inbound.envelopes.document import Document, Notice, Opened
from service.inbound.envelopes.tombstones import tombstone
from service.inbound.records import Reason, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.inbound.changes import Change
    from service.inbound.records import Limits, Record, SourceContext


class Dialect(NamedTuple):
    """One way of saying what happened."""

    title: str
    """For people."""
    recognise: Callable[[Document], Sequence[Change | Unreadable] | Opened | None]
    """Returns what a document of this dialect says, None for any other; raises Unreadable for one that is damaged."""


_BY_HEADERS = {
    "medplum": Dialect("Medplum, by headers", medplum.delivery),
    "cloudevents-binary": Dialect("CloudEvents, binary", cloudevents.binary),
}
PLAIN = "fhir"
"""Dialect of a resource as it is."""
_BY_CONTENT = {
    PLAIN: Dialect("FHIR resource", plain.resource),
    "fhir-notification": Dialect("FHIR Subscription notification", notifications.notification),
    "fhir-bundle": Dialect("FHIR Bundle", plain.bundle),
    "fhir-entry": Dialect("FHIR Bundle entry", plain.entry),
    "linuxforhealth": Dialect("LinuxForHealth FHIR Server event", linuxforhealth.event),
    "hapi": Dialect("HAPI FHIR or Smile CDR message", hapi.message),
    "azure": Dialect("Azure Health Data Services event", azure.event),
    "google": Dialect("Google Cloud Healthcare API message", google.message),
    "google-pull": Dialect("Google Cloud Pub/Sub pull", google.pulled),
    "firely": Dialect("Firely Server event", firely.event),
    "aidbox": Dialect("Aidbox notification", aidbox.wrapped),
    "cloudevents": Dialect("CloudEvents, structured", cloudevents.structured),
    "kafka-connect": Dialect("Kafka Connect, with schema", connect.wrapped),
}
DIALECTS: Mapping[str, Dialect] = MappingProxyType(_BY_HEADERS | _BY_CONTENT)
"""In order: the first that knows a document opens it. Those by headers are asked where a record has some."""
TOMBSTONE = "tombstone"
"""Dialect of a record without value."""

_LINES = object()
"""In place of the JSON that a value is, where each of its lines is one."""
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_BINARY_TYPES = ("avro", "protobuf", "x-proto")


def open_record(record: Record, source: SourceContext, limits: Limits) -> Opened:
    """Return what a record says happened, in its order: each Bundle entry, line and array element on its own.

    Never raises for what the record holds: what can't be opened is an Unreadable in its place.
    """
    try:
        headers = _readable(record) if record.headers else _NO_HEADERS
        if record.value is None:
            return Opened(TOMBSTONE, tombstone(record, source, headers))
        text = utf8(record.value, limits)
        content = _loaded(text, limits, headers)
        if isinstance(content, dict) and headers is _NO_HEADERS and source.envelope is None:
            # Most of a stream: nothing is made for it that only others need.
            alone = plain.as_it_is(content, "")
            if alone is not None:
                return Opened(PLAIN, alone)
        document = Document(content, record, source, limits, headers)
        if content is _LINES:
            return _all_opened(_lines(text, limits), document)
        if isinstance(content, list):
            return _all_opened(_elements(content, limits), document)
        return _opened(document)
    except Unreadable as problem:
        return Opened("", [problem])


def _loaded(text: bytes, limits: Limits, headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the JSON of a value, out of a string where it was written twice; `_LINES` for NDJSON."""
    content = google.from_headers(headers, text) if headers else None
    if content is not None:
        return content
    try:
        content = load(text, limits)
    except Unreadable as problem:
        if problem.reason is not Reason.NOT_JSON or not _in_lines(text):
            raise
        return _LINES
    if isinstance(content, str) and content.lstrip()[:1] in {"{", "["}:
        return load(content.encode(), limits)
    return content


def _readable(record: Record) -> Mapping[str, str]:
    """Return the headers that are text, by lower-case name. Raises Unreadable (binary-format) where they say so."""
    headers = {}
    for name, value in record.headers:
        if value is not None:
            try:
                headers[name.lower()] = value.decode()
            except UnicodeDecodeError:
                continue
    kind = headers.get("content-type") or headers.get("ce_datacontenttype") or ""
    if any(each in kind for each in _BINARY_TYPES):
        raise Unreadable(Reason.BINARY_FORMAT, "headers.content-type")
    return headers


def _opened(document: Document) -> Opened:
    content, envelope = document.content, document.source.envelope
    if not isinstance(content, dict):
        raise Unreadable(Reason.NOT_FHIR, document.path.rstrip(".") or None)
    if envelope is not None:
        asked: Mapping[str, Dialect] = {envelope: DIALECTS[envelope]}
    else:
        asked = DIALECTS if document.headers else _BY_CONTENT
    for name, dialect in asked.items():
        try:
            found = dialect.recognise(document)
        except Unreadable as problem:
            return Opened(name, [problem])
        if found is not None:
            return found._replace(dialect=name) if isinstance(found, Opened) else Opened(name, found)
    reason = Reason.UNKNOWN_ENVELOPE if envelope or _wraps_something(content) else Reason.NOT_FHIR
    raise Unreadable(reason, document.path.rstrip(".") or None)


def _all_opened(parts: Sequence[tuple[str, Any]], document: Document) -> Opened:
    """Open the parts of a record, each on its own."""
    dialects: dict[str, None] = {}
    changes: list[Change | Unreadable] = []
    notices: list[Notice] = []
    for path, content in parts:
        try:
            if isinstance(content, Unreadable):
                raise content
            opened = _opened(document._replace(content=content, path=f"{path}."))
        except Unreadable as problem:
            changes.append(problem)
            continue
        dialects[opened.dialect] = None
        changes += opened.changes
        notices += opened.notices
    return Opened(", ".join(dialects), changes, tuple(notices))


def _elements(content: list[Any], limits: Limits) -> list[tuple[str, object]]:
    if len(content) > limits.entries:
        raise Unreadable(Reason.TOO_MANY_ENTRIES)
    return [(f"[{index}]", each) for index, each in enumerate(content)]


def _in_lines(text: bytes) -> bool:
    """Return whether a text that is no JSON begins with a line that is an object: NDJSON."""
    first, newline, _ = text.lstrip().partition(b"\n")
    if not newline or not first.startswith(b"{"):
        return False
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    return True


def _lines(text: bytes, limits: Limits) -> list[tuple[str, object]]:
    """Return the documents of NDJSON by line, or what keeps a line from being one."""
    written = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(written) > limits.entries:
        raise Unreadable(Reason.TOO_MANY_ENTRIES)
    found: list[tuple[str, object]] = []
    for number, line in written:
        path = f"line[{number}]"
        try:
            found.append((path, load(line, limits)))
        except Unreadable as problem:
            found.append((path, Unreadable(problem.reason, path)))
    return found


def _wraps_something(content: Mapping[str, Any]) -> bool:
    """Whether an object without resourceType holds something that may be a resource or name one."""
    return any(isinstance(value, dict | list) for value in content.values())
