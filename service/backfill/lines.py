"""Lines: NDJSON in chunks of any size, packed by gzip or not, one line held at a time.

Source: https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status (FHIR as newline-delimited JSON)
"""

from __future__ import annotations

import codecs
import zlib
from typing import TYPE_CHECKING, NamedTuple

from service.backfill.portions import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE = 64 * 1024 * 1024
"""Bytes of a line that are held; of a longer one its beginning, to be parked as too large."""
_UNPACKED_AT_ONCE = 1024 * 1024
_GZIP = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OPENINGS = frozenset({b"{", b"[", b"[{"})
"""First lines of a JSON document that is written over several lines."""


class Line(NamedTuple):
    """A line, and how many unpacked bytes end with it."""

    text: bytes
    end: int


class Lines:
    """Lines out of chunks. After `skip` unpacked bytes, which an earlier run has read up to the end of a line."""

    def __init__(self, skip: int, most: int) -> None:
        """`most` bytes may be read of a line. One more stays of a line that is too long to be held."""
        self._skip = skip
        self._longest = max(LONGEST_LINE, most)
        self._kept = most + 1
        self._start = b""
        self._begun = False
        self._unpacker: zlib._Decompress | None = None
        self._document: bool | None = None if skip == 0 else False
        self._parts: list[bytes] = []
        self._held = 0
        self._end = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that end in a chunk. Raises Refusal for what is damaged, or no UTF-8."""
        if not self._begun:
            self._start += chunk
            if len(self._start) < len(_GZIP):
                return
            chunk, self._begun = self._start, True
            if chunk.startswith(_GZIP):
                self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        for text in self._unpacked(chunk):
            yield from self._split(text)

    def finish(self) -> Iterator[Line]:
        """Yield the last line, if no line end follows it. Raises Refusal where the end is missing."""
        if not self._begun:
            yield from self._split(self._start)
        if self._unpacker is not None and not self._unpacker.eof:
            raise Refusal("The file ends in the middle of its gzip data. Fetch or write it again.")
        if self._held:
            yield self._line()

    def _unpacked(self, chunk: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            yield chunk
            return
        while True:
            if self._unpacker.eof:  # gzip files may be put one behind the other, and padded with zeros
                if not chunk.strip(b"\0"):
                    return
                self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            try:
                text = self._unpacker.decompress(chunk, _UNPACKED_AT_ONCE)
            except zlib.error:
                raise Refusal("The file is damaged: it begins as gzip and can't be unpacked. Write it again.") from None
            yield text
            chunk = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            if not chunk and len(text) < _UNPACKED_AT_ONCE:
                return

    def _split(self, text: bytes) -> Iterator[Line]:
        if self._end < self._skip:
            left = text[self._skip - self._end :]
            self._end += len(text) - len(left)
            text = left
        if self._end == 0 and not self._held and text.startswith(_UTF16):
            raise Refusal("The file is UTF-16. Write it as UTF-8.")
        place = 0
        while (found := text.find(b"\n", place)) >= 0:
            self._hold(text[place : found + 1])
            place = found + 1
            if self._document is None:
                self._document = b"".join(self._parts).strip() in _OPENINGS
            if not self._document:
                yield self._line()
        self._hold(text[place:])

    def _hold(self, part: bytes) -> None:
        self._end += len(part)
        room = self._longest + 1 - self._held
        self._held += len(part)
        if room > 0:
            self._parts.append(part[:room])

    def _line(self) -> Line:
        text = b"".join(self._parts)
        text = text[: self._kept] if self._held > self._longest else text
        self._parts, self._held = [], 0
        return Line(text.strip(), self._end)
