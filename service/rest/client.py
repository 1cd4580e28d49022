"""FHIR REST, as little of it as is needed: read, update, transaction. No redirects, no retries.

What a server answers is believed only where it is FHIR; its texts never leave this module, its codes do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import httpx
import orjson

from service.rest.errors import Permanent, Transient
from service.rest.transport import tls_problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

Element = dict[str, Any]
"""JSON of a resource, or of a part of one."""
FHIR_JSON = "application/fhir+json"
MOST_CODES = 10  # an OperationOutcome can list hundreds of issues
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_BODY_LIMIT = 5_000_000  # bytes; a CarePlan that clinicians have added to for years stays far below

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_ETAG = re.compile(r'(?:W/)?"?([A-Za-z0-9\-.]{1,64})"?')
_SECONDS = re.compile(r"\d{1,6}")
_LONGEST_INT = 15  # digits; longer ones are kept as they were written

# Neither of these says anything of the plan: the way to the server, or the service's own standing, is at fault.
_TRY_AGAIN = frozenset({401, 408, 425, 429})
_CONFLICT = frozenset({409, 412})
_GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Found:
    """A resource as the server holds it."""

    resource: Element
    """Raw JSON; numbers with a fraction keep the digits they were written with."""
    version: str | None


class Conflict(Exception):  # noqa: N818 - it says what happened; the caller re-reads
    """The server holds another version than the one that the update was made for, or none (404, 410)."""


class Refused(Permanent):
    """The server refuses the content (400, 404, 422): what it refers to may be missing there."""


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
    ) -> None:
        """`tls` verifies the server; without it, the authorities that come with httpx do."""
        self._base = base.rstrip("/")
        self._body_limit = body_limit
        self._http = httpx.AsyncClient(
            auth=auth,
            follow_redirects=False,
            # Compressed answers can be far larger than what the limit would stop.
            headers={"Accept": FHIR_JSON, "Accept-Encoding": "identity", **(headers or {})},
            timeout=timeout_s,
            verify=tls or True,
        )

    @property
    def base(self) -> str:
        """The server's FHIR base URL."""
        return self._base

    async def read(self, kind: str, resource_id: str) -> Found | None:
        """Return a resource; None if the server does not have it, or has it deleted."""
        answer = await self._send("GET", f"{kind}/{resource_id}")
        if answer.status in _GONE:
            return None
        if answer.status != HTTPStatus.OK:
            raise _permanent(answer)
        resource = _raw_json(answer.body)
        if resource.get("resourceType") != kind:
            raise _not_fhir(answer.status)
        meta = resource.get("meta")
        stated = meta.get("versionId") if isinstance(meta, dict) else None
        return Found(resource, answer.version or (stated if isinstance(stated, str) else None))

    async def exists(self, reference: str) -> bool:
        """Return whether the server has what a relative reference names. What it won't show counts as there."""
        answer = await self._send("GET", reference, {"_elements": "id"})
        return answer.status not in _GONE

    async def put(self, resource: Element, *, if_match: str | None, request_id: str) -> str | None:
        """Store a resource under its id and return its new version; None if the server names none.

        Raises Conflict if `if_match` is not the server's version, Refused for the content.
        """
        headers = {"Content-Type": FHIR_JSON, "Prefer": "return=minimal", "X-Request-Id": request_id}
        if if_match is not None:
            headers["If-Match"] = f'W/"{if_match}"'
        answer = await self._send(
            "PUT", f"{resource['resourceType']}/{resource['id']}", content=_bytes(resource), headers=headers
        )
        if answer.status in _CONFLICT or (answer.status in _GONE and if_match is not None):
            raise Conflict
        if not answer.ok:
            raise _permanent(answer)
        return answer.version

    async def transaction(self, bundle: Element, *, request_id: str) -> list[str | None] | None:
        """Store all entries of a transaction Bundle or none, and return the version of each.

        Returns None if the server takes no transactions. Raises Conflict, and Refused for the content.
        """
        headers = {"Content-Type": FHIR_JSON, "Prefer": "return=minimal", "X-Request-Id": request_id}
        answer = await self._send("POST", "", content=_bytes(bundle), headers=headers)
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
            return None
        if answer.status in _CONFLICT:
            raise Conflict
        if not answer.ok:
            raise _permanent(answer)
        return _entry_versions(answer.body, len(bundle["entry"]))

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        """Return the server's answer. Raises Transient if there is none, or none that is the FHIR server's."""
        url = f"{self._base}/{path}" if path else self._base
        try:
            async with self._http.stream(method, url, params=params, content=content, headers=headers) as response:
                body = await self._body(response)
        except httpx.TimeoutException:
            message = "The FHIR server does not answer in time. It is tried again by itself."
            raise Transient("timeout", message) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            if (problem := tls_problem(error)) is not None:
                code, reason = problem
                raise Transient(code, f"No TLS with the FHIR server: {reason}. Look at ca_file and base.") from None
            message = f"The FHIR server can't be reached ({type(error).__name__}). It is tried again by itself."
            raise Transient("unreachable", message) from None
        answer = _Answer(response.status_code, _version(response.headers.get("ETag")), body)
        _raise_unless_fhir(answer, response.headers)
        return answer

    async def _body(self, response: httpx.Response) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._body_limit:
                message = (
                    f"The FHIR server's answer is larger than {self._body_limit} bytes. Look at the resource there."
                )
                raise Permanent("answer-too-large", message)
            chunks.append(chunk)
        return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    version: str | None
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's class of success


def _raise_unless_fhir(answer: _Answer, headers: httpx.Headers) -> None:
    """Raise Transient for every answer that says nothing of the resource."""
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR and answer.status != HTTPStatus.NOT_IMPLEMENTED:
        message = f"The FHIR server answers {answer.status}. It is tried again by itself."
        raise Transient(f"http-{answer.status}", message, retry_after=_retry_after(headers))
    if answer.status == HTTPStatus.UNAUTHORIZED:
        message = "The FHIR server does not accept our credentials (401). Check the destination's authentication."
        raise Transient("unauthorised", message, retry_after=_retry_after(headers))
    if answer.status in _TRY_AGAIN:
        message = f"The FHIR server asks to wait ({answer.status}). It is tried again by itself."
        raise Transient(f"http-{answer.status}", message, retry_after=_retry_after(headers))
    if 300 <= answer.status < 400:  # noqa: PLR2004 - HTTP's class of redirection
        message = f"The FHIR server redirects ({answer.status}). Set the destination's base to where it really is."
        raise Transient("redirected", message)
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if answer.body and media_type in {"text/html", "application/xhtml+xml"}:
        # A proxy's or a login page: it speaks for neither success nor failure of the plan.
        raise _not_fhir(answer.status)


def _not_fhir(status: int) -> Transient:
    message = f"What answers {status} is not a FHIR server. Check the destination's base and what lies in between."
    return Transient("not-fhir", message)


def _permanent(answer: _Answer) -> Permanent:
    codes = _outcome_codes(answer.body)
    named = f" ({', '.join(codes)})" if codes else ""
    if answer.status == HTTPStatus.FORBIDDEN:
        message = f"The FHIR server forbids it{named}. Ask for the right to write this patient's plan, then retry."
        return Permanent("forbidden", message, outcome_codes=codes)
    if answer.status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        message = f"The FHIR server does not take this ({answer.status}){named}. Choose another destination."
        return Permanent("not-supported", message, outcome_codes=codes)
    message = f"The FHIR server refuses the plan ({answer.status}){named}. Look at the plan, then retry."
    return Refused(f"http-{answer.status}", message, outcome_codes=codes)


def _outcome_codes(body: bytes) -> tuple[str, ...]:
    """Return the codes of an OperationOutcome's errors, never its texts: they may tell of the patient."""
    try:
        outcome = orjson.loads(body)
        issues = outcome["issue"] if outcome["resourceType"] == "OperationOutcome" else []
        errors = [issue for issue in issues if issue.get("severity") in {"fatal", "error"}]
        codes = [code for issue in errors for code in (issue.get("code"), *_detail_codes(issue))]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()
    sound = [code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)]
    return tuple(dict.fromkeys(sound))[:MOST_CODES]


def _detail_codes(issue: Mapping[str, Any]) -> list[object]:
    return [coding.get("code") for coding in issue.get("details", {}).get("coding", [])]


def _entry_versions(body: bytes, count: int) -> list[str | None]:
    """Return the versions that a transaction's answer names; None for each that it does not."""
    try:
        entries = orjson.loads(body)["entry"]
        versions = [_version(entry["response"].get("etag")) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError):
        return [None] * count
    return versions if len(versions) == count else [None] * count


def _version(etag: object) -> str | None:
    # HAPI's transaction entries say `3` where its headers say `W/"3"`.
    match = _ETAG.fullmatch(etag.strip()) if isinstance(etag, str) else None
    return match[1] if match else None


def _retry_after(headers: httpx.Headers) -> float | None:
    """Return how many seconds the server asks to wait; a date counts from the server's own clock."""
    asked = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(asked):
        return float(asked)
    try:
        waits = parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return max(waits.total_seconds(), 0.0)


def _raw_json(body: bytes) -> Element:
    """Return a JSON object whose long numbers and fractions keep the digits they were written with."""
    try:
        value = json.loads(body, parse_float=_verbatim, parse_int=_integer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _not_fhir(HTTPStatus.OK) from None
    if not isinstance(value, dict):
        raise _not_fhir(HTTPStatus.OK)
    return value


def _verbatim(digits: str) -> orjson.Fragment:
    return orjson.Fragment(digits.encode())


def _integer(digits: str) -> int | orjson.Fragment:
    return int(digits) if len(digits) <= _LONGEST_INT else _verbatim(digits)


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _bytes(resource: Element) -> bytes:
    try:
        return orjson.dumps(resource)
    except orjson.JSONEncodeError:
        message = "The resource that the FHIR server holds can't be written back unchanged. Look at it there."
        raise Permanent("not-writable", message) from None
