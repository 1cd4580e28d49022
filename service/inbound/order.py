"""Order: how new a change is, from what its resource says, else its envelope, else its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from service.domain.facts import UNVERSIONED, OrderKey
from service.inbound.changes import Operation
from service.inbound.records import Reason, Unreadable
from service.inbound.times import microseconds, parse_time

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from service.inbound.changes import Change

_LONGEST_VERSION = 18
"""Digits that fit the database's 64-bit integers."""


def order_of(change: Change, record_time: datetime, zone: ZoneInfo) -> OrderKey:
    """Return the order key of a change, with no digest: for a marker it is complete.

    Raises Unreadable (bad-time) if `meta.lastUpdated` is there and is no time: a guess could let an
    older version win.
    """
    meta = change.resource.get("meta") if change.resource is not None else None
    version, updated = change.version_id, change.last_updated
    if isinstance(meta, dict):
        version = meta.get("versionId") or version
        if written := meta.get("lastUpdated"):
            updated = parse_time(written, zone)
            if updated is None:
                raise Unreadable(Reason.BAD_TIME, f"{change.path}.meta.lastUpdated")
    deleted = change.operation is Operation.DELETE
    return OrderKey(microseconds(updated or record_time), _number(version), deleted, digest="")


def dated(change: Change, record_time: datetime, zone: ZoneInfo) -> Change:
    """Return a change with the version and the time that its resource gives, else its envelope, else its record."""
    meta = change.resource.get("meta") if change.resource is not None else None
    written = meta if isinstance(meta, dict) else {}
    version = written.get("versionId")
    return replace(
        change,
        version_id=version if isinstance(version, str) and version else change.version_id,
        last_updated=parse_time(written.get("lastUpdated"), zone) or change.last_updated or record_time,
    )


def _number(version: object) -> int:
    text = str(version).strip() if isinstance(version, (str, int)) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_VERSION else UNVERSIONED
