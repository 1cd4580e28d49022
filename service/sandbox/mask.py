"""A FHIR server that takes only what a CapabilityStatement states: a small proxy before one that takes more.

It says what the statement says, lets through what the statement lists, and answers with the codes that a vendor's
profile names. Where a statement is silent it is the less helpful server: a search parameter that is not listed is
refused, `If-None-Exist` is overlooked unless it is stated, and so is `If-Match`.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx
import orjson

from service.outbound.negotiation import takes_our_ids
from service.rest.capabilities import Stated, read_statement
from service.rest.transport import authorities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.vendors import VendorProfile

REQUEST_S = 30
ROOT = "/fhir"
_PASSED_ON = ("content-type", "accept", "prefer", "if-match", "if-none-exist", "x-request-id")
_TOLD = ("Content-Type", "ETag", "Location", "Content-Location", "Last-Modified")
_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_CHECKED = "versioned-update"
_NO_VERSION = "no-version"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, its path below the FHIR base."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def kind(self) -> str:
        """The resource type; empty for a request to the whole server."""
        return self.path.partition("/")[0]

    @property
    def id(self) -> str:
        """The resource id; empty for a request to the type."""
        return self.path.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Told:
    """One answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Mask:
    """The masked server while the `with` block lasts, or from `start()` to `stop()`."""

    def __init__(
        self, behind: str, statement: bytes, profile: VendorProfile, *, smart: bytes | None = None, root: str = ROOT
    ) -> None:
        """`behind` is the base of the real server, `smart` the smart-configuration; raises NotNegotiable."""
        self._behind = behind
        self._root = root
        self._profile = profile
        self._smart = smart
        self.says(statement)
        self._http = httpx.Client(timeout=REQUEST_S, verify=authorities())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}{root}"
        self.asked: list[tuple[str, str, int]] = []
        """Method, path and status of each request."""
        self.lost: list[str] = []
        """Each `METHOD Type` here: the answer to the next such request gets lost, after it took effect."""
        self.locked: str | None = None
        """A code that every write is refused with from here on, as where somebody must break the glass first."""

    def says(self, statement: bytes) -> None:
        """Take only what this CapabilityStatement states from here on. Raises NotNegotiable."""
        self._statement = read_statement(statement)
        self.stated = statement

    def start(self) -> None:
        """Serve from a thread of its own."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """End it; what the real server holds stays."""
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, asked: Asked) -> Told:
        """Return what the masked server says to a request."""
        if asked.method == "GET" and asked.path == "metadata":
            return _document(self.stated, asked)
        if asked.path.startswith(".well-known/"):
            known = asked.path.endswith("smart-configuration") and self._smart is not None
            return _document(self._smart or b"", asked) if known else _refusal(404, "not-found")
        return self._refused(asked) or self._passed_on(asked)

    def _refused(self, asked: Asked) -> Told | None:
        """Return the refusal of what the statement does not allow, and None for the rest."""
        needed = self._profile.headers.value if self._profile.headers else {}
        if any(name.lower() not in asked.headers for name in needed):
            return _refusal(400, "required")
        if not asked.kind:
            return self._refused_by_system(asked)
        stated = self._statement.resources.get(asked.kind)
        if stated is None:
            return _refusal(404, "not-supported")
        return _refused_look(asked, stated) if asked.method == "GET" else self._refused_write(asked, stated)

    def _refused_write(self, asked: Asked, stated: Stated) -> Told | None:
        if _WRITES.get(asked.method) not in stated.interactions:
            return _refusal(405, "not-supported")
        if self.locked is not None:
            return _refusal(403, "security", self.locked)
        modifiers = self._profile.modifier_extensions
        if modifiers is not None and not modifiers.value and b'"modifierExtension"' in asked.body:
            return _refusal(422, "extension")
        return self._refused_update(asked, stated) if asked.method == "PUT" else None

    def _refused_by_system(self, asked: Asked) -> Told | None:
        if asked.method == "GET" and "_getpages" in asked.query:
            return None
        kind = orjson.loads(asked.body).get("type") if asked.method == "POST" else None
        return None if kind in self._statement.system else _refusal(405, "not-supported")

    def _refused_update(self, asked: Asked, stated: Stated) -> Told | None:
        if not asked.id:
            return None if stated.conditional_update else _refusal(405, "not-supported")
        held = self._http.get(f"{self._behind}/{asked.path}")
        if held.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return None if takes_our_ids(stated, self._profile)[0] else _refusal(405, "not-supported")
        if stated.versioning == _NO_VERSION:
            return None
        needed, stale = self._profile.without_if_match, self._profile.stale_if_match
        sent = asked.headers.get("if-match")
        if sent is None:
            return None if needed is None else _refusal(needed.value, "conflict")
        if (stated.versioning == _CHECKED or stale is not None) and sent != held.headers.get("ETag"):
            return _refusal(412 if stale is None else stale.value, "conflict")
        return None

    def _passed_on(self, asked: Asked) -> Told:
        stated = self._statement.resources.get(asked.kind, Stated())
        headers = {name: asked.headers[name] for name in _PASSED_ON if name in asked.headers}
        if not stated.conditional_create:
            headers.pop("if-none-exist", None)
        if stated.versioning != _CHECKED:
            headers.pop("if-match", None)
        url = f"{self._behind}/{asked.path}".rstrip("/") + (f"?{asked.query}" if asked.query else "")
        reply = self._http.request(asked.method, url, content=asked.body, headers=headers)
        told = {name: reply.headers[name] for name in _TOLD if name in reply.headers}
        body = reply.content.replace(self._behind.encode(), self.base.encode())
        told = {name: value.replace(self._behind, self.base) for name, value in told.items()}
        if stated.versioning == _NO_VERSION:
            told.pop("ETag", None)
            body = _without_version(body)
            told = {name: value.partition("/_history/")[0] for name, value in told.items()}
        return Told(reply.status_code, body, told)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        mask = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                mask._serve(self)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        path = parts.path.removeprefix(self._root).strip("/")
        asked = Asked(handler.command, path, parts.query, headers, body)
        told = self.answer(asked)
        self.asked.append((asked.method, path, told.status))
        one = f"{asked.method} {asked.kind}"
        if one in self.lost:
            self.lost.remove(one)
            handler.close_connection = True
            return
        handler.send_response(told.status)
        for name, value in {**told.headers, "Content-Length": str(len(told.body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(told.body)
        handler.wfile.flush()


def _refused_look(asked: Asked, stated: Stated) -> Told | None:
    if asked.id:
        return None if "read" in stated.interactions else _refusal(405, "not-supported")
    if "search-type" not in stated.interactions:
        return _refusal(405, "not-supported")
    names = (name.partition(":")[0] for name, _ in parse_qsl(asked.query))
    unknown = any(not name.startswith("_") and name not in stated.searched_by for name in names)
    return _refusal(400, "not-supported") if unknown and stated.searched_by else None


def _refusal(status: int, code: str, detail: str | None = None) -> Told:
    issue: dict[str, Any] = {"severity": "error", "code": code}
    if detail is not None:
        issue["details"] = {"coding": [{"code": detail}]}
    body = orjson.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
    return Told(status, body, {"Content-Type": "application/fhir+json"})


def _document(content: bytes, asked: Asked) -> Told:
    etag = f'W/"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
    if asked.headers.get("if-none-match") == etag:
        return Told(304, b"", {"ETag": etag})
    return Told(200, content, {"Content-Type": "application/fhir+json", "ETag": etag})


def _without_version(body: bytes) -> bytes:
    """Return a resource, or a Bundle of some, as a server without versions shows it."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    entries = value.get("entry", []) if isinstance(value, dict) else []
    for resource in (value, *(each.get("resource") for each in entries)):
        if isinstance(resource, dict) and isinstance(resource.get("meta"), dict):
            resource["meta"].pop("versionId", None)
    return orjson.dumps(value)
