"""Pages of a search: what a searchset Bundle holds and says of itself, taken leniently."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import orjson

from service.backfill.portions import record_of
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from datetime import datetime

    from service.inbound.records import Record, SourceContext
    from service.rest.answers import Element

SORT = "_lastUpdated"
"""The search parameter by which pages are sorted, and their resources bounded."""


def resources(bundle: Element) -> list[object]:
    """Return what a page's entries hold of what was searched for: no outcome, nothing that came along.

    An entry without a resource stands for itself: it is for the intake to say that it can't be read.
    """
    entries = bundle.get("entry")
    found: list[object] = []
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            found.append(entry)
            continue
        search, resource = entry.get("search"), entry.get("resource")
        mode = search.get("mode") if isinstance(search, dict) else None
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if mode not in {"outcome", "include"} and kind != "OperationOutcome":
            found.append(entry if resource is None else resource)
    return found


def records_of(bundle: Element, source: str, asked_at: datetime) -> list[Record]:
    """Return what a page holds as the records that a topic would have brought; it was so when it was asked for."""
    return [record_of(source, orjson.dumps(resource), asked_at) for resource in resources(bundle)]


def versions_of(bundle: Element, source: SourceContext, above: datetime) -> tuple[list[Record], datetime]:
    """Return the entries of a history's page, the newest first, as records, and the time of the last of them.

    One that says nothing of its age, as HAPI's deletes, is as old as the entry above it, on the page before at the
    first: what came after it is no older, what came before it no newer, and at the same instant the version decides.
    """
    entries = bundle.get("entry")
    found = []
    for entry in entries if isinstance(entries, list) else ():
        above = parse_time(_written(entry), source.time_zone) or above
        found.append(record_of(source.id, orjson.dumps(entry), above))
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
