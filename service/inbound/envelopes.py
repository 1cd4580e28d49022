"""Envelopes: from a record to what it says happened to which resources.

A dialect is one recogniser in `RECOGNISERS`: a function that returns the changes of a document that is
of its kind, and None for any other. The first that knows a document opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from service.inbound.bundles import is_notification, open_bundle, open_entry
from service.inbound.changes import Change, Operation
from service.inbound.documents import parse
from service.inbound.records import Limits, Reason, Record, SourceContext, Unreadable
from service.inbound.references import named, resource_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Document(NamedTuple):
    """A record whose value is a JSON object."""

    content: Mapping[str, Any]
    record: Record
    source: SourceContext
    limits: Limits


Opened = list[Change | Unreadable]
Recogniser = Callable[[Document], Opened | None]

_ENTRY = frozenset({"resource", "fullUrl", "request", "response", "search", "link", "id", "extension"})
"""Elements of Bundle.entry: an object of these alone is one, whoever left the Bundle out."""


def open_record(record: Record, source: SourceContext, limits: Limits) -> Opened:
    """Return what a record says happened, in its order: each Bundle entry on its own.

    Never raises for what the record holds: what can't be opened is an Unreadable in its place.
    """
    try:
        if record.value is None:
            return [_tombstone(record, source)]
        return _opened(parse(record.value, limits), record, source, limits)
    except Unreadable as problem:
        return [problem]


def _opened(content: object, record: Record, source: SourceContext, limits: Limits) -> Opened:
    if not isinstance(content, dict):
        raise Unreadable(Reason.UNKNOWN_ENVELOPE if isinstance(content, list) else Reason.NOT_FHIR)
    document = Document(content, record, source, limits)
    for recogniser in RECOGNISERS:
        changes = recogniser(document)
        if changes is not None:
            return changes
    raise Unreadable(Reason.UNKNOWN_ENVELOPE if _wraps_something(content) else Reason.NOT_FHIR)


def _notification(document: Document) -> Opened | None:
    """A subscription notification names resources that its entries need not hold: no plain Bundle."""
    content = document.content
    if content.get("resourceType") != "Bundle" or not is_notification(content):
        return None
    raise Unreadable(Reason.UNKNOWN_ENVELOPE, "Bundle.type")


def _bundle(document: Document) -> Opened | None:
    """Open a Bundle: collection, history, transaction, message, searchset."""
    if document.content.get("resourceType") != "Bundle":
        return None
    return list(open_bundle(document.content, document.source, document.limits))


def _resource(document: Document) -> Opened | None:
    """Open a resource as it is, but for a Bundle."""
    content = document.content
    resource_type = content.get("resourceType")
    if not isinstance(resource_type, str) or resource_type == "Bundle":
        return None
    identity = resource_id(content.get("id"))
    return [Change(resource_type, identity, Operation.UPDATE, content, resource_type)]


def _wrapped(document: Document) -> Opened | None:
    """Open a Bundle entry that stands alone: `{"resource": …}`."""
    content = document.content
    resource = content.get("resource")
    if not isinstance(resource, dict) or not content.keys() <= _ENTRY:
        return None
    if resource.get("resourceType") == "Bundle":
        bundle = document._replace(content=resource)
        return _notification(bundle) or _bundle(bundle)
    change = open_entry(content, "entry", document.source)
    return [] if change is None else [change]


RECOGNISERS: Sequence[Recogniser] = (_resource, _notification, _bundle, _wrapped)
"""In order: the first that knows a document opens it."""


def _tombstone(record: Record, source: SourceContext) -> Change:
    """Return the delete that a record without value stands for: its key names the resource."""
    text = (record.key or b"").decode(errors="replace").strip()
    content: Any = text
    if text[:1] in {"{", '"'}:
        try:
            content = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise Unreadable(Reason.UNKNOWN_KEY) from None
    if isinstance(content, dict):
        resource_type, identity = content.get("resourceType"), resource_id(content.get("id"))
    elif (found := named(content)) is not None:
        resource_type, identity = found.resource_type, found.resource_id
    else:
        resource_type, identity = source.key_types.get(record.topic), resource_id(content)
    if not isinstance(resource_type, str) or not identity:
        raise Unreadable(Reason.UNKNOWN_KEY)
    return Change(resource_type, identity, Operation.DELETE, None, path="key")


def _wraps_something(content: Mapping[str, Any]) -> bool:
    """Whether an object without resourceType holds something that may be a resource or name one."""
    return any(isinstance(value, dict | list) for value in content.values())
