"""Pages of a search: what a searchset Bundle holds and says of itself, taken leniently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.rest.answers import Element

SORT = "_lastUpdated"
"""The search parameter by which pages are sorted, and their resources bounded."""


def matches(bundle: Element) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a page that hold what was searched for: no outcome, nothing that came along."""
    entries = bundle.get("entry")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            yield {"resource": entry}
            continue
        search, resource = entry.get("search"), entry.get("resource")
        mode = search.get("mode") if isinstance(search, dict) else None
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if mode not in {"outcome", "include"} and kind != "OperationOutcome":
            yield entry


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
