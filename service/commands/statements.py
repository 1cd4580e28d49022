"""What a FHIR server states of itself, fetched from its base URL or read from a file. Bounded in time and size."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx

from service.rest.capabilities import NotNegotiable
from service.rest.transport import tls_context

TIMEOUT_S = 20.0
"""Seconds until a connection is given up, and between two parts of an answer."""
DEADLINE_S = 60.0
"""Seconds for a whole document: HAPI's first answer takes some 15."""
LARGEST = 20_000_000
"""Bytes of a document: published statements have up to 3 million."""
MOST_REDIRECTS = 3
METADATA = "metadata"
SMART = ".well-known/smart-configuration"
_SCHEMES = ("http://", "https://")


class Unreachable(Exception):  # noqa: N818 - it says what is the case
    """The server can't be reached, or not well enough to answer; the message says how."""


@dataclass(frozen=True, slots=True)
class Documents:
    """What a server states, as bytes."""

    metadata: bytes
    smart: bytes | None
    base: str
    """Its FHIR base URL; empty where the documents are files."""


def documents(server: str, smart: Path | None = None, ca_file: Path | None = None) -> Documents:
    """Return the documents of a base URL, or of the file that `server` names; `smart` wins over the server's own.

    `ca_file` holds the authorities of a server that public ones don't vouch for. Raises FileNotFoundError, Unreachable,
    Unusable for a `ca_file` that holds none, and NotNegotiable where what answers is no FHIR server.
    """
    given = None if smart is None else _file(smart)
    if not server.lower().startswith(_SCHEMES):
        return Documents(_file(Path(server)), given, "")
    try:
        base = httpx.URL(server).copy_with(query=None, fragment=None)
    except httpx.InvalidURL:
        raise NotNegotiable("This is no URL. Give the FHIR base URL, https://host/path.") from None
    if base.userinfo:
        raise NotNegotiable("Leave user and password out of the URL: what is asked for here is public.")
    text = str(base).rstrip("/").removesuffix(f"/{METADATA}").rstrip("/")
    verify = True if ca_file is None else tls_context(ca_file)
    asking = {"Accept-Encoding": "identity"}
    with httpx.Client(follow_redirects=False, timeout=TIMEOUT_S, headers=asking, verify=verify) as http:
        metadata = _metadata(http, text)
        return Documents(metadata, given if given is not None else _smart(http, text), text)


def _file(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    if path.stat().st_size > LARGEST:
        raise NotNegotiable(f"The file is larger than {LARGEST} bytes: no CapabilityStatement.")
    return path.read_bytes()


def _metadata(http: httpx.Client, base: str) -> bytes:
    status, content = _get(http, f"{base}/{METADATA}", "application/fhir+json")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Unreachable(f"{_host(base)} answers {status} to GET [base]/metadata. Try again later.")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise NotNegotiable(
            f"{_host(base)} keeps its metadata from strangers ({status}). Save it to a file, give that."
        )
    if status != HTTPStatus.OK:
        raise NotNegotiable(f"{_host(base)} answers {status} to GET [base]/metadata. Give the FHIR base URL.")
    return content


def _smart(http: httpx.Client, base: str) -> bytes | None:
    """Return the smart-configuration; None where the server has none to give."""
    try:
        status, content = _get(http, f"{base}/{SMART}", "application/json")
    except (Unreachable, NotNegotiable):
        return None
    return content if status == HTTPStatus.OK else None


def _get(http: httpx.Client, url: str, accept: str) -> tuple[int, bytes]:
    """Return status and body, redirects on the same host followed."""
    until = time.monotonic() + DEADLINE_S
    target = httpx.URL(url)
    for _ in range(MOST_REDIRECTS + 1):
        try:
            with http.stream("GET", target, headers={"Accept": accept}) as answer:
                if not answer.has_redirect_location:
                    return answer.status_code, _body(answer, until)
                following = target.join(answer.headers["Location"])
        except httpx.TimeoutException:
            raise _too_slow(url) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = f"{_host(url)} can't be reached ({type(error).__name__}). Look at the address and at the network."
            raise Unreachable(text) from None
        if following.host != target.host or (target.scheme == "https" and following.scheme != "https"):
            raise NotNegotiable(f"{_host(url)} sends on to {following.host}. Give the FHIR base URL itself.")
        target = following
    raise NotNegotiable(f"{_host(url)} sends on more than {MOST_REDIRECTS} times. Give the FHIR base URL itself.")


def _body(answer: httpx.Response, until: float) -> bytes:
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > LARGEST:
            raise NotNegotiable(f"The server's answer is larger than {LARGEST} bytes: no CapabilityStatement.")
        if time.monotonic() > until:
            raise _too_slow(str(answer.url))
    return bytes(content)


def _too_slow(url: str) -> Unreachable:
    return Unreachable(f"{_host(url)} does not answer in time. Try again later, or save the statement to a file.")


def _host(url: str) -> str:
    return httpx.URL(url).netloc.decode()
