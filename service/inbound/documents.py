"""Documents: from untrusted bytes to JSON, with every cap held before anything is parsed."""

from __future__ import annotations

import codecs
import re
import zlib
from typing import TYPE_CHECKING, Any

import orjson

from service.inbound.records import Reason, Unreadable

if TYPE_CHECKING:
    from service.inbound.records import Limits

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_BRACE = ord("{")
_SCHEMA_ID, _SCHEMA_ID_BYTES = b"\0", 5
"""Before the value where a schema registry is used: a zero and the four bytes of the schema's id."""
_BINARY = (_SCHEMA_ID, b"Obj\x01", b"\xc3\x01")
"""Before Avro and Protobuf of a schema registry, Avro's container files and its single objects."""
_NUL = re.compile(rb"\\u0000")
_ESCAPE = re.compile(rb"\\(?:u0000|.)", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_STRUCTURE = b'"[]{}'
_ALL_ELSE = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_ALL_BUT_OPENING = bytes(byte for byte in range(256) if byte not in b"[{")
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")


def parse(value: bytes, limits: Limits) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the JSON that the bytes hold; NUL characters are left out.

    Raises Unreadable: empty, too-large, too-deep, not-utf8, not-json, xml, binary-format.
    """
    return load(utf8(value, limits), limits)


def utf8(value: bytes, limits: Limits) -> bytes:
    """Return the text that the bytes hold, as UTF-8 without a byte order mark: gzip, UTF-16 and schema ids undone.

    Raises Unreadable: empty, too-large, not-utf8, not-json, xml, binary-format.
    """
    if not value:
        raise Unreadable(Reason.EMPTY)
    if len(value) > limits.bytes:
        raise Unreadable(Reason.TOO_LARGE)
    if value[0] == _BRACE and value[-1]:  # the last byte of `}` is zero in UTF-16
        return value
    if value.startswith(_GZIP):
        value = _unzipped(value, limits.bytes)
    value = _recoded(value.removeprefix(_BOM))
    if value.startswith(_SCHEMA_ID) and value[_SCHEMA_ID_BYTES:][:1] in {b"{", b"["}:
        return value[_SCHEMA_ID_BYTES:]  # a schema registry's own: JSON behind the id of its schema
    if value.startswith(_BINARY):
        raise Unreadable(Reason.BINARY_FORMAT)
    if value.lstrip()[:1] == b"<":
        raise Unreadable(Reason.XML)
    return value


def load(text: bytes, limits: Limits) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return the JSON that a text holds; NUL characters are left out.

    Raises Unreadable: too-deep, not-utf8, not-json.
    """
    text = without_nul(text)
    # Most texts open too few brackets to nest too deep, whatever is in strings.
    if len(text.translate(None, _ALL_BUT_OPENING)) > limits.depth and _deeper_than(limits.depth, text):
        raise Unreadable(Reason.TOO_DEEP)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Unreadable(Reason.NOT_JSON if _is_utf8(text) else Reason.NOT_UTF8) from None


def without_nul(text: bytes) -> bytes:
    """Return a JSON text without NUL characters: no FHIR string may hold one, and PostgreSQL takes none."""
    # Searching takes less time than `in` does.
    return _ESCAPE.sub(_kept, text) if _NUL.search(text) else text


def _unzipped(value: bytes, most: int) -> bytes:
    """Return what gzip packed, never unpacking more than `most` bytes."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = unpacker.decompress(value, most + 1)
    except zlib.error:
        raise Unreadable(Reason.NOT_JSON) from None
    if len(text) > most:
        raise Unreadable(Reason.TOO_LARGE)
    if not unpacker.eof or unpacker.unused_data:
        raise Unreadable(Reason.NOT_JSON)
    return text


def _recoded(value: bytes) -> bytes:
    """Return UTF-16 as UTF-8, anything else as it is."""
    if value.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif value[:2] in {b"\0{", b"\0["}:
        encoding = "utf-16-be"
    elif value[:2] in {b"{\0", b"[\0"}:
        encoding = "utf-16-le"
    else:
        return value
    try:
        return value.decode(encoding).encode()
    except UnicodeError:
        return value


def _kept(escape: re.Match[bytes]) -> bytes:
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
