"""Bytes that are no record of ours are told apart by a reason code, whatever they are."""

from __future__ import annotations

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
        (b"<Encounter/>", Reason.NOT_JSON),
        (b'{"a": NaN}', Reason.NOT_JSON),
        (b'{"a": Infinity}', Reason.NOT_JSON),
        (b'{"a": 1e999}', Reason.NOT_JSON),
        (b'"\\ud800"', Reason.NOT_JSON),
        (b"]]]]", Reason.NOT_JSON),
        (b'{"a": "\xff"}', Reason.NOT_UTF8),
        ('{"a": "ü"}'.encode("latin-1"), Reason.NOT_UTF8),
        ('{"a": "ü"}'.encode("utf-16"), Reason.NOT_UTF8),
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


def test_byte_order_mark_is_left_out() -> None:
    """Some interface engines write one."""
    assert {"a": "ü"} == parse(b"\xef\xbb\xbf" + '{"a": "ü"}'.encode(), LIMITS)


def test_nul_characters_are_left_out_and_their_spelling_is_kept() -> None:
    """PostgreSQL takes no NUL; a backslash before the letters u0000 is no NUL."""
    assert {"a": "xy", "b": "\\u0000"} == parse(rb'{"a": "x\u0000y", "b": "\\u0000"}', LIMITS)


def test_last_of_duplicate_keys_counts() -> None:
    """As in nearly every parser; FHIR forbids them."""
    assert {"id": "2"} == parse(b'{"id": "1", "id": "2"}', LIMITS)
