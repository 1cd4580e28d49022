"""Pages of a search: what a searchset Bundle holds and says of itself, taken leniently."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson

from service.backfill.cutting import RepeatedKey, Value, elements, members, value_of
from service.backfill.portions import record_of
from service.inbound.repeats import may_repeat
from service.inbound.times import parse_time
from service.rest.answers import not_fhir
from service.rest.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from service.inbound.records import Record, SourceContext
    from service.rest.answers import Element

SORT = "_lastUpdated"
"""The search parameter by which pages are sorted, and their resources bounded."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search, or of a history."""

    head: Element
    """The Bundle without its entries."""
    entries: Sequence[Value]


def page_of(body: bytes) -> Page:
    """Return the page that a server's answer holds; an entry that can't be read is one all the same.

    Raises Transient (not-fhir) for what is no Bundle, and Permanent where its own keys stand twice.
    """
    try:
        bundle = orjson.loads(body)
        if not may_repeat(body, bundle):
            entries = _bundle(bundle).pop("entry", None)
            return Page(bundle, [Value(each) for each in entries] if isinstance(entries, list) else [])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    try:
        parts = members(body)
        entries = parts.pop("entry", b"null")
        head = {name: orjson.loads(text) for name, text in parts.items()}
        found = [] if entries == b"null" else [value_of(each) for each in elements(entries)]
    except RepeatedKey:
        message = "A page of the FHIR server has a key twice; nobody can tell which one counts. Report it to its maker."
        raise Permanent("duplicate-key", message) from None
    except ValueError:
        raise not_fhir(HTTPStatus.OK) from None
    return Page(_bundle(head), found)


def _bundle(content: Any) -> Element:  # noqa: ANN401 - JSON of any shape
    if not isinstance(content, dict) or content.get("resourceType") != "Bundle":
        raise not_fhir(HTTPStatus.OK)
    return content


def resources(page: Page) -> list[Value]:
    """Return what a page's entries hold of what was searched for: no outcome, nothing that came along.

    An entry without a resource stands for itself: it is for the intake to say that it can't be read.
    """
    found = []
    for entry in page.entries:
        search, resource = entry.member("search"), entry.member("resource")
        mode = _at(search, "mode")
        if mode not in {"outcome", "include"} and _at(resource, "resourceType") != "OperationOutcome":
            found.append(resource or entry)
    return found


def _at(value: Value | None, name: str) -> object:
    return value.content.get(name) if value is not None and isinstance(value.content, dict) else None


def records_of(found: Sequence[Value], source: str, asked_at: datetime) -> list[Record]:
    """Return what a page holds as the records that a topic would have brought; it was so when it was asked for."""
    return [record_of(source, each.text, asked_at) for each in found]


def versions_of(page: Page, source: SourceContext, above: datetime) -> tuple[list[Record], datetime]:
    """Return the entries of a history's page, the newest first, as records, and the time of the last of them.

    One that says nothing of its age, as HAPI's deletes, is as old as the entry above it, on the page before at the
    first: what came after it is no older, what came before it no newer, and at the same instant the version decides.
    """
    found = []
    for entry in page.entries:
        above = parse_time(_written(entry.content), source.time_zone) or above
        found.append(record_of(source.id, entry.text, above))
    return found, above


def _written(entry: object) -> object:
    """Return when a version was written, as its resource or its response says."""
    resource = entry.get("resource") if isinstance(entry, dict) else None
    meta = resource.get("meta") if isinstance(resource, dict) else None
    response = entry.get("response") if isinstance(entry, dict) else None
    by_response = response.get("lastModified") if isinstance(response, dict) else None
    return (meta.get("lastUpdated") if isinstance(meta, dict) else None) or by_response


def link_of(bundle: Element, relation: str) -> str | None:
    """Return the address of a page's link of this relation; None if it has none."""
    links = bundle.get("link")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("relation") == relation and isinstance(link.get("url"), str):
            return str(link["url"]) or None
    return None


def says_that_it_sorts(bundle: Element) -> bool:
    """Return whether the self link, in which a server repeats what it heeds, has our sorting."""
    query = parse_qs(urlsplit(link_of(bundle, "self") or "").query)
    return query.get("_sort") == [SORT]
