"""Bytes that are no record of ours are told apart by a reason code, whatever they are."""

from __future__ import annotations

import gzip

import orjson
import pytest

from service.inbound.documents import parse
from service.inbound.records import Limits, Reason, Unreadable

LIMITS = Limits(bytes=2_000, depth=8)


def reason_of(value: bytes, limits: Limits = LIMITS) -> Reason:
    """Return why the bytes can't be parsed."""
    with pytest.raises(Unreadable) as caught:
        parse(value, limits)
    return caught.value.reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.EMPTY),
        (b" ", Reason.NOT_JSON),
        (b"{", Reason.NOT_JSON),
        (b"{}{}", Reason.NOT_JSON),
        (b'{"a": 1,}', Reason.NOT_JSON),
        (b"<Encounter/>", Reason.XML),
        (b'\xef\xbb\xbf\n<?xml version="1.0"?><Encounter/>', Reason.XML),
        (b"Obj\x01\x04\x16avro.schema", Reason.BINARY_FORMAT),
        (b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08\x02", Reason.BINARY_FORMAT),
        (b"\x00\x00\x00\x00\x07\x02\x0ases-1", Reason.BINARY_FORMAT),
        (b"\x1f\x8b\x08broken", Reason.NOT_JSON),
        (gzip.compress(b'{"a": 1}', mtime=0)[:-4], Reason.NOT_JSON),
        (gzip.compress(b'"' + b"x" * 2_000 + b'"', mtime=0), Reason.TOO_LARGE),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), Reason.NOT_UTF8),
        (b'{"a": NaN}', Reason.NOT_JSON),
        (b'{"a": Infinity}', Reason.NOT_JSON),
        (b'{"a": 1e999}', Reason.NOT_JSON),
        (b'"\\ud800"', Reason.NOT_JSON),
        (b"]]]]", Reason.NOT_JSON),
        (b'{"a": "\xff"}', Reason.NOT_UTF8),
        ('{"a": "ü"}'.encode("latin-1"), Reason.NOT_UTF8),
        (b"\xff\xfe" + '{"a": "ü"}'.encode("utf-16-le")[:-1], Reason.NOT_UTF8),
        (b'"' + b"x" * 2_000 + b'"', Reason.TOO_LARGE),
    ],
)
def test_bytes_that_are_no_json_have_a_reason(value: bytes, reason: Reason) -> None:
    """Neither the strictest nor the laxest JSON parser's reading: FHIR's."""
    assert reason == reason_of(value)


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 9 + b"]" * 9,
        b'{"a":' * 9 + b"1" + b"}" * 9,
        b'[{"a":' * 5 + b'"}]"' + b"}]" * 5,
        b'["\\"[", ' + b"[" * 8 + b"]" * 8 + b"]",
    ],
)
def test_deeper_nesting_than_allowed_is_not_parsed(value: bytes) -> None:
    """Quotes, escaped quotes and brackets within strings don't hide it."""
    assert Reason.TOO_DEEP == reason_of(value)


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 8 + b"]" * 8,
        b'["' + b"[" * 100 + b'"]',
        b'["\\"' + b"[" * 100 + b'", "", "\\\\"]',
        b"[" + b",".join([b'{"a":[]}'] * 100) + b"]",
    ],
)
def test_brackets_within_strings_and_side_by_side_are_no_depth(value: bytes) -> None:
    """Depth is that of the structure alone."""
    assert orjson.loads(value) == parse(value, LIMITS)


def test_nesting_that_would_exhaust_a_parser_is_told_apart_by_counting() -> None:
    """A million brackets are read by passes over the bytes, never by recursion."""
    value = b"[" * 1_000_000 + b"]" * 1_000_000

    assert Reason.TOO_DEEP == reason_of(value, Limits(bytes=3_000_000, depth=64))


@pytest.mark.parametrize(
    "value",
    [
        '{"a": "ü"}'.encode("utf-16"),
        '{"a": "ü"}'.encode("utf-16-le"),
        '{"a": "ü"}'.encode("utf-16-be"),
        gzip.compress('{"a": "ü"}'.encode(), mtime=0),
        gzip.compress('{"a": "ü"}'.encode("utf-16"), mtime=0),
        b"\0\0\0\0\x07" + '{"a": "ü"}'.encode(),
    ],
    ids=["UTF-16", "UTF-16 LE without mark", "UTF-16 BE without mark", "gzip", "gzip of UTF-16", "schema id"],
)
def test_packed_and_recoded_json_is_read(value: bytes) -> None:
    """What converters and interface engines make of UTF-8."""
    assert {"a": "ü"} == parse(value, LIMITS)


def test_limit_on_bytes_holds_for_what_is_unpacked() -> None:
    """A small record may unpack to a thousand times its size; no more than the limit is ever unpacked."""
    text = b'"' + b"x" * 1_998 + b'"'

    assert "x" * 1_998 == parse(gzip.compress(text), LIMITS)
    assert Reason.TOO_LARGE == reason_of(gzip.compress(b'"' + b"x" * 1_999 + b'"'))
    assert Reason.TOO_LARGE == reason_of(gzip.compress(b" " * 10_000_000), Limits(bytes=20_000))


def test_byte_order_mark_is_left_out() -> None:
    """Some interface engines write one."""
    assert {"a": "ü"} == parse(b"\xef\xbb\xbf" + '{"a": "ü"}'.encode(), LIMITS)


def test_nul_characters_are_left_out_and_their_spelling_is_kept() -> None:
    """PostgreSQL takes no NUL; a backslash before the letters u0000 is no NUL."""
    assert {"a": "xy", "b": "\\u0000"} == parse(rb'{"a": "x\u0000y", "b": "\\u0000"}', LIMITS)


def test_last_of_duplicate_keys_counts() -> None:
    """As in nearly every parser; FHIR forbids them."""
    assert {"id": "2"} == parse(b'{"id": "1", "id": "2"}', LIMITS)
