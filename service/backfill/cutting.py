"""Cutting: the values that an answer holds, each by itself, so that one that can't be read spoils no other.

A page is parsed as a whole where that loses nothing. Where it would, since some string is no text, some key stands
twice or something nests too deep, its values are cut out as the bytes that the server wrote, and judged alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from service.inbound.repeats import may_repeat

if TYPE_CHECKING:
    from collections.abc import Iterator

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + rb'|[\[\]{},"]', re.DOTALL)
_OPENING, _CLOSING, _QUOTE = frozenset(b"[{"), frozenset(b"]}"), ord('"')


class RepeatedKey(ValueError):  # noqa: N818 - it says what is there
    """An object has a key twice."""


@dataclass(frozen=True, slots=True)
class Value:
    """A JSON value of an answer."""

    content: object
    """As far as it can be read; None where it can't."""
    raw: bytes | None = None
    """As the server wrote it, where the content does not tell all; None: it does."""

    @property
    def text(self) -> bytes:
        """The value as JSON, its faults included."""
        return orjson.dumps(self.content) if self.raw is None else self.raw

    def member(self, name: str) -> Value | None:
        """Return the value of a key; None where there is none, or it stands twice."""
        if self.raw is None:
            found = self.content.get(name) if isinstance(self.content, dict) else None
            return None if found is None else Value(found)
        try:
            return value_of(members(self.raw)[name])
        except (ValueError, KeyError):
            return None


def value_of(text: bytes) -> Value:
    """Return the value that a text holds, with its text where a parser would drop or change something."""
    try:
        content = orjson.loads(text)
        return Value(content, text if may_repeat(text, content) else None)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    try:
        return Value(json.loads(text), text)  # more lenient: it takes halves of characters
    except (ValueError, RecursionError):
        return Value(None, text)


def members(text: bytes) -> dict[str, bytes]:
    """Return the texts of an object's values by their keys.

    Raises RepeatedKey for a key that stands twice, ValueError for what is no object.
    """
    found: dict[str, bytes] = {}
    for part in _parts(text, b"{"):
        key = _STRING.match(part)
        rest = part[key.end() :].lstrip() if key is not None else b""
        if key is None or not rest.startswith(b":"):
            raise ValueError("a part of it is no member of an object")
        name = orjson.loads(key[0])
        if name in found:
            raise RepeatedKey
        found[name] = rest[1:].strip()
    return found


def elements(text: bytes) -> list[bytes]:
    """Return the texts of a list's elements. Raises ValueError for what is no list."""
    return list(_parts(text, b"["))


def _parts(text: bytes, opening: bytes) -> Iterator[bytes]:
    """Yield what commas part within the outermost brackets; what is in a part need not be JSON."""
    text = text.strip()
    if not text.startswith(opening):
        raise ValueError("it is another kind of JSON")
    depth = start = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first == _QUOTE and token.end() - token.start() == 1:
            break
        if first in _OPENING:
            depth += 1
            start = token.end() if depth == 1 else start
        elif first in _CLOSING:
            depth -= 1
        if (depth == 0 or (depth == 1 and first == ord(","))) and (part := text[start : token.start()].strip()):
            yield part
        if depth == 0:
            if token.end() != len(text):
                break
            return
        start = token.end() if depth == 1 and first == ord(",") else start
    raise ValueError("its brackets or quotes do not match")
