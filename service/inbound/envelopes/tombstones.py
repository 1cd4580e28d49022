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

_NAMING_HEADERS = ("ce_subject", "x-medplum-deleted-resource")


def tombstone(record: Record, source: SourceContext, headers: Mapping[str, str]) -> Change:
    """Return the delete that a record without value stands for. Raises Unreadable: unknown-key."""
    for name in _NAMING_HEADERS:
        if (place := named(headers.get(name))) is not None:
            time = parse_time(headers.get("ce_time"), source.time_zone)
            return Change(
                place.resource_type, place.resource_id, Operation.DELETE, None, f"headers.{name}", last_updated=time
            )
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
