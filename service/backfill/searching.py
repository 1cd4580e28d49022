"""History from a FHIR server: resources by when they last changed, page by page, as far as the server keeps its word.

Servers differ: some don't sort, some end their pages early, all forget a page after a while. How far a search has
come is told by the newest time seen, and only where the server says that it sorts by it.
Source: https://hl7.org/fhir/R4/http.html#paging and search.html#lastUpdated
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import structlog

from service.backfill.pages import SORT, link_of, page_of, records_of, resources, says_that_it_sorts, versions_of
from service.backfill.patience import insisting
from service.backfill.portions import Portion, Refusal, number_at, text_at
from service.inbound.times import parse_time
from service.rest.client import Expired
from service.rest.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from service.backfill.pages import Page
    from service.backfill.portions import Position
    from service.inbound.records import Record, SourceContext
    from service.rest.client import FhirClient

log = structlog.get_logger(__name__)

PAGE_SIZE = 200
"""Resources asked for at a time; a server may give fewer."""
PAGE_BYTES = 32 * 1024 * 1024
"""Largest page that is read; a larger one is asked for in smaller ones."""
OVERLAP = timedelta(minutes=5)
"""So much earlier than asked a search begins: clocks differ, and what is written late carries an earlier time."""
MOST_RESTARTS = 3
"""How often a search that comes no further is begun anew."""
MOST_EMPTY = 100
"""Pages without a resource, one after the other, before they are taken for a circle."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: each type by itself, for each of the patients, or for all."""

    types: tuple[str, ...]
    since: datetime | None = None
    """Changed then or later."""
    until: datetime | None = None
    """Changed before; None: up to the present."""
    patients: tuple[str, ...] | None = None
    """Ids; None: whosever they are."""
    history: bool = False
    """The versions that the server keeps, instead of what it finds: they tell of deletes. Not with the two above."""
    may_lack: frozenset[str] = frozenset()
    """Types that are passed over where the server refuses them: whoever asks does not know whether it has them."""
    page_size: int = PAGE_SIZE
    page_bytes: int = PAGE_BYTES


async def searched(
    client: FhirClient,
    query: Query,
    source: SourceContext,
    now: Callable[[], datetime],
    position: Position | None = None,
) -> AsyncGenerator[Portion, None]:
    """Yield all that a FHIR server finds, a page at a time, from a position of an earlier run on.

    What a search can't tell of, and `history` can: deletes. A type that the server refuses keeps no other from being
    read: raises Permanent where it refuses, Refusal where it never comes to the end, once all else is read, and at
    once Transient when it is away for long.
    """
    position = position or {}
    only, refused = position.get("only"), list(position.get("refused", ()))
    query = query if only is None else replace(query, types=tuple(each for each in query.types if each in only))
    scope: Position = {} if only is None else {"only": only}
    first: Permanent | Refusal | None = None
    patients = (None,) if query.patients is None else query.patients
    places = len(patients) * len(query.types)
    total = places if query.patients is not None else await _count(client, query)
    done = number_at(position, "done")
    walk = _Walk.at_position(position)
    for place in range(number_at(position, "place"), places):
        patient, kind = patients[place // len(query.types)], query.types[place % len(query.types)]
        if kind not in refused:
            search = _Search(client, query, source, now, kind, patient, walk)
            try:
                async for records, lacking in search.pages():
                    done += 0 if patient is not None else len(records)
                    reached = {**scope, "refused": refused, "place": place, "done": done, **walk.position()}
                    yield Portion(records, reached, done, total, lacking)
            except (Permanent, Refusal) as error:
                refused = [*refused, kind]
                if kind in query.may_lack and _is_refusal(error):
                    log.warning("the server does not let this type be searched; it is passed over", type=kind)
                else:
                    first = first or error
        walk = _Walk()
        done += 0 if patient is None else 1
        yield Portion((), {**scope, "refused": refused, "place": place + 1, "done": done}, done, total)
    if first is not None or not query.may_lack.issuperset(refused):
        # The next run asks for these alone.
        yield Portion((), {"only": refused, "done": done}, done, total)
        raise first or Refusal("The FHIR server has refused some types. The same command asks for them again.")


def _is_refusal(error: Permanent | Refusal) -> bool:
    """Return whether the server does not have, or give, what was asked for; what else fails says nothing of that."""
    return isinstance(error, Permanent) and (error.code == "forbidden" or error.code.startswith("http-"))


async def _count(client: FhirClient, query: Query) -> int | None:
    """Return how many resources the server says there are; None where it doesn't say, and of a history."""
    if query.history:
        return None
    count = 0
    for kind in query.types:
        parameters = [*_times(query, "ge", None), ("_summary", "count")]
        try:
            body = await insisting(partial(client.first_page, kind, parameters, query.page_bytes))
            found = page_of(body).head.get("total")
        except Permanent:
            return None
        if not isinstance(found, int):
            return None
        count += found
    return count


def _times(query: Query, prefix: str, mark: str | None) -> Iterator[tuple[str, str]]:
    """Yield the parameters that bound when resources changed; `mark` is where an earlier round came to."""
    if mark is not None:
        yield SORT, prefix + mark
    elif query.since is not None:
        yield SORT, f"ge{instant(query.since - OVERLAP)}"
    if query.until is not None:
        yield SORT, f"lt{instant(query.until)}"


def instant(moment: datetime) -> str:
    """Return a moment as FHIR writes an instant, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class _Walk:
    """How far one search has come."""

    link: str | None = None
    """Of the next page."""
    mark: str | None = None
    """The newest time seen, as the server writes it: what it rounds off stays so."""
    at: datetime | None = None
    """The instant that it names."""
    at_mark: int = 0
    """Resources of that instant that this round has found."""
    ordered: bool = False
    """The server says that it sorts by time, and so far does."""

    @classmethod
    def at_position(cls, position: Position) -> _Walk:
        """Return how far an earlier run came."""
        at = text_at(position, "at")
        return cls(
            text_at(position, "link"),
            text_at(position, "mark"),
            None if at is None else datetime.fromisoformat(at),
            number_at(position, "atMark"),
            position.get("ordered") is True,
        )

    def position(self) -> Position:
        """Return it as JSON values."""
        at = None if self.at is None else self.at.isoformat()
        return {"link": self.link, "mark": self.mark, "at": at, "atMark": self.at_mark, "ordered": self.ordered}

    def saw(self, resource: Mapping[str, Any], source: SourceContext) -> None:
        """Note a resource; where it breaks the order, no time tells any more how far the search has come."""
        if not self.ordered:
            return
        meta = resource.get("meta")
        written = meta.get("lastUpdated") if isinstance(meta, dict) else None
        at = parse_time(written, source.time_zone)
        if at is None or (self.at is not None and at < self.at):
            self.ordered, self.mark, self.at, self.at_mark = False, None, None, 0
        elif at == self.at:
            self.at_mark += 1
        else:
            self.mark, self.at, self.at_mark = str(written).strip(), at, 1


def _digest(link: str) -> bytes:
    return blake2b(link.encode(errors="replace"), digest_size=16).digest()


class _Search:
    """The search for one type, of one patient or of all, in rounds: a server may end its pages before the end."""

    def __init__(  # noqa: PLR0913, PLR0917 - what is looked for, and how far that has come
        self,
        client: FhirClient,
        query: Query,
        source: SourceContext,
        now: Callable[[], datetime],
        kind: str,
        patient: str | None,
        walk: _Walk,
    ) -> None:
        self._client = client
        self._query = query
        self._source = source
        self._now = now
        self._kind = kind
        self._patient = patient
        self._walk = walk
        self._page_size = query.page_size
        self._prefix = "ge"
        self._received = 0
        self._total: int | None = None
        self._owed = 0
        self._restarts = 0
        self._restarted_at: str | None = None

    async def pages(self) -> AsyncIterator[tuple[list[Record], int]]:
        """Yield the records of each page, and how many resources the server has and does not give."""
        walk, more = self._walk, True
        while more:
            before = walk.at, walk.at_mark
            from_its_start = walk.link is None
            if from_its_start:
                walk.at_mark = 0
            self._received, self._total = 0, None
            try:
                async for records in self._round():
                    yield records, 0
            except Expired:
                self._restart()
                continue
            lacking, more = self._ended(before, from_its_start=from_its_start)
            if lacking:
                yield [], lacking

    async def _round(self) -> AsyncIterator[list[Record]]:
        """Yield the records of each page until a page names no next one. Raises Expired."""
        walk, empty, seen = self._walk, 0, set[bytes]()
        while True:
            asked_at = self._now()
            if walk.link is not None:
                seen.add(_digest(walk.link))
            try:
                page = await insisting(self._ask)
            except Permanent as error:
                if error.code != "answer-too-large" or self._page_size == 1:
                    raise
                self._page_size //= 2
                raise Expired from None
            records = self._records(page, asked_at)
            self._received += len(records)
            walk.link = link_of(page.head, "next")
            empty = 0 if records else empty + 1
            if walk.link is not None and (_digest(walk.link) in seen or empty > MOST_EMPTY):
                raise Refusal(
                    "The FHIR server's pages lead nowhere: their next links never end. Report it to its maker, or use "
                    "`ipt-bridge backfill export`."
                )
            yield records
            if walk.link is None:
                return

    async def _ask(self) -> Page:
        if self._walk.link is not None:
            return page_of(await self._client.page(self._walk.link, self._query.page_bytes))
        if self._query.history:
            return await self._first_of_history()
        by = "_id" if self._kind == "Patient" else "patient"
        about = [] if self._patient is None else [(by, self._patient)]
        times = _times(self._query, self._prefix, self._walk.mark)
        asked = [*about, *times, ("_sort", SORT), ("_count", str(self._page_size))]
        page = page_of(await self._client.first_page(self._kind, asked, self._query.page_bytes))
        self._walk.ordered = says_that_it_sorts(page.head)
        total = page.head.get("total")
        self._total = total if isinstance(total, int) else None
        return page

    def _records(self, page: Page, asked_at: datetime) -> list[Record]:
        if self._query.history:
            records, self._walk.at = versions_of(page, self._source, self._walk.at or asked_at)
            return records
        found = resources(page)
        for each in found:
            if each.content is not None:  # one that can't be read at all says nothing against the order of the others
                self._walk.saw(each.content if isinstance(each.content, dict) else {}, self._source)
        return records_of(found, self._source.id, asked_at)

    async def _first_of_history(self) -> Page:
        """Return the first page of the versions, the newest first: no time tells how far that has come."""
        self._walk.at, query = None, self._query
        since = [] if query.since is None else [("_since", instant(query.since - OVERLAP))]
        asked = [*since, ("_count", str(self._page_size))]
        return page_of(await self._client.first_page(f"{self._kind}/_history", asked, query.page_bytes))

    def _ended(self, before: tuple[datetime | None, int], *, from_its_start: bool) -> tuple[int, bool]:
        """Return how many resources are lacking, and whether another round may find more.

        A server that ends its pages early has to be asked again from the newest time on; where that brings the same
        resources again, from behind it: more of that one instant than the server gives can't be had.
        """
        walk = self._walk
        lacking = 0 if self._total is None else max(0, self._total - self._received)
        # Of what the round before lacked, all that this one has is behind that instant, not of it.
        missed = max(0, self._owed - (self._received if self._total is None else self._total))
        self._owed = 0
        # A server's total may end where its pages do. Within its first page no server ends early.
        all_given = from_its_start and self._received < self._page_size and not lacking
        if not walk.ordered or all_given:
            return lacking + missed, False
        if walk.at != before[0] or walk.at_mark > before[1]:
            self._prefix = "ge"
            return missed, True
        if self._prefix == "ge":
            self._prefix, self._owed = "gt", lacking
            return missed, True
        return lacking + missed, False

    def _restart(self) -> None:
        """Go on from the newest time seen, or from the beginning. Raises Refusal where that comes no further."""
        walk = self._walk
        walk.link, self._prefix = None, "ge"
        self._restarts = self._restarts + 1 if walk.mark == self._restarted_at else 1
        self._restarted_at = walk.mark
        if self._restarts > MOST_RESTARTS:
            raise Refusal(
                "The FHIR server forgets its pages before they are read. Make them smaller (--page-size), search for "
                "fewer (--since, --until, --patients), or use `ipt-bridge backfill export`."
            )
