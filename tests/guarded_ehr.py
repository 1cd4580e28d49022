"""An EHR whose FHIR server wants a token, on a real port with real TLS, and the authorization server that grants it.

The authorization server is authlib's: it checks the client's assertion as RFC 7523 has it, and here as strictly as
SMART allows (`exp` at most 300 s away, RS384 and ES384 alone, each `jti` once).
"""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import uvicorn
from authlib.oauth2 import AuthorizationServer, OAuth2Request
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc6749.errors import InvalidClientError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.rest.transport import authorities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import trustme
    from starlette.requests import Request

ALGORITHMS = ["RS384", "ES384"]
FURTHEST_END_S = 300
LEEWAY_S = 60
FHIR = "application/fhir+json"
STARTS_IN_S = 10.0
NEWEST = ssl.TLSVersion.TLSv1_3


@dataclass
class Registration(ClientMixin):  # type: ignore[misc] # authlib has no types
    """A client that the authorization server knows."""

    client_id: str
    scopes: str
    secret: str | None = None
    jwks: dict[str, Any] = field(default_factory=lambda: {"keys": []})

    def check_client_secret(self, client_secret: str) -> bool:
        """Return whether it is the client's secret."""
        return self.secret is not None and secrets.compare_digest(self.secret, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002 - authlib's signature
        """Return whether the client may prove in that way who it is."""
        return method == ("client_secret_basic" if self.secret else "client_assertion_jwt")

    def check_grant_type(self, grant_type: str) -> bool:
        """Return whether it may have tokens that way."""
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope: str) -> str:
        """Return those of the scopes that it may have."""
        return " ".join(each for each in (scope or self.scopes).split() if each in self.scopes.split())


@dataclass
class GuardedEhr:
    """What the EHR knows and what it has been asked."""

    base: str = ""
    behind: str | None = None
    """Base of a real FHIR server that what is allowed is handed to; without it, it only has a CapabilityStatement."""
    lifetime_s: int = 300
    metadata: dict[str, Any] = field(default_factory=lambda: statement("CarePlan", "Goal"))
    smart: dict[str, Any] | None = field(default_factory=dict)
    """Its smart-configuration beside the token endpoint; None where it has none."""
    clients: dict[str, Registration] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    """How often each path was asked for."""
    forms: list[dict[str, str]] = field(default_factory=list)
    """What clients sent to the token endpoint."""
    makes_token: Callable[[str], str] = lambda _: secrets.token_urlsafe()
    """Makes the token of a client."""
    accepts_tokens: bool = True
    refusal: bytes = b""
    """Body of the FHIR server's 401."""
    seen_ids: set[tuple[str, str]] = field(default_factory=set)
    answers: dict[str, Response] = field(default_factory=dict)
    """What is answered to paths below the base, instead of nothing."""

    @property
    def token_endpoint(self) -> str:
        """Where tokens are granted."""
        return self.base.removesuffix("/fhir") + "/token"

    def revoke(self) -> None:
        """Make every token that was granted worthless."""
        self.tokens.clear()

    def app(self) -> Starlette:
        """Return the web application."""
        authorization = _authorization(self)

        async def token(request: Request) -> Response:
            form = dict(parse_qsl((await request.body()).decode()))
            self.asked["/token"] += 1
            self.forms.append(form)
            # Twice the time: what is asked for at the same moment meets in here.
            answer: Response = await run_in_threadpool(authorization.create_token_response, (request, form))
            return answer

        async def fhir(request: Request) -> Response:
            path = request.url.path.removeprefix("/fhir/")
            self.asked[path] += 1
            if path == ".well-known/smart-configuration":
                if self.smart is None:
                    return Response(status_code=404)
                return JSONResponse({"token_endpoint": self.token_endpoint, **self.smart})
            if path == "metadata":
                return JSONResponse(self.metadata, media_type=FHIR)
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not (self.accepts_tokens and given in self.tokens):
                return Response(self.refusal, status_code=401)
            if self.behind is None:
                return self.answers.get(path, Response(status_code=404))
            return await _handed_on(self.behind, path, request)

        everything = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(
            routes=[
                Route("/token", token, methods=["POST"]),
                Route("/alias/token", token, methods=["POST"]),
                Route("/fhir/{path:path}", fhir, methods=everything),
                Route("/fhir", fhir, methods=everything),
            ]
        )


def statement(*kinds: str) -> dict[str, Any]:
    """Return a CapabilityStatement by which these resources can be created and updated under ids of ours."""
    interactions = [{"code": code} for code in ("read", "create", "update", "search-type")]
    resources = [{"type": kind, "interaction": interactions, "updateCreate": True} for kind in kinds]
    rest = {"mode": "server", "interaction": [{"code": "transaction"}], "resource": resources}
    return {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [rest]}


@contextmanager
def served(
    ehr: GuardedEhr,
    ca: trustme.CA,
    folder: Path,
    *,
    client_certificate: bool = False,
    newest: ssl.TLSVersion = NEWEST,
    name: str = "127.0.0.1",
) -> Iterator[GuardedEhr]:
    """Serve the EHR over TLS while the block lasts, under a certificate for `name`.

    With `client_certificate` only to those who have one of the authority's. In a thread of its own, so that commands
    can be run against it.
    """
    certificate, authority = folder / "ehr-server.pem", folder / "ca.pem"
    ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(certificate)
    ca.cert_pem.write_to_path(authority)
    listener = socket.create_server(("127.0.0.1", 0))
    ehr.base = f"https://127.0.0.1:{listener.getsockname()[1]}/fhir"
    config = uvicorn.Config(
        ehr.app(),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
        ssl_ca_certs=str(authority),
        ssl_cert_reqs=ssl.CERT_REQUIRED if client_certificate else ssl.CERT_NONE,
    )
    config.load()
    assert config.ssl is not None
    config.ssl.maximum_version = newest
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until = time.monotonic() + STARTS_IN_S
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield ehr
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


async def _handed_on(behind: str, path: str, request: Request) -> Response:
    kept = {"accept", "content-type", "if-match", "if-none-exist", "prefer", "x-request-id"}
    headers = {name: value for name, value in request.headers.items() if name in kept}
    url = f"{behind}/{path}" if path != "/fhir" else behind
    async with httpx.AsyncClient(timeout=60, verify=authorities()) as client:
        answer = await client.request(
            request.method, url, params=request.url.query, content=await request.body(), headers=headers
        )
    shown = {name: value for name, value in answer.headers.items() if name in {"etag", "location", "content-type"}}
    return Response(answer.content, status_code=answer.status_code, headers=shown)


class _FormRequest(OAuth2Request):  # type: ignore[misc] # authlib has no types
    def __init__(self, uri: str, headers: dict[str, str], form: dict[str, str]) -> None:
        super().__init__("POST", uri, headers=headers)
        self.payload = BasicOAuth2Payload(form)
        self._form = form

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Server(AuthorizationServer):  # type: ignore[misc] # authlib has no types
    def __init__(self, ehr: GuardedEhr) -> None:
        super().__init__()
        self._ehr = ehr

    def query_client(self, client_id: str) -> Registration | None:
        return self._ehr.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:  # noqa: ARG002 - authlib's signature
        self._ehr.tokens.add(token["access_token"])

    def create_oauth2_request(self, request: tuple[Request, dict[str, str]]) -> OAuth2Request:
        asked, form = request
        # authlib looks for the header as it is usually written.
        return _FormRequest(str(asked.url), {name.title(): value for name, value in asked.headers.items()}, form)

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:  # noqa: ANN401 - authlib's signature
        return JSONResponse(body, status_code=status, headers=dict(headers))

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Do nothing: nobody listens."""


class _StrictAssertion(JWTBearerClientAssertion):  # type: ignore[misc] # authlib has no types
    def __init__(self, ehr: GuardedEhr) -> None:
        super().__init__(leeway=LEEWAY_S)
        self._ehr = ehr

    def get_audiences(self) -> list[str]:
        return [self._ehr.token_endpoint]

    def resolve_client_public_key(self, client: Registration) -> KeySet:
        return KeySet.import_key_set(client.jwks)  # type: ignore[arg-type] # JSON of a JWKS

    def process_assertion_claims(self, assertion: str, resolve_key: KeySet) -> dict[str, Any]:
        header = jws.extract_compact(assertion.encode()).headers()
        if header.get("typ") != "JWT" or "kid" not in header:
            raise InvalidClientError(description="typ or kid is missing")
        try:
            token = jwt.decode(assertion, resolve_key, algorithms=ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise InvalidClientError(description=str(error)) from error
        self.verify_claims(token.claims)
        if token.claims["exp"] > time.time() + FURTHEST_END_S:
            raise InvalidClientError(description="exp is more than five minutes away")
        return token.claims

    def validate_jti(self, claims: dict[str, Any], jti: str) -> bool:
        key = (claims["sub"], jti)
        if key in self._ehr.seen_ids:
            return False
        self._ehr.seen_ids.add(key)
        return True


class _ClientCredentials(ClientCredentialsGrant):  # type: ignore[misc] # authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_assertion_jwt", "client_secret_basic")


def _authorization(ehr: GuardedEhr) -> AuthorizationServer:
    server = _Server(ehr)
    server.register_client_auth_method("client_assertion_jwt", _StrictAssertion(ehr))
    server.register_grant(_ClientCredentials)
    server.register_token_generator(
        "default",
        BearerTokenGenerator(
            lambda client, **_: ehr.makes_token(client.client_id), expires_generator=lambda *_: ehr.lifetime_s
        ),
    )
    return server
