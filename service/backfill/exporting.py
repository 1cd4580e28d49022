"""History from a FHIR server's bulk export: begun, waited for, fetched file by file, and deleted there at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from service.backfill.files import Portioned
from service.backfill.lines import Lines
from service.backfill.patience import insisting, wait_after
from service.backfill.portions import UNKNOWN_TIME, Portion, Refusal, number_at, text_at
from service.inbound.times import parse_time
from service.rest.answers import outcome_codes
from service.rest.bulk import Lost, UnderWay
from service.rest.errors import Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from datetime import datetime

    from service.backfill.lines import Line
    from service.backfill.portions import Position
    from service.inbound.records import SourceContext
    from service.rest.bulk import BulkExport, ExportFile, Manifest

log = structlog.get_logger(__name__)

POLL_S = 10.0
"""Wait between two looks at an export, where the server does not ask for another (seconds)."""
LONGEST_POLL_S = 600.0
SHORTEST_POLL_S = 0.1
MOST_LOST = 3
"""Exports that a server may forget before it is begun no more: each is hours of work there."""
LOST_S = 5.0
"""Wait before one that was lost is begun anew, doubled each time (seconds)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be exported."""

    parameters: tuple[tuple[str, str], ...]
    """`_type`, and `_since` where it is given."""
    types: frozenset[str]
    group: str | None = None
    """Id of the Group whose patients'; None: of all patients."""


async def exported(
    server: BulkExport, wanted: Wanted, source: SourceContext, most: int, position: Position | None = None
) -> AsyncGenerator[Portion, None]:
    """Yield what a bulk export brings, from a position of an earlier run on; `most` bytes of a line are read.

    What an earlier run began is taken up where the server still has it, else exported again. Raises Transient when
    the server is away for long, Permanent where it refuses, Refusal for files that are damaged.
    """
    position = position or {}
    status = text_at(position, "status")
    manifest: Manifest | None = None
    lost = 0
    while manifest is None:
        if status is None:
            status = await insisting(partial(server.start, wanted.group, wanted.parameters))
            position = {"status": status}
        try:
            standing = await insisting(partial(server.standing, status))
        except Lost:
            lost += 1
            if lost >= MOST_LOST:
                raise Refusal(
                    "The FHIR server forgets its exports before they are done. Look at its log, or use "
                    "`ipt-bridge backfill search`."
                ) from None
            status = None
            await asyncio.sleep(LOST_S * 2 ** (lost - 1))
            continue
        if isinstance(standing, UnderWay):
            told = "" if standing.percent is None else f" ({standing.percent} %)"
            yield Portion((), position, 0, None, stage=f"the server prepares the export{told}")
            asked = POLL_S if standing.retry_after_s is None else standing.retry_after_s
            await asyncio.sleep(min(max(asked, SHORTEST_POLL_S), LONGEST_POLL_S))
        else:
            manifest = standing
    files = [each for each in manifest.files if each.resource_type in wanted.types or each.kind != "output"]
    first = number_at(position, "file")
    state_of = parse_time(manifest.time, source.time_zone) or UNKNOWN_TIME
    for number in range(first, len(files)):
        stage = f"file {number + 1} of {len(files)}"
        skip = number_at(position, "offset") if number == first else 0
        fetched = _Fetched(server, files[number], source, state_of, most)
        async for portion in fetched.portions(skip):
            place = {"status": status, "file": number, "offset": portion.end}
            yield Portion(portion.take(), place, number, len(files), portion.lacking, stage)
        yield Portion((), {"status": status, "file": number + 1}, number + 1, len(files), stage=stage)
    try:
        await server.delete(status or "")
    except (Transient, Permanent) as error:
        log.info("the export stays at the server until it expires there", code=error.code)


class _Portion(Portioned):
    lacking = 0


class _Fetched:
    """One file of an export; a connection that breaks is taken up after the last line that came whole."""

    def __init__(
        self, server: BulkExport, file: ExportFile, source: SourceContext, state_of: datetime, most: int
    ) -> None:
        self._server = server
        self._file = file
        self._most = most
        self._portion = _Portion(source.id, state_of)

    async def portions(self, skip: int) -> AsyncIterator[_Portion]:
        """Yield the portion each time that it is full, and at the end."""
        portion, attempts = self._portion, 0
        portion.end = skip
        while True:
            before = portion.end
            try:
                async for line in self._lines(portion.end):
                    if portion.is_full(line):
                        yield portion
                        portion.lacking = 0
                    self._add(line)
            except Transient as error:
                attempts = attempts + 1 if portion.end == before else 1
                await asyncio.sleep(wait_after(error, attempts))
            else:
                yield portion
                return

    async def _lines(self, skip: int) -> AsyncIterator[Line]:
        lines = Lines(skip, self._most)
        try:
            async for chunk in self._server.content(self._file):
                for line in lines.feed(chunk):
                    yield line
            for line in lines.finish():
                yield line
        except Refusal as refusal:
            raise Refusal(f"A file of the export can't be read. {refusal}") from None

    def _add(self, line: Line) -> None:
        if self._file.kind != "error":
            self._portion.add(line)
            return
        # An OperationOutcome for each thing that the server could not export; no record.
        self._portion.end = line.end
        if line.text and (codes := outcome_codes(line.text)):
            self._portion.lacking += 1
            log.warning("the server could not export something", codes=list(codes))
