"""A FHIR server that answers reads and searches for patients, and every fault that a test puts into it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.health import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

FHIR = "application/fhir+json"


@dataclass
class Charts:
    """Resources by relative reference, patients by search token, and what went on."""

    base: str = ""
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    patients: dict[str, list[str]] = field(default_factory=dict)
    """Ids by `system|value`."""
    replaced: set[str] = field(default_factory=set)
    """Ids of patients who were replaced by another."""
    takes_posts: bool = True
    """Whether it takes a search by POST."""
    queries: list[str] = field(default_factory=list)
    """What stood behind a question mark in the addresses that were asked for."""
    faults: list[Response] = field(default_factory=list)
    """Answered first, each once."""
    refused: dict[str, Response] = field(default_factory=dict)
    """Answers by relative reference, in place of the resource."""
    takes_puts: bool = False
    """Whether it takes updates, under `If-Match` where that is asked for; each makes the next version."""
    put_faults: list[Response | None] = field(default_factory=list)
    """Answers to updates, in their order; nothing is stored then. None: it is taken."""
    stores: Callable[[dict[str, Any]], dict[str, Any]] = dict
    """What it makes of an update's body before it stores it."""
    names_versions: bool = True
    """Whether it says which version an update made."""
    puts: list[str] = field(default_factory=list)
    """Relative references of what was updated."""
    takes_creates: bool = False
    """Whether it takes creates, under ids that it chooses."""
    lost: int = 0
    """To how many creates from here on a gateway has no answer, after they took effect."""
    created: list[dict[str, Any]] = field(default_factory=list)
    """What was created, with its id, the oldest first."""
    asked: list[str] = field(default_factory=list)
    """Relative references, and searches as `Patient?identifier`."""
    called: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once something is asked."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, no answer is given."""

    async def answer(self, request: Request) -> Response:
        """Answer a read or a search."""
        path: str = request.path_params["path"]
        if request.method == "PUT" or (self.takes_creates and request.method == "POST"):
            return self._write(request, path, await request.json())
        self.queries.append(request.url.query)
        asked = parse_qs((await request.body()).decode()) if request.method == "POST" else {}
        if asked:
            if not self.takes_posts:
                return status(405)
            path = path.removesuffix("/_search")
        token = asked.get("identifier", [request.query_params.get("identifier")])[0]
        self.asked.append(path if token is None else f"{path}?{token}")
        self.called.set()
        await self.open.wait()
        if self.faults:
            return self.faults.pop(0)
        if path in self.refused:
            return self.refused[path]
        if token is not None:
            found = [{"resource": self._patient(each)} for each in self.patients.get(token, [])]
            return fhir({"resourceType": "Bundle", "type": "searchset", "entry": found})
        return fhir(self.resources[path]) if path in self.resources else status(404)

    def _write(self, request: Request, path: str, body: dict[str, Any]) -> Response:
        if request.method == "PUT":
            return self._put(path, body, request.headers.get("if-match"))
        return self._create(body)

    def _put(self, path: str, body: dict[str, Any], if_match: str | None) -> Response:
        if not self.takes_puts:
            return status(405)
        version = int(self.resources.get(path, {}).get("meta", {}).get("versionId", 0))
        if if_match not in {None, f'W/"{version}"'}:
            return status(412)
        if self.put_faults and (fault := self.put_faults.pop(0)) is not None:
            return fault
        self.puts.append(path)
        self.write(path, self.stores(body))
        said = {"ETag": f'W/"{version + 1}"'} if self.names_versions else {}
        return Response(status_code=200, headers=said)

    def _create(self, body: dict[str, Any]) -> Response:
        self.created.append(body | {"id": f"theirs-{len(self.created)}"})
        path = f"{body['resourceType']}/{self.created[-1]['id']}"
        self.write(path, self.created[-1])
        if self.lost:
            self.lost -= 1
            return status(504)
        return JSONResponse(self.resources[path], 201, {"Location": f"{self.base}/{path}"}, FHIR)

    def write(self, path: str, body: dict[str, Any]) -> None:
        """Store the next version of a resource, as somebody else may too."""
        version = int(self.resources.get(path, {}).get("meta", {}).get("versionId", 0))
        self.resources[path] = body | {"meta": {**body.get("meta", {}), "versionId": str(version + 1)}}

    def _patient(self, id_: str) -> dict[str, Any]:
        link = {"other": {"reference": "Patient/survivor"}, "type": "replaced-by"}
        return {"resourceType": "Patient", "id": id_} | ({"link": [link]} if id_ in self.replaced else {})


def fhir(resource: dict[str, Any]) -> Response:
    """Return an answer with a resource."""
    return JSONResponse(resource, media_type=FHIR)


def status(code: int, **headers: str) -> Response:
    """Return an answer with an OperationOutcome."""
    issue = [{"severity": "error", "code": "processing", "diagnostics": "Jane Roe"}]
    outcome = {"resourceType": "OperationOutcome", "issue": issue}
    return JSONResponse(outcome, status_code=code, headers=headers, media_type=FHIR)


@asynccontextmanager
async def charts() -> AsyncIterator[Charts]:
    """Serve an empty server that answers at once."""
    made = Charts()
    made.open.set()
    routes = [Route("/fhir/{path:path}", made.answer, methods=["GET", "POST", "PUT"])]
    async with serving(Starlette(routes=routes), "127.0.0.1", 0) as url:
        made.base = f"{url}/fhir"
        yield made
