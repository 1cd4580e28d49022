"""History from files: NDJSON as bulk exports write it, packed or not, a few lines at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.backfill.lines import Lines
from service.backfill.portions import Portion, Refusal, number_at, record_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from service.backfill.lines import Line
    from service.backfill.portions import Position
    from service.inbound.records import Record

CHUNK = 256 * 1024
"""Bytes read at a time."""
MOST_LINES = 500
MOST_BYTES = 4 * 1024 * 1024
"""A portion ends with either."""
ENDINGS = (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz")
"""Of the files that are read of a folder."""


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Return the files that the paths name, those of folders included, in order. Raises Refusal if there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(each for each in path.iterdir() if each.name.endswith(ENDINGS) and each.is_file())
        elif path.is_file():
            found.append(path)
        else:
            raise Refusal(f"There is no file {path}. Name files, or folders of files that end in .ndjson or .json.")
    if not found:
        raise Refusal("There is no file in the folders named. Files of a folder end in .ndjson or .json, or with .gz.")
    return list(dict.fromkeys(each.resolve() for each in found))


async def of_files(
    files: Sequence[Path], source: str, most: int, state_of: datetime, position: Position | None = None
) -> AsyncGenerator[Portion, None]:
    """Yield what files hold, from a position of an earlier run on; `most` bytes of a line are read.

    A file that has changed since is read from its beginning. Raises Refusal for one that is damaged.
    """
    position = position or {}
    total = sum(each.stat().st_size for each in files)
    first = number_at(position, "file")
    before = sum(each.stat().st_size for each in files[:first])
    for number in range(first, len(files)):
        file = files[number]
        state = file.stat()
        place = {"file": number, "size": state.st_size, "changed": state.st_mtime_ns}
        same = number == first and all(position.get(name) == value for name, value in place.items())
        portion = Portioned(source, state_of)
        read = _Reading(file, Lines(number_at(position, "offset") if same else 0, most))
        for line in read.lines():
            if portion.is_full(line):
                yield Portion(portion.take(), {**place, "offset": portion.end}, before + read.bytes, total)
            portion.add(line)
        before += state.st_size
        yield Portion(portion.take(), {"file": number + 1}, before, total)


class Portioned:
    """Lines on their way into a portion."""

    def __init__(self, source: str, state_of: datetime) -> None:
        self._source = source
        self._state_of = state_of
        self._records: list[Record] = []
        self._bytes = 0
        self.end = 0
        """Unpacked bytes up to the end of the last line in it."""

    def is_full(self, line: Line) -> bool:
        """Return whether another line belongs into the next portion."""
        return bool(self._records) and (len(self._records) >= MOST_LINES or self._bytes + len(line.text) > MOST_BYTES)

    def add(self, line: Line) -> None:
        """Add a line; one without text is none."""
        self.end = line.end
        if line.text:
            self._bytes += len(line.text)
            self._records.append(record_of(self._source, line.text, self._state_of))

    def take(self) -> list[Record]:
        """Return the records of the portion, and begin another."""
        records, self._records, self._bytes = self._records, [], 0
        return records


@dataclass(slots=True)
class _Reading:
    """A file that is being read."""

    file: Path
    split: Lines
    bytes: int = 0
    """As they lie on the disk: a packed file's are fewer than its text's."""

    def lines(self) -> Iterator[Line]:
        """Yield its lines. Raises Refusal with the file's name."""
        try:
            with self.file.open("rb") as opened:
                while chunk := opened.read(CHUNK):
                    self.bytes += len(chunk)
                    yield from self.split.feed(chunk)
            yield from self.split.finish()
        except Refusal as refusal:
            raise Refusal(f"{self.file}: {refusal}") from None
