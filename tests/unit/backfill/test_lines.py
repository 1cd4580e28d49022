"""Lines out of chunks: the same lines however the bytes come, packed or not, and never more held than one."""

from __future__ import annotations

import gzip
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.backfill import lines as module
from service.backfill.lines import Line, Lines
from service.backfill.portions import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TEXTS = st.lists(st.binary(max_size=40).filter(lambda text: b"\n" not in text and text == text.strip()), max_size=12)
PACKINGS = st.sampled_from(
    [
        bytes,
        gzip.compress,
        lambda text: gzip.compress(text[: len(text) // 2]) + gzip.compress(text[len(text) // 2 :]),
        lambda text: gzip.compress(text) + bytes(512),
    ]
)


def read(chunks: Iterable[bytes], *, skip: int = 0, most: int = 1000) -> list[Line]:
    """Return the lines of a file that comes in these chunks."""
    lines = Lines(skip, most)
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    return [*found, *lines.finish()]


def texts(lines: Iterable[Line]) -> list[bytes]:
    """Return the lines that say something."""
    return [line.text for line in lines if line.text]


def cut(content: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the content in chunks that end at these places."""
    bounds = [0, *sorted({place % (len(content) + 1) for place in places}), len(content)]
    return [content[start:end] for start, end in pairwise(bounds)]


@settings(deadline=None)
@given(written=TEXTS, packing=PACKINGS, places=st.lists(st.integers(0, 10_000), max_size=8), ended=st.booleans())
def test_lines_are_the_same_however_they_come(
    written: Sequence[bytes], packing: object, places: Sequence[int], *, ended: bool
) -> None:
    """In any chunks, packed in any way, with a line end behind the last or without."""
    content = b"{}\n" + b"\n".join(written) + (b"\n" if ended else b"")
    assert callable(packing)
    chunks = cut(packing(content), places)
    assert [b"{}", *filter(None, written)] == texts(read(chunks))


@settings(deadline=None)
@given(written=TEXTS, packing=PACKINGS, place=st.integers(0, 12))
def test_reading_goes_on_after_any_line(written: Sequence[bytes], packing: object, place: int) -> None:
    """What was read before a run ended, and what the next one reads, are the whole."""
    assert callable(packing)
    content = packing(b"{}\n" + b"\n".join(written))
    whole = read([content])
    before = whole[: place % (len(whole) + 1)]
    rest = read(cut(content, [7]), skip=before[-1].end if before else 0)
    assert texts(whole) == texts([*before, *rest])


def test_windows_line_ends_and_empty_lines_are_no_content() -> None:
    """Nor is a byte order mark a reason to see another number of lines."""
    assert [b"\xef\xbb\xbf{}", b"[1]"] == texts(read([b"\xef\xbb\xbf{}\r\n\r\n  \n[1]\r\n"]))


def test_document_over_several_lines_is_one() -> None:
    """As people and some exporters write a Bundle."""
    document = b'{\n  "resourceType": "Bundle"\n}\n'
    assert [document.strip()] == texts(read(cut(document, [3, 9])))


def test_line_that_is_too_long_keeps_its_beginning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much that it is parked as too large; the lines around it are read."""
    monkeypatch.setattr(module, "LONGEST_LINE", 100)
    long = b'{"a":"' + b"x" * 5_000 + b'"}'
    found = texts(read(cut(b"{}\n" + long + b"\n[2]", range(0, 5_000, 64)), most=50))
    assert [b"{}", long[:51], b"[2]"] == found


def test_line_within_what_is_held_is_kept_whole() -> None:
    """Though it is more than may be read: a person may raise that limit, and try it again."""
    long = b"x" * 5_000
    assert [b"{}", long] == texts(read([b"{}\n" + long], most=50))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"{}\n" * 1000, mtime=0)[:-9], "middle of its gzip"),
        (gzip.compress(b"{}\n", mtime=0) + b"rubbish", "damaged"),
        ("{}\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_file_that_can_not_be_read_says_so(content: bytes, what: str) -> None:
    """Rather than ending early, or as a thousand lines that say nothing."""
    with pytest.raises(Refusal, match=what):
        read([content])


def test_small_file_may_unpack_to_a_large_one() -> None:
    """Of which no more than a piece is held at a time."""
    content = gzip.compress(b'{"resourceType":"Basic"}\n' * 200_000)
    lines = Lines(0, 1000)
    assert 200_000 == sum(1 for line in lines.feed(content) if line.text) + len(list(lines.finish()))
