"""Records as files hold them: a value alone, or with its key and headers, one or many in a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import replace

from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from service.inbound.records import Record

_WRITTEN = frozenset({"topic", "partition", "offset", "timestamp", "key", "headers", "value"})
_KCAT = frozenset({"topic", "partition", "offset", "tstype", "ts", "broker", "key", "headers", "payload"})
"""Names in the lines of `kcat -J`."""


def records_in(content: bytes, default: Record, zone: ZoneInfo, most: int | None = None) -> Iterator[Record]:
    """Yield the records that a file holds; what they don't say of themselves is as in `default`.

    A file is one record's value, or a record written as `{"key", "headers", "value", …}` or as `kcat -J`
    writes it, or a line of either for each record. `headers` is an object, or a list of names and values;
    `value` is JSON of any shape, or a string that is taken as it is. With `most`, NDJSON that is longer (bytes)
    is a record for each line, as a file of a bulk export is.
    """
    lines = [content]
    if _record(content, default, zone) is None:
        lines = [line for line in content.splitlines() if line.strip()]
        long = most is not None and len(content) > most and len(lines) > 1 and lines[0].lstrip().startswith(b"{")
        if not lines or not (long or _record(lines[0], default, zone)):
            yield replace(default, value=content)
            return
    for offset, line in enumerate(lines):
        found = _record(line, replace(default, offset=offset), zone)
        yield found or replace(default, offset=offset, value=line)


def _record(text: bytes, default: Record, zone: ZoneInfo) -> Record | None:
    """Return the record that a text writes out, None for a text that does not."""
    if not text.lstrip().startswith(b"{"):
        return None
    try:
        written = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    names = written.keys()
    if "value" in names and "headers" in names and names <= _WRITTEN:
        value, time = written["value"], parse_time(written.get("timestamp"), zone)
    elif {"payload", "offset", "topic"} <= names <= _KCAT:
        value, time = written["payload"], _from_milliseconds(written.get("ts"))
    else:
        return None
    return replace(
        default,
        topic=str(written.get("topic", default.topic)),
        offset=_whole(written.get("offset"), default.offset),
        partition=_whole(written.get("partition"), default.partition),
        timestamp=time or default.timestamp,
        key=_bytes(written.get("key")),
        value=_bytes(value),
        headers=default.headers + tuple(_headers(written.get("headers"))),
    )


def _headers(written: object) -> Iterator[tuple[str, bytes | None]]:
    if isinstance(written, dict):
        yield from ((name, _bytes(value)) for name, value in written.items())
    elif isinstance(written, list):
        pairs: list[Any] = written if all(isinstance(each, list) for each in written) else _paired(written)
        yield from ((str(pair[0]), _bytes(pair[1])) for pair in pairs if len(pair) == 2)  # noqa: PLR2004 - name and value


def _paired(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=False))


def _bytes(value: object) -> bytes | None:
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def _from_milliseconds(value: object) -> datetime | None:
    return datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int) else None
