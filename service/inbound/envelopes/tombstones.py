"""Records without value: a delete of what the key, or the headers, name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from service.inbound.changes import Change, Operation
from service.inbound.records import Reason, Unreadable
from service.inbound.references import named, resource_id
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.inbound.records import Record, SourceContext

_NAMING = ("ce_subject", "x-medplum-deleted-resource")


def tombstone(record: Record, source: SourceContext, headers: Mapping[str, str]) -> list[Change | Unreadable]:
    """Return the deletes that a record without value stands for, of what its key and its headers name.

    They may name two, as a resource and its patient. Raises Unreadable: unknown-key.
    """
    time = parse_time(headers.get("ce_time"), source.time_zone)
    text = (record.key or b"").decode(errors="replace").strip()
    found: dict[str, Change] = {}
    for path, place in (("key", named(text)), *((f"headers.{name}", named(headers.get(name))) for name in _NAMING)):
        if place is None:
            continue
        change = Change(place.resource_type, place.resource_id, Operation.DELETE, None, path, last_updated=time)
        if found.setdefault(place.resource_type, change).resource_id != place.resource_id:
            raise Unreadable(Reason.UNKNOWN_KEY)
    return list(found.values()) or [_by_other_keys(text, record, source)]


def _by_other_keys(text: str, record: Record, source: SourceContext) -> Change:
    """Return the delete of what a key names in JSON, or by an id whose type the settings give."""
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
