"""FHIR REST, as little of it as is needed: read, search, create, update, transaction. No redirects, no retries.

What a server answers is believed only where it is FHIR (`answers.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import httpx
from aiolimiter import AsyncLimiter

from service.rest.answers import (
    Answer,
    Element,
    entries_of,
    entry_versions,
    is_outcome,
    next_page,
    not_fhir,
    not_given,
    not_searched,
    outcome_codes,
    permanent,
    place_of,
    raise_unless_fhir,
    raise_unless_told,
    raw_json,
    stated_version,
    version_of,
    written,
)
from service.rest.errors import Permanent, Transient
from service.rest.links import below
from service.rest.transport import authorities, tls_problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

FHIR_JSON = "application/fhir+json"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_BODY_LIMIT = 5_000_000  # bytes; a CarePlan that clinicians have added to for years stays far below
STATEMENT_LIMIT = 20_000_000  # bytes; published CapabilityStatements have up to 3 million
STATEMENT_TIMEOUT_S = 60.0  # HAPI's first answer takes some 15
MOST_PAGES = 10  # of one search; what is looked for has a patient's notes to be told from, no more

_CONFLICT = frozenset({409, 412})
_GONE = frozenset({404, 410})
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOT_POSTED = frozenset({404, 405, 501})
_PAGE_LOST = frozenset({400, 404, 410})  # HAPI answers 410; others call the page's token unknown, or wrong


@dataclass(frozen=True, slots=True)
class Found:
    """A resource as the server holds it."""

    resource: Element
    """Raw JSON; numbers with a fraction keep the digits they were written with."""
    version: str | None


@dataclass(frozen=True, slots=True)
class Created:
    """What a create came to."""

    id: str | None
    """None: the server does not say; search for it."""
    version: str | None
    existed: bool
    """Whether the server had such a resource already, and left it as it was."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a server states of itself."""

    content: bytes
    etag: str | None


class Absent(Enum):
    """Why a server gives no resource."""

    NOT_FOUND = auto()
    """404: it has none, or a part of it that lags behind has none yet."""
    GONE = auto()
    """410: it had one, and that was deleted."""


class Conflict(Exception):  # noqa: N818 - it says what happened; the caller re-reads
    """The server holds another version than the one that the update was made for, or none (404, 410)."""


class Expired(Exception):  # noqa: N818 - as Conflict; the caller searches anew
    """The server no longer has the page that a link names."""


class FhirClient:
    """One FHIR server, `base` without trailing slash. Raises Transient and Permanent as named in each method."""

    def __init__(  # noqa: PLR0913 - each is one thing that a server may need
        self,
        base: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        body_limit: int = DEFAULT_BODY_LIMIT,
        auth: httpx.Auth | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        requests_per_second: float | None = None,
    ) -> None:
        """`timeout_s` is for a whole answer; `requests_per_second` is how many requests go out at most.

        `tls` verifies the server; without it, the authorities that come with httpx do.
        """
        self._base = base.rstrip("/")
        self._timeout_s = timeout_s
        self._rate = AsyncLimiter(1, 1 / requests_per_second) if requests_per_second is not None else nullcontext()
        self._body_limit = body_limit
        self._never_retried: frozenset[str] = frozenset()
        self._takes_posted_searches = True
        self._http = httpx.AsyncClient(
            auth=auth,
            follow_redirects=False,
            # Compressed answers can be far larger than what the limit would stop.
            headers={"Accept": FHIR_JSON, "Accept-Encoding": "identity", **(headers or {})},
            timeout=timeout_s,
            verify=tls or authorities(),
        )

    @property
    def base(self) -> str:
        """The server's FHIR base URL."""
        return self._base

    def heed(self, headers: Mapping[str, str], never_retried: Collection[str]) -> None:
        """Send these headers with each request from here on; let these codes of an OperationOutcome end a delivery."""
        self._http.headers.update(headers)
        self._never_retried = frozenset(never_retried)

    async def read(self, kind: str, resource_id: str) -> Found | None:
        """Return a resource; None if the server does not have it, or has it deleted."""
        answer = await self._send("GET", f"{kind}/{resource_id}")
        if answer.status in _GONE:
            return None
        if answer.status != HTTPStatus.OK:
            raise permanent(answer)
        resource = raw_json(answer.body)
        if resource.get("resourceType") != kind:
            raise not_fhir(answer.status)
        return Found(resource, answer.version or stated_version(resource))

    async def search(self, kind: str, params: Mapping[str, str]) -> list[Found]:
        """Return all the resources that a search finds, page after page.

        Raises Permanent where they are not all to be had (foreign-link, or after MOST_PAGES): what is not found would
        be taken for missing, and made a second time.
        """
        answer = await self._send("GET", kind, params)
        found: list[Found] = []
        for page in range(1, MOST_PAGES + 1):
            if answer.status != HTTPStatus.OK:
                raise permanent(answer)
            bundle = raw_json(answer.body)
            if bundle.get("resourceType") != "Bundle":
                raise not_fhir(answer.status)
            found += [Found(each, stated_version(each)) for each in entries_of(bundle, kind)]
            following = next_page(bundle)
            if following is None:
                return found
            if page < MOST_PAGES:
                answer = await self._send("GET", self._below(following))
        message = "The FHIR server finds more than can be looked through. Look at what it holds of the patient there."
        raise Permanent("too-many-found", message)

    async def first_page(self, kind: str, parameters: Sequence[tuple[str, str]], body_limit: int) -> bytes:
        """Return the first page of a search, of as many bytes at most.

        Raises Permanent where the server refuses the search.
        """
        answer = await self._send("GET", kind, httpx.QueryParams(tuple(parameters)), body_limit=body_limit)
        if answer.status != HTTPStatus.OK:
            raise not_searched(answer)
        return answer.body

    async def page(self, link: str, body_limit: int) -> bytes:
        """Return the page that a Bundle's link names, as `first_page` does.

        Raises Expired where the server has it no longer, and Permanent (foreign-link) for a link to any other place
        than this server's base: what an answer says is never a reason to send requests elsewhere.
        """
        answer = await self._send("GET", self._below(link), body_limit=body_limit)
        if answer.status in _PAGE_LOST:
            raise Expired
        if answer.status != HTTPStatus.OK:
            raise not_searched(answer)
        return answer.body

    def _below(self, link: str) -> str:
        rest = below(self._base, link)
        if rest is None:
            message = (
                "The FHIR server's next page has an address outside its own base; it is not followed. Set the base (of "
                "a source: fhir_base) to the address that the server gives itself, or have it told its public one."
            )
            raise Permanent("foreign-link", message)
        return rest

    async def create(self, resource: Element, *, unless: str | None, request_id: str) -> Created:
        """Store a resource under an id that the server chooses; `unless` a search for it finds one (If-None-Exist).

        Raises Conflict if that search finds several, Refused for the content. After a Transient nobody knows
        whether it was stored: search before doing it again.
        """
        headers = {"Content-Type": FHIR_JSON, "Prefer": "return=minimal", "X-Request-Id": request_id}
        if unless is not None:
            headers["If-None-Exist"] = unless
        kind = resource["resourceType"]
        answer = await self._send("POST", kind, content=written(resource), headers=headers)
        if answer.status in _CONFLICT:
            raise Conflict
        if not answer.ok:
            raise permanent(answer)
        raise_unless_told(answer, kind)
        known, version = place_of(answer.location, kind)
        if known is None and answer.body:
            body = raw_json(answer.body)
            if body.get("resourceType") == kind and isinstance(body.get("id"), str):
                known, version = body["id"], stated_version(body)
        return Created(known, answer.version or version, unless is not None and answer.status == HTTPStatus.OK)

    async def delete(self, kind: str, resource_id: str, *, request_id: str) -> None:
        """Delete a resource; harmless where it is gone. Raises Conflict where others refer to it."""
        answer = await self._send("DELETE", f"{kind}/{resource_id}", headers={"X-Request-Id": request_id})
        if answer.status in _CONFLICT:
            raise Conflict
        if not answer.ok and answer.status not in _GONE:
            raise permanent(answer)

    async def document(self, path: str, known: str | None, accept: str = FHIR_JSON) -> Document | None:
        """Return what the server says at a path below its base; None where it still has the ETag `known`."""
        headers = {"Accept": accept} | ({"If-None-Match": known} if known is not None else {})
        answer = await self._send(
            "GET", path, headers=headers, body_limit=STATEMENT_LIMIT, timeout_s=STATEMENT_TIMEOUT_S
        )
        if answer.status == HTTPStatus.NOT_MODIFIED:
            return None
        if answer.status != HTTPStatus.OK:
            raise not_given(answer)
        return Document(answer.body, answer.etag)

    async def get(self, path: str) -> bytes | Absent:
        """Return the bytes that the server answers a read with; `path` is below the base, its parts quoted.

        Raises Transient (not-fhir) for a 404 that names no FHIR reason: a gateway says so of every address that it
        has no route for.
        """
        answer = await self._send("GET", path)
        if answer.status == HTTPStatus.GONE:
            return Absent.GONE
        if answer.status == HTTPStatus.NOT_FOUND:
            if not is_outcome(answer.body):
                raise not_fhir(answer.status)
            return Absent.NOT_FOUND
        if answer.status != HTTPStatus.OK:
            raise not_given(answer)
        return answer.body

    async def search_unlogged(self, kind: str, params: Mapping[str, str]) -> bytes:
        """Return the bytes of a search's first page, its parameters in no address, for those land in access logs.

        In the address after all where the server takes no search by POST.
        Source: https://hl7.org/fhir/R4/http.html#search
        """
        if self._takes_posted_searches:
            form = str(httpx.QueryParams(params)).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await self._send("POST", f"{kind}/_search", content=form, headers=headers)
            if answer.status not in _NOT_POSTED:
                return _page_of(answer)
        answer = await self._send("GET", kind, params)
        self._takes_posted_searches &= answer.status != HTTPStatus.OK
        return _page_of(answer)

    async def validate(self, resource: Element) -> tuple[str, ...]:
        """Return the codes of what the server finds wrong with a resource, which it does not store; () for nothing."""
        answer = await self._send(
            "POST",
            f"{resource['resourceType']}/$validate",
            content=written(resource),
            headers={"Content-Type": FHIR_JSON},
        )
        if not answer.ok:
            raise permanent(answer)
        return outcome_codes(answer.body)

    async def exists(self, reference: str) -> bool:
        """Return whether the server has what a relative reference names. What it won't show counts as there."""
        answer = await self._send("GET", reference, {"_elements": "id"})
        return answer.status not in _GONE

    async def _is_gone(self, answer: Answer, resource: Element) -> bool:
        """Return whether an update was refused because what it is of was deleted, which can't be made again so.

        A server that chooses ids answers 405 then, as it does where it takes no updates at all.
        """
        if answer.status != HTTPStatus.METHOD_NOT_ALLOWED:
            return answer.status in _GONE
        return not await self.exists(f"{resource['resourceType']}/{resource['id']}")

    async def is_deleted(self, kind: str, resource_id: str) -> bool:
        """Return whether the server says that a resource was there and is no longer; Conflict where it is there."""
        answer = await self._send("GET", f"{kind}/{resource_id}")
        if answer.ok:
            raise Conflict
        return answer.status == HTTPStatus.GONE

    async def put(self, resource: Element, *, if_match: str | None, anew: bool = False, request_id: str) -> str | None:
        """Store a resource under its id and return its new version; None if the server names none.

        `anew` asks the server to store it only if it has none of that id; not every server heeds that. Raises
        Conflict if `if_match` is not the server's version, or there is one, and Refused for the content.
        """
        headers = {"Content-Type": FHIR_JSON, "Prefer": "return=minimal", "X-Request-Id": request_id}
        if if_match is not None:
            headers["If-Match"] = f'W/"{if_match}"'
        if anew:
            headers["If-None-Match"] = "*"
        answer = await self._send(
            "PUT", f"{resource['resourceType']}/{resource['id']}", content=written(resource), headers=headers
        )
        if answer.status in _CONFLICT or (if_match is not None and await self._is_gone(answer, resource)):
            raise Conflict
        if not answer.ok:
            raise permanent(answer)
        if raise_unless_told(answer, resource["resourceType"]):
            return answer.version
        # Some servers answer with nothing at all, and so do proxies: what the server holds decides.
        if await self.read(resource["resourceType"], resource["id"]) is None:
            raise not_fhir(answer.status)
        return None  # the version that was read may be somebody else's save since

    async def transaction(self, bundle: Element, *, request_id: str) -> list[str | None] | None:
        """Store all entries of a transaction Bundle or none, and return the version of each.

        Returns None if the server takes no transactions. Raises Conflict, Refused for the content, and Transient where
        the answer does not say of each that it is stored.
        """
        headers = {"Content-Type": FHIR_JSON, "Prefer": "return=minimal", "X-Request-Id": request_id}
        answer = await self._send("POST", "", content=written(bundle), headers=headers)
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
            return None
        if answer.status in _CONFLICT:
            raise Conflict
        if not answer.ok:
            raise permanent(answer)
        return entry_versions(answer.body, len(bundle["entry"]))

    @asynccontextmanager
    async def exchange(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], *, authorised: bool = True
    ) -> AsyncIterator[httpx.Response]:
        """Give the answer to a request, its body unread; whoever asks has made sure where `url` leads.

        Without `authorised` no credentials are sent. Raises Transient where there is no answer, or the connection
        breaks while its body is read.
        """
        auth = httpx.USE_CLIENT_DEFAULT if authorised else None
        with _as_transient():
            async with self._rate, self._http.stream(method, url, headers=headers, auth=auth) as response:
                yield response

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(  # noqa: PLR0913 - what one request of HTTP can have, each by its name
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        body_limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Return the server's answer. Raises Transient if there is none, or none that is the FHIR server's."""
        url = f"{self._base}/{path}" if path and not path.startswith("?") else f"{self._base}{path}"
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else httpx.Timeout(timeout_s)
        with _as_transient():
            async with (
                self._rate,
                asyncio.timeout(timeout_s or self._timeout_s),  # httpx's own begins anew with every byte
                self._http.stream(
                    method, url, params=params, content=content, headers=headers, timeout=timeout
                ) as response,
            ):
                body = await self._body(response, body_limit or self._body_limit)
        told = response.headers
        place = told.get("Location") or told.get("Content-Location")
        answer = Answer(response.status_code, version_of(told.get("ETag")), body, place, told.get("ETag"))
        raise_unless_fhir(answer, told, self._never_retried)
        return answer

    @staticmethod
    async def _body(response: httpx.Response, limit: int) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > limit:
                message = f"The FHIR server's answer is larger than {limit} bytes. Look at the resource there."
                raise Permanent("answer-too-large", message)
            chunks.append(chunk)
        return b"".join(chunks)


def _page_of(answer: Answer) -> bytes:
    if answer.status != HTTPStatus.OK:
        raise not_searched(answer)
    return answer.body


@contextmanager
def _as_transient() -> Iterator[None]:
    """Turn what HTTP can fail with into Transient; an address that can be none into Permanent (bad-address)."""
    try:
        yield
    except httpx.InvalidURL:
        message = "What is to be asked for makes no address. Look at the ids and identifiers that were sent."
        raise Permanent("bad-address", message) from None
    except (httpx.TimeoutException, TimeoutError) as error:
        message = "The FHIR server does not answer in time. It is tried again by itself."
        raise Transient("timeout", message, unsent=isinstance(error, _UNSENT)) from None
    except (httpx.TransportError, httpx.DecodingError) as error:
        if (problem := tls_problem(error)) is not None:
            code, reason = problem
            raise Transient(code, f"No TLS with the FHIR server: {reason}. Look at ca_file and base.") from None
        message = f"The FHIR server can't be reached ({type(error).__name__}). It is tried again by itself."
        raise Transient("unreachable", message, unsent=isinstance(error, _UNSENT)) from None
