"""What an envelope holds: the resource, the Bundle or the notification in it, however it is written."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from service.inbound.bundles import open_bundle
from service.inbound.changes import Change, Operation
from service.inbound.documents import parse
from service.inbound.envelopes.document import Opened
from service.inbound.envelopes.notifications import notification
from service.inbound.records import Reason, Unreadable
from service.inbound.references import resource_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.inbound.envelopes.document import Document, Event, Found
    from service.inbound.records import Limits

_URL_SAFE = str.maketrans("-_", "+/")

OPERATIONS = {
    "create": Operation.CREATE,
    "created": Operation.CREATE,
    "createresource": Operation.CREATE,
    "update": Operation.UPDATE,
    "updated": Operation.UPDATE,
    "updateresource": Operation.UPDATE,
    "patch": Operation.UPDATE,
    "patched": Operation.UPDATE,
    "patchresource": Operation.UPDATE,
    "manually_triggered": Operation.UPDATE,
    "transaction": Operation.UPDATE,
    "delete": Operation.DELETE,
    "deleted": Operation.DELETE,
    "deleteresource": Operation.DELETE,
    "removed": Operation.DELETE,
    "purged": Operation.DELETE,
}
"""The words of all dialects for what happened, in lower case."""


def operation(word: object, path: str) -> Operation:
    """Return what a dialect's word means. Raises Unreadable (unknown-envelope) for none of them."""
    found = OPERATIONS.get(word.strip().lower()) if isinstance(word, str) else None
    if found is None:
        raise Unreadable(Reason.UNKNOWN_ENVELOPE, path)
    return found


def changes(event: Event, held: object, document: Document, path: str) -> Found:
    """Return what an event amounts to: of the resource or Bundle that it holds, else of the resource it names.

    `held` may be an object, JSON as a string, or base64 of it; None if there is none.
    Raises Unreadable: no-id, wrong-type, not-fhir, and whatever keeps a string from being parsed.
    """
    if event.operation is Operation.DELETE:
        return [_deleted(event, held, document, path)]
    place = event.place
    if held is None:
        if place is None:
            raise Unreadable(Reason.NO_ID, path)
        return [_change(event, place.resource_type, place.resource_id, None, path)]
    content = unpacked(held, document.limits, path)
    resource_type = content.get("resourceType")
    if not isinstance(resource_type, str):
        raise Unreadable(Reason.NOT_FHIR, path)
    if resource_type == "Bundle":
        above = path.removesuffix("Bundle") if path.endswith("Bundle") else f"{path}."
        told = notification(document._replace(content=content, path=above))
        return told or list(open_bundle(content, document.source, document.limits, path))
    identity = resource_id(content.get("id"))
    if place is not None and not identity and place.resource_type == resource_type:
        identity = place.resource_id
    return [_change(event, resource_type, identity, content, path)]


def changes_of(found: Found) -> Sequence[Change | Unreadable]:
    """Return the changes alone of what was found."""
    return found.changes if isinstance(found, Opened) else found


def _deleted(event: Event, held: object, document: Document, path: str) -> Change:
    """Return the delete of what an event holds the state before of, else of what it names.

    What it names may be the patient of the resource, rather than the resource.
    """
    try:
        before = {} if held is None else unpacked(held, document.limits, path)
    except Unreadable:
        if event.place is None:
            raise
        before = {}
    resource_type, identity = before.get("resourceType"), resource_id(before.get("id"))
    if isinstance(resource_type, str) and identity:
        return _change(event, resource_type, identity, None, path)
    if event.place is None:
        raise Unreadable(Reason.NO_ID, path)
    return _change(event, event.place.resource_type, event.place.resource_id, None, path)


def _change(event: Event, resource_type: str, identity: str, resource: Mapping[str, Any] | None, path: str) -> Change:
    place = event.place
    named = place is not None and (place.resource_type, place.resource_id) == (resource_type, identity)
    version = event.version_id or (place.version_id if place is not None and named else None)
    return Change(resource_type, identity, event.operation, resource, path, version, event.time)


def unpacked(held: object, limits: Limits, path: str) -> Mapping[str, Any]:
    """Return the JSON object that an element holds, be it one, JSON as a string, or base64 of that.

    Raises Unreadable: wrong-type, and whatever keeps a string from being parsed.
    """
    if isinstance(held, str):
        text = held.strip()
        try:
            held = parse(text.encode() if text[:1] in {"{", "<", "[", ""} else _decoded(text), limits)
        except Unreadable as problem:
            raise Unreadable(problem.reason, path) from None
    if not isinstance(held, dict):
        raise Unreadable(Reason.WRONG_TYPE, path)
    return held


def _decoded(text: str) -> bytes:
    """Return what base64 stands for, in either alphabet, padded or not. Raises Unreadable (not-json) if it is none."""
    text = text.translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable(Reason.NOT_JSON) from None


def decoded_text(text: str) -> str:
    """Return the text that base64 stands for, or "" where it stands for none."""
    try:
        return _decoded(text).decode()
    except (Unreadable, UnicodeDecodeError):
        return ""
