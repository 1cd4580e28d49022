"""Documents: from untrusted bytes to JSON, with every cap held before anything is parsed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from service.inbound.records import Reason, Unreadable

if TYPE_CHECKING:
    from service.inbound.records import Limits

_BOM = b"\xef\xbb\xbf"
_NUL = re.compile(rb"\\u0000")
_ESCAPE = re.compile(rb"\\(?:u0000|.)", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_STRUCTURE = b'"[]{}'
_ALL_ELSE = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_ALL_BUT_OPENING = bytes(byte for byte in range(256) if byte not in b"[{")
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")


def parse(value: bytes, limits: Limits) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the JSON that the bytes hold; a byte order mark and NUL characters are left out.

    Raises Unreadable: empty, too-large, too-deep, not-utf8, not-json.
    """
    if not value:
        raise Unreadable(Reason.EMPTY)
    if len(value) > limits.bytes:
        raise Unreadable(Reason.TOO_LARGE)
    value = value.removeprefix(_BOM)
    if _NUL.search(value):  # takes less time than `in` does
        # No FHIR string may hold NUL, and PostgreSQL takes none.
        value = _ESCAPE.sub(_without_nul, value)
    # Most values open too few brackets to nest too deep, whatever is in strings.
    if len(value.translate(None, _ALL_BUT_OPENING)) > limits.depth and _deeper_than(limits.depth, value):
        raise Unreadable(Reason.TOO_DEEP)
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise Unreadable(Reason.NOT_JSON if _is_utf8(value) else Reason.NOT_UTF8) from None


def _without_nul(escape: re.Match[bytes]) -> bytes:
    return b"" if escape[0] == b"\\u0000" else escape[0]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _deeper_than(limit: int, value: bytes) -> bool:
    """Return whether brackets outside strings nest deeper; what is not JSON may be answered either way.

    A few passes at C speed: escapes go, then all bytes but quotes and brackets, then strings. Each
    round takes the innermost layer off what is left, so that the depth is the number of rounds.
    """
    if b"\\" in value:
        value = _ESCAPE.sub(b"", value)
    # Taking out `""` never moves a bracket into or out of a string: it leaves the parity of quotes as it is.
    brackets = value.translate(_AS_SQUARE, _ALL_ELSE).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _STRING.sub(b"", brackets)
    for _ in range(limit):
        if not brackets:
            return False
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            return False
        brackets = outer
    return b"[]" in brackets
