"""A token endpoint, asked by client credentials: who we are is proved by a signed assertion or by a secret.

Sources: https://hl7.org/fhir/smart-app-launch/backend-services.html, RFC 6749 (4.4, 5), RFC 7523 (2.2, 3).
"""

from __future__ import annotations

import math
import re
import time
import uuid
from base64 import b64encode
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

import httpx
import orjson

from service.rest.capabilities import NotNegotiable, read_json, read_statement
from service.rest.errors import Transient
from service.rest.smart import authentication
from service.rest.tokens import Token
from service.rest.transport import authorities, tls_problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from service.rest.keys import SigningKey

ASSERTION_S = 240
"""Life of an assertion (seconds). SMART allows 300; the rest is for a clock of ours that is ahead of the server's."""
SKEW_TOLD_S = 30
"""Difference of the clocks from which on it is told beside a refusal (seconds)."""
UNSTATED_LIFETIME_S = 60.0
"""Life of a token that comes without one, which SMART requires (seconds)."""
TIMEOUT_S = 20.0
"""Longest wait for an answer (seconds)."""
LARGEST_ANSWER = 5_000_000
"""Bytes of an answer: a CapabilityStatement, which is asked for where there is no smart-configuration."""
SMART = ".well-known/smart-configuration"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})
_SOUND = re.compile(r"[\x21-\x7e]{1,16384}")  # a token goes into a header

_REFUSALS = {
    "invalid_client": "does not know this client, its key or its secret",
    "invalid_grant": "does not accept the assertion",
    "invalid_request": "does not take the request as it is",
    "invalid_scope": "does not grant the scopes asked for",
    "unauthorized_client": "does not let this client have tokens by client credentials",
    "unsupported_grant_type": "does not offer client credentials",
}
_ADVICE = {
    "invalid_scope": "Set scopes to those registered there.",
    "unauthorized_client": "Register it there as a backend service.",
    "unsupported_grant_type": "Ask its operator how services authenticate.",
}


class Proof(Protocol):
    """How a client proves who it is."""

    def form(self, endpoint: str, now: float) -> Mapping[str, str]:
        """Return what stands in the form; `now` in seconds since 1970."""

    def headers(self) -> Mapping[str, str]:
        """Return what stands in the headers."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signed assertion: SMART Backend Services."""

    client_id: str
    key: SigningKey

    def form(self, endpoint: str, now: float) -> Mapping[str, str]:
        """Return the assertion for this endpoint, with an id that no other has."""
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": endpoint,
            "exp": int(now) + ASSERTION_S,
            "jti": str(uuid.uuid4()),
        }
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": self.key.signed(claims)}

    def headers(self) -> Mapping[str, str]:
        """Return nothing: the form says it."""
        return {}


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that both sides know, as in RFC 6749, 2.3.1."""

    client_id: str
    secret: str = field(repr=False)
    is_posted: bool = False
    """Whether it stands in the form (client_secret_post), for an endpoint that takes no Basic."""

    def form(self, endpoint: str, now: float) -> Mapping[str, str]:  # noqa: ARG002 - as Proof has it
        """Return the client's id and secret, unless the header says them."""
        return {"client_id": self.client_id, "client_secret": self.secret} if self.is_posted else {}

    def headers(self) -> Mapping[str, str]:
        """Return the client's id and secret as Basic, unless the form says them."""
        if self.is_posted:
            return {}
        pair = f"{quote(self.client_id, safe='')}:{quote(self.secret, safe='')}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


class TokenEndpoint:
    """Where tokens come from: an address, or what the FHIR server at `fhir_base` says it is."""

    def __init__(  # noqa: PLR0913 - each is one thing that an endpoint may need
        self,
        proof: Proof,
        *,
        address: str | None = None,
        fhir_base: str | None = None,
        scopes: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` gives seconds since 1970; `tls` verifies the endpoint and, where asked, the FHIR server."""
        self._proof = proof
        self._address = address
        self._fhir_base = fhir_base
        self._scopes = tuple(scopes)
        self._tls = tls
        self._now = now
        self._found: str | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes asked for."""
        return self._scopes

    async def fetch(self) -> Token:
        """Return a token. Raises Transient: what is wrong here is never a plan's fault."""
        # Asked once in minutes: connections of its own would be left open for nothing.
        async with httpx.AsyncClient(
            verify=self._tls or authorities(),
            timeout=TIMEOUT_S,
            follow_redirects=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        ) as http:
            address = self._address or self._found or await self._discovered(http)
            form = {"grant_type": "client_credentials", **self._proof.form(address, self._now())}
            if self._scopes:
                form["scope"] = " ".join(self._scopes)
            try:
                status, headers, body = await _ask(
                    http, "POST", address, what="The token endpoint", data=form, headers=self._proof.headers()
                )
                token = self._token(status, headers, body)
            except Transient:
                self._found = None  # it may have moved
                raise
            self._found = address
            return token

    async def _discovered(self, http: httpx.AsyncClient) -> str:
        """Return the token endpoint that the FHIR server names."""
        base = self._fhir_base
        if base is None:
            raise Transient("no-token-endpoint", "No token endpoint is known. Set token_endpoint.")
        status, _, smart = await _ask(http, "GET", f"{base}/{SMART}", what="The FHIR server")
        address = None
        if status == HTTPStatus.OK:
            address = _stated_in(smart)
            if isinstance(self._proof, Secret):
                self._proof = replace(self._proof, is_posted=_takes_only_posted(smart))
        if address is None:
            status, _, metadata = await _ask(http, "GET", f"{base}/metadata", what="The FHIR server")
            try:
                statement = read_statement(metadata) if status == HTTPStatus.OK else None
            except NotNegotiable:
                statement = None
            address = authentication(statement, None).token_endpoint if statement else None
        if address is None:
            message = "The FHIR server names no token endpoint in its smart-configuration. Set token_endpoint."
            raise Transient("no-token-endpoint", message)
        if not address.startswith("https://") and base.startswith("https://"):
            message = "The FHIR server names a token endpoint without https. Set token_endpoint, or ask its operator."
            raise Transient("no-token-endpoint", message)
        if not address.startswith(("https://", "http://")):
            raise Transient("no-token-endpoint", "The FHIR server's token endpoint is no URL. Set token_endpoint.")
        if isinstance(self._proof, Secret) and not _may_have_secrets(address, base):
            message = (
                "The FHIR server names a token endpoint at another host or without https, which gets no secret by its "
                "word alone. Set token_endpoint, if that is where tokens come from."
            )
            raise Transient("no-token-endpoint", message)
        return address

    def _token(self, status: int, headers: httpx.Headers, body: bytes) -> Token:
        answer = _object(body)
        if status != HTTPStatus.OK:
            raise self._refusal(status, headers, answer)
        value, kind = answer.get("access_token"), answer.get("token_type", "bearer")
        if not isinstance(value, str) or not _SOUND.fullmatch(value):
            message = "The token endpoint answers without a token. Check that token_endpoint is one."
            raise Transient("no-token", message)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            message = "The token endpoint grants a token that is not a bearer's. Ask its operator for bearer tokens."
            raise Transient("no-token", message)
        scope = answer.get("scope")
        granted = frozenset(scope.split()) if isinstance(scope, str) and scope.strip() else None
        return Token(value, _lifetime(answer.get("expires_in")), granted)

    def _refusal(self, status: int, headers: httpx.Headers, answer: Mapping[str, Any]) -> Transient:
        """Return why there is no token: by the error's code alone, its description is anybody's text."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            message = f"The token endpoint answers {status}. It is tried again by itself."
            return Transient(f"token-{status}", message, retry_after=_seconds(headers.get("Retry-After")))
        code = answer.get("error")
        if not isinstance(code, str) or code not in _REFUSALS:
            message = f"The token endpoint answers {status} and does not say why. Check token_endpoint and client_id."
            return Transient("token-refused", message)
        skew = self._skew(headers)
        if code in {"invalid_client", "invalid_grant"} and abs(skew) >= SKEW_TOLD_S:
            where = "ahead of" if skew > 0 else "behind"
            clock = f" This machine's clock is {abs(skew):.0f} s {where} the endpoint's: set it right."
        else:
            clock = ""
        advice = _ADVICE.get(code, "Check client_id, and what is registered there.")
        message = f"The token endpoint {_REFUSALS[code]} ({code}). {advice}{clock}"
        return Transient(code.replace("_", "-"), message)

    def _skew(self, headers: httpx.Headers) -> float:
        """Return by how many seconds our clock is ahead of the endpoint's; 0 where it does not tell its time."""
        try:
            return self._now() - parsedate_to_datetime(headers.get("Date", "")).timestamp()
        except (ValueError, TypeError, OverflowError):
            return 0.0


async def _ask(  # noqa: PLR0913 - what a request is made of
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    what: str,
    data: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, httpx.Headers, bytes]:
    """Return status, headers and body. Raises Transient where there is no answer, or one without end."""
    code = "token" if method == "POST" else "discovery"
    try:
        async with http.stream(method, url, data=data, headers=headers) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise Transient(f"{code}-too-large", f"{what}'s answer has no end. Check its address.")
            return response.status_code, response.headers, bytes(body)
    except httpx.TimeoutException:
        raise Transient(f"{code}-timeout", f"{what} does not answer in time. It is tried again by itself.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if (problem := tls_problem(error)) is not None:
            raise Transient(
                f"{code}-{problem[0]}", f"No TLS with {what.lower()}: {problem[1]}. Look at ca_file."
            ) from None
        message = f"{what} can't be reached ({type(error).__name__}). It is tried again by itself."
        raise Transient(f"{code}-unreachable", message) from None


def _may_have_secrets(address: str, base: str) -> bool:
    """Return whether a token endpoint that a server names is as trusted as the server: its host, and not in clear.

    An assertion is good for the one endpoint that it names; whoever gets a secret has it.
    """
    try:
        named, trusted = urlsplit(address), urlsplit(base)
    except ValueError:
        return False
    in_clear = named.scheme != "https" and named.hostname not in _THIS_MACHINE
    return named.hostname == trusted.hostname and not in_clear


def _stated_in(smart: bytes) -> str | None:
    try:
        document = read_json(smart)
    except NotNegotiable:
        return None
    stated = document.get("token_endpoint") if isinstance(document, dict) else None
    return stated if isinstance(stated, str) else None


def _takes_only_posted(smart: bytes) -> bool:
    """Return whether an endpoint states that it takes secrets in the form and not as Basic, which is the default.

    Source: https://datatracker.ietf.org/doc/html/rfc8414#section-2, token_endpoint_auth_methods_supported.
    """
    stated = _object(smart).get("token_endpoint_auth_methods_supported")
    methods = stated if isinstance(stated, list) else []
    return "client_secret_post" in methods and "client_secret_basic" not in methods


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _lifetime(stated: object) -> float:
    seconds = _seconds(stated)
    return UNSTATED_LIFETIME_S if seconds is None else seconds


def _seconds(stated: object) -> float | None:
    if isinstance(stated, bool) or not isinstance(stated, (int, float, str)):
        return None
    try:
        seconds = float(stated)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
