"""A FHIR server as a source, over a real socket, that keeps its word as well or as badly as a test wants."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.health import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from service.sandbox.events import Resource


@dataclass
class FhirSource:
    """What it holds, how it answers, and what it was asked."""

    resources: list[Resource] = field(default_factory=list)
    """In the order in which a server that does not sort gives them."""
    base: str = ""
    sorts: bool = True
    lies: bool = False
    """It says that it sorts, and does not."""
    says_so: bool = True
    """The self link repeats the parameters."""
    most: int | None = None
    """So many results of one search, and not one more, has any search."""
    tells_total: bool = False
    caps_total: bool = False
    forgets_after: int | None = None
    """A search's pages are gone when so many of them were given."""
    links_to: str | None = None
    """Where the next pages are said to be; None: here."""
    failing: list[Response] = field(default_factory=list)
    """Answers that come first."""
    extra: list[dict[str, Any]] = field(default_factory=list)
    """Entries that stand in every page, beside what was found."""
    forbidden: frozenset[str] = frozenset()
    """Types that it lets nobody search."""
    asked: list[str] = field(default_factory=list)
    """Paths and queries of the requests."""
    _pages: dict[str, tuple[list[Resource], int, int]] = field(default_factory=dict)

    async def search(self, request: Request) -> Response:
        """Answer a search, or give a page of one."""
        self.asked.append(f"{request.url.path}?{request.url.query}")
        if request.path_params["kind"] in self.forbidden:
            self.failing.append(JSONResponse({"resourceType": "OperationOutcome", "issue": []}, 403))
        if self.failing:
            return self.failing.pop(0)
        if "page" in request.query_params:
            key = request.query_params["page"]
            if key not in self._pages:
                return JSONResponse({"resourceType": "OperationOutcome", "issue": []}, 410)
            found, start, given = self._pages.pop(key)
            if self.forgets_after is not None and given >= self.forgets_after:
                return JSONResponse({"resourceType": "OperationOutcome", "issue": []}, 410)
            return self._page(found, start, given, request, None)
        found = [each for each in self.resources if _fits(each, request)]
        if self.sorts:
            found.sort(key=_time)
        whole = len(found)
        found = found[: self.most]
        if request.query_params.get("_summary") == "count":
            return JSONResponse({"resourceType": "Bundle", "type": "searchset", "total": whole})
        total = len(found) if self.caps_total else whole
        return self._page(found, 0, 0, request, total if self.tells_total else None)

    def _page(self, found: list[Resource], start: int, given: int, request: Request, total: int | None) -> Response:
        count = int(request.query_params.get("_count", "50"))
        entries = [{"resource": each, "search": {"mode": "match"}} for each in found[start : start + count]]
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "entry": entries + self.extra}
        if total is not None:
            bundle["total"] = total
        heeded = [
            (name, value)
            for name, value in request.query_params.multi_items()
            if self.sorts or self.lies or name != "_sort"
        ]
        query = urlencode(heeded) if self.says_so else ""
        links = [{"relation": "self", "url": f"{self.base}/{request.path_params['kind']}?{query}"}]
        if start + count < len(found):
            key = f"{len(self.asked)}"
            self._pages[key] = found, start + count, given + 1
            place = self.links_to or f"{self.base}/{request.path_params['kind']}"
            links.append({"relation": "next", "url": f"{place}?page={key}&_count={count}"})
        bundle["link"] = links
        return JSONResponse(bundle, media_type="application/fhir+json")

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[FhirSource]:
        """Answer while the block lasts."""
        app = Starlette(routes=[Route("/fhir/{kind}", self.search)])
        async with serving(app, "127.0.0.1", 0) as url:
            self.base = f"{url}/fhir"
            yield self


def _time(resource: Resource) -> str:
    return str(resource.get("meta", {}).get("lastUpdated", ""))


def _fits(resource: Resource, request: Request) -> bool:
    if resource["resourceType"] != request.path_params["kind"]:
        return False
    patient = request.query_params.get("patient")
    if patient is not None and resource["subject"]["reference"] != f"Patient/{patient}":
        return False
    tests = {"ge": _time(resource).__ge__, "gt": _time(resource).__gt__, "lt": _time(resource).__lt__}
    return all(tests[each[:2]](each[2:]) for each in request.query_params.getlist("_lastUpdated"))
