"""What a token endpoint, or what stands before it, can answer: a real socket, answers written byte by byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from service.health import serving
from service.rest.errors import Transient
from service.rest.token_endpoint import UNSTATED_LIFETIME_S, Secret, TokenEndpoint, _may_have_secrets
from tests.charts import charts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

SECRET = "correct-horse-battery"  # noqa: S105 - made up, to look for in messages
LEAKED = "the assertion of patient 4711"
"""What a server may write into its texts: nobody may read it in ours."""
THEN = 1_772_617_800.0  # Wed, 04 Mar 2026 09:50:00 GMT


def answer(status: str, body: object = b"", *headers: str) -> bytes:
    """Return an HTTP answer."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def refusal(code: str, status: str = "400 Bad Request", *headers: str) -> bytes:
    """Return an OAuth error with a text that must stay where it is."""
    return answer(status, {"error": code, "error_description": LEAKED}, *headers)


class Endpoint:
    """A server that gives one answer to everybody."""

    def __init__(self) -> None:
        self.address = ""
        self.says = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.says)
        await writer.drain()
        writer.close()

    def asked(self) -> TokenEndpoint:
        """Return it as clients ask it."""
        return TokenEndpoint(Secret("ipt-bridge", SECRET), address=self.address, now=lambda: THEN)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Return a server that answers as it is told."""
    told = Endpoint()
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    yield told
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (refusal("invalid_client", "401 Unauthorized"), "invalid-client", "does not know this client, its key or"),
        (refusal("invalid_scope"), "invalid-scope", "does not grant the scopes asked for (invalid_scope). Set scopes"),
        (refusal("unauthorized_client"), "unauthorized-client", "Register it there as a backend service."),
        (refusal("unsupported_grant_type"), "unsupported-grant-type", "does not offer client credentials"),
        (refusal("invalid_request"), "invalid-request", "does not take the request as it is"),
        (
            refusal("invalid_client", "400 Bad", "Date: Wed, 04 Mar 2026 09:40:00 GMT"),
            "invalid-client",
            "This machine's clock is 600 s ahead of the endpoint's: set it right.",
        ),
        (
            refusal("invalid_grant", "400 Bad", "Date: Wed, 04 Mar 2026 09:55:00 GMT"),
            "invalid-grant",
            "This machine's clock is 300 s behind the endpoint's: set it right.",
        ),
        (refusal(LEAKED), "token-refused", "answers 400 and does not say why. Check token_endpoint and client_id."),
        (answer("403 Forbidden", b"<html>"), "token-refused", "answers 403 and does not say why."),
        (answer("302 Found", b"", "Location: https://login.example/"), "token-refused", "answers 302"),
        (answer("503 Unavailable"), "token-503", "answers 503. It is tried again by itself."),
        (answer("429 Too Many"), "token-429", "answers 429. It is tried again by itself."),
        (answer("200 OK", b"<html>Please log in</html>"), "no-token", "answers without a token"),
        (answer("200 OK", {"access_token": "two\r\nlines"}), "no-token", "answers without a token"),
        (answer("200 OK", {"access_token": "t", "token_type": "mac"}), "no-token", "that is not a bearer's"),
        (answer("200 OK", []), "no-token", "answers without a token"),
        (answer("200 OK", b" " * 5_000_001), "token-too-large", "answer has no end. Check its address."),
        (b"", "token-unreachable", "can't be reached (RemoteProtocolError)"),
        (b"nonsense\r\n\r\n", "token-unreachable", "can't be reached (RemoteProtocolError)"),
    ],
)
async def test_without_a_token_a_sentence_says_why(reply: bytes, code: str, said: str, endpoint: Endpoint) -> None:
    """It is never a plan's fault, so it is tried again; neither our secret nor the server's text is in it."""
    endpoint.says = reply

    with pytest.raises(Transient) as caught:
        await endpoint.asked().fetch()

    assert code == caught.value.code
    assert said in str(caught.value)
    assert [] == [word for word in (SECRET, LEAKED, "lines") if word in str(caught.value)]


async def test_the_wait_that_the_endpoint_asks_for_is_kept(endpoint: Endpoint) -> None:
    """As the deliveries keep a FHIR server's."""
    endpoint.says = answer("429 Too Many", b"", "Retry-After: 17")

    with pytest.raises(Transient) as caught:
        await endpoint.asked().fetch()

    assert 17.0 == caught.value.retry_after


@pytest.mark.parametrize(
    "named", ["https://ehr.example.attacker.example/token", "https://127.0.0.1.example/token", "https://[/token"]
)
async def test_secret_goes_to_no_other_host_by_the_fhir_servers_word(named: str) -> None:
    """A smart-configuration that somebody changed would get it; a setting names another host where that is meant."""
    async with charts() as ehr:
        ehr.resources[".well-known/smart-configuration"] = {"token_endpoint": named}
        with pytest.raises(Transient) as caught:
            await TokenEndpoint(Secret("ipt-bridge", SECRET), fhir_base=ehr.base).fetch()
    assert "no-token-endpoint" == caught.value.code
    assert "Set token_endpoint" in str(caught.value)


def test_secret_goes_to_the_same_host_and_not_in_clear() -> None:
    """Also where the base itself is in clear, which is the operator's decision for the plans alone."""
    asked = [("http://ehr.example/fhir", f"{scheme}://ehr.example/token") for scheme in ("https", "http")]
    assert [True, False] == [_may_have_secrets(address, base) for base, address in asked]


async def test_nobody_at_the_address_is_told_of() -> None:
    """Nobody listens at the discard port."""
    with pytest.raises(Transient) as caught:
        await TokenEndpoint(Secret("c", SECRET), address="http://127.0.0.1:9/token").fetch()

    assert "token-unreachable" == caught.value.code


@pytest.mark.parametrize(
    ("stated", "lifetime_s"),
    [
        ({"expires_in": 300}, 300.0),
        ({"expires_in": "300"}, 300.0),
        ({"expires_in": -5}, 0.0),
        ({}, UNSTATED_LIFETIME_S),
        ({"expires_in": None}, UNSTATED_LIFETIME_S),
        ({"expires_in": True}, UNSTATED_LIFETIME_S),
        ({"expires_in": "NaN"}, UNSTATED_LIFETIME_S),
        ({"expires_in": "soon"}, UNSTATED_LIFETIME_S),
    ],
)
async def test_a_token_lives_as_long_as_is_stated(
    stated: dict[str, object], lifetime_s: float, endpoint: Endpoint
) -> None:
    """Where nothing sound is stated, for a minute."""
    endpoint.says = answer("200 OK", {"access_token": "t-1", "token_type": "bearer", "scope": "a b"} | stated)

    token = await endpoint.asked().fetch()

    assert ("t-1", lifetime_s, frozenset("ab")) == (token.value, token.lifetime_s, token.scopes)


@pytest.mark.parametrize(
    ("methods", "is_posted"),
    [
        (None, False),
        (["client_secret_basic", "client_secret_post"], False),
        (["private_key_jwt", "client_secret_post"], True),
        ("client_secret_post", False),
    ],
)
async def test_secret_is_posted_where_the_endpoint_takes_it_in_no_other_way(methods: object, is_posted: bool) -> None:  # noqa: FBT001 - what is expected
    """As its statement says; Basic is the default, and a secret never stands in both places."""
    asked: list[tuple[str | None, dict[str, list[str]]]] = []

    async def token(request: Request) -> JSONResponse:
        asked.append((request.headers.get("Authorization"), parse_qs((await request.body()).decode())))
        return JSONResponse({"access_token": "t", "token_type": "bearer"})

    async def stated(request: Request) -> JSONResponse:
        known = {} if methods is None else {"token_endpoint_auth_methods_supported": methods}
        return JSONResponse({"token_endpoint": f"{request.base_url}token", **known})

    routes = [
        Route("/token", token, methods=["POST"]),
        Route("/fhir/.well-known/smart-configuration", stated),
    ]
    async with serving(Starlette(routes=routes), "127.0.0.1", 0) as url:
        await TokenEndpoint(Secret("ipt-bridge", SECRET), fhir_base=f"{url}/fhir").fetch()

    ((header, form),) = asked
    assert is_posted is (header is None)
    assert is_posted is ([SECRET] == form.get("client_secret"))
    assert (["ipt-bridge"] if is_posted else None) == form.get("client_id")
