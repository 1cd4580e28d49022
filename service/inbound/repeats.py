"""Keys that stand twice in one JSON object: which of the two counts, nobody can tell.

Parsers keep the last one and say nothing. `"status":"cancelled","status":"finished"` would be a session for one
program and none for another; so what is ours and has such an object is not read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from service.inbound.changes import Change
from service.inbound.documents import load, utf8, without_nul
from service.inbound.envelopes.held import decoded_text
from service.inbound.records import Reason, Unreadable
from service.inbound.relevance import READ_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.inbound.records import Limits

_ESCAPED_COLON = b"\\u003"
"""Begins the escape of a colon, among others."""


class _Twice(dict[str, Any]):
    """An object with a key that stands twice."""


def may_repeat(text: bytes, content: object) -> bool:
    """Return whether an object of a text, of which `content` was made, may have a key twice; False is certain.

    What a parser drops takes the colon of its key with it; those within strings stand in both texts.
    """
    return text.count(b":") != orjson.dumps(content).count(b":") or _ESCAPED_COLON in text


def without_repeats(
    changes: Sequence[Change | Unreadable], value: bytes | None, limits: Limits
) -> Sequence[Change | Unreadable]:
    """Return the changes of a record's value; those in doubt, since a key stands twice, as Unreadable (duplicate-key).

    A key that stands twice around the resources, and not in one, puts all of them in doubt.
    """
    if value is None:
        return changes
    try:
        text = utf8(value, limits)
    except Unreadable:
        return changes
    if len(changes) == 1 and isinstance(changes[0], Change) and not may_repeat(text, changes[0].resource):
        return changes
    doubtful: list[Mapping[str, Any]] = []
    for document in _documents(text, limits):
        found = _doubtful(json.loads(without_nul(document), object_pairs_hook=_object))
        if found is None:
            return [_refused(each) for each in changes]
        doubtful += found
    if not doubtful:
        return changes
    told = [_refused(each) if _is_in_doubt(each, doubtful) else each for each in changes]
    # Numbers beyond 64 bits, say, are not the same to both parsers: then none is told apart.
    return told if told != list(changes) else [_refused(each) for each in changes]


def _documents(text: bytes, limits: Limits) -> Iterator[bytes]:
    """Yield the JSON texts of a record that may repeat a key: the record, its lines, or what a string in it holds."""
    try:
        content = load(text, limits)
    except Unreadable:
        for line in text.splitlines():
            if line.strip():
                try:
                    content = load(line, limits)
                except Unreadable:
                    continue
                if may_repeat(line, content):
                    yield line
        return
    if may_repeat(text, content):
        yield text
    yield from _held(content, limits)


def _held(content: object, limits: Limits) -> Iterator[bytes]:
    """Yield the JSON texts that may repeat a key within strings of an envelope; not those of resources."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += () if "resourceType" in value else value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            text = (value if value.lstrip()[:1] == "{" else decoded_text(value)).encode()
            if not text.lstrip().startswith(b"{"):
                continue
            try:
                inner = load(text, limits)
            except Unreadable:
                continue
            if may_repeat(text, inner):
                yield text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else _Twice(pairs)


def _doubtful(document: object) -> list[Mapping[str, Any]] | None:
    """Return the resources of ours with a key that stands twice in them; None where one stands around them."""
    found: list[Mapping[str, Any]] = []
    waiting: list[tuple[object, Mapping[str, Any] | None]] = [(document, None)]
    while waiting:
        value, resource = waiting.pop()
        if isinstance(value, list):
            waiting += [(each, resource) for each in value]
        elif isinstance(value, dict):
            kind = value.get("resourceType")
            if resource is None and isinstance(kind, str) and kind != "Bundle":
                resource = value
            if isinstance(value, _Twice):
                if resource is None:
                    return None
                if resource["resourceType"] in READ_TYPES:
                    found.append(resource)
            waiting += [(each, resource) for each in value.values()]
    return found


def _is_in_doubt(change: Change | Unreadable, doubtful: Sequence[Mapping[str, Any]]) -> bool:
    return isinstance(change, Change) and change.resource is not None and change.resource in doubtful


def _refused(change: Change | Unreadable) -> Change | Unreadable:
    if isinstance(change, Unreadable) or change.resource_type not in READ_TYPES:
        return change
    problem = Unreadable(Reason.DUPLICATE_KEY, change.path)
    problem.resource_type = change.resource_type
    return problem
