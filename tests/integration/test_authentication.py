"""Authentication at FHIR servers, over real TLS, against an authorization server that checks every assertion."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest
import trustme
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.responses import JSONResponse

from service.clients import destination_client
from service.configuration import ConfigurationError
from service.rest.errors import Transient
from service.rest.keys import jwks, new_key, signing_keys
from service.rest.token_endpoint import ASSERTION_S, Assertion, TokenEndpoint
from service.rest.transport import tls_context
from service.settings import FhirDestination
from tests.guarded_ehr import FHIR, GuardedEhr, Registration, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.rest.keys import Algorithm, SigningKey

CLIENT = "ipt-bridge"
SCOPES = "system/CarePlan.cruds system/Goal.cruds"
SECRET = "correct horse/battery+staple:%"  # noqa: S105 - made up, with what has to be encoded
PLAN = {"resourceType": "CarePlan", "id": "c-1"}


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Return a private authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def keys() -> dict[Algorithm, SigningKey]:
    """Return a key for each algorithm."""
    return {"RS384": new_key("RS384"), "ES384": new_key("ES384")}


@pytest.fixture
def ehr(ca: trustme.CA, tmp_path: Path) -> Iterator[GuardedEhr]:
    """Return an EHR that knows no client yet."""
    made = GuardedEhr(answers={"CarePlan/c-1": JSONResponse(PLAN, media_type=FHIR)})
    with served(made, ca, tmp_path):
        yield made


@dataclass
class Site:
    """What an installation has to authenticate with."""

    ehr: GuardedEhr
    folder: Path

    def register(self, *registered: SigningKey) -> None:
        """Make the EHR know these keys of the client, and no others."""
        self.ehr.clients[CLIENT] = Registration(CLIENT, SCOPES, jwks=orjson.loads(jwks(registered)))

    def destination(self, *own: SigningKey, **auth: object) -> FhirDestination:
        """Return the settings of a destination there, with keys of its own in a file."""
        file = self.folder / "keys.json"
        file.write_bytes(jwks(own, private=True))
        settings = {"kind": "backend-services", "client_id": CLIENT, "keys_file": file, "scopes": SCOPES.split()} | auth
        return self.at(auth=settings)

    def at(self, **settings: object) -> FhirDestination:
        """Return the settings of a destination there."""
        known = {"kind": "fhir", "base": self.ehr.base, "ca_file": self.folder / "ca.pem", "timeout_s": 5}
        return FhirDestination.model_validate(known | settings)

    def endpoint(
        self,
        key: SigningKey,
        *,
        address: str | None = None,
        ca_file: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> TokenEndpoint:
        """Return a token endpoint that is asked with this key."""
        tls = tls_context(ca_file or self.folder / "ca.pem")
        return TokenEndpoint(Assertion(CLIENT, key), address=address, fhir_base=self.ehr.base, tls=tls, now=now)


@pytest.fixture
def site(ehr: GuardedEhr, tmp_path: Path) -> Site:
    """Return an installation beside that EHR."""
    return Site(ehr, tmp_path)


async def failure(endpoint: TokenEndpoint) -> Transient:
    """Return how asking for a token fails."""
    with pytest.raises(Transient) as caught:
        await endpoint.fetch()
    return caught.value


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
async def test_a_signed_assertion_gets_a_token(
    algorithm: Algorithm, site: Site, keys: dict[Algorithm, SigningKey]
) -> None:
    """The endpoint is discovered, and the assertion is what SMART asks for, to the letter."""
    site.register(keys[algorithm])
    before = time.time()
    async with destination_client(site.destination(keys[algorithm])) as client:
        found = await client.read("CarePlan", "c-1")

    assert found is not None
    (form,) = site.ehr.forms
    assert ("client_credentials", SCOPES) == (form["grant_type"], form["scope"])
    assert "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" == form["client_assertion_type"]
    token = jwt.decode(form["client_assertion"], KeySet([keys[algorithm].key]), algorithms=[algorithm])
    assert {"alg": algorithm, "kid": keys[algorithm].key_id, "typ": "JWT"} == token.header
    claims = token.claims
    assert {"iss", "sub", "aud", "exp", "jti"} == set(claims)
    assert (CLIENT, CLIENT, site.ehr.token_endpoint) == (claims["iss"], claims["sub"], claims["aud"])
    assert 0 <= claims["exp"] - int(before) - ASSERTION_S <= 5


async def test_an_assertion_is_never_sent_twice(site: Site, keys: dict[Algorithm, SigningKey]) -> None:
    """The server takes no `jti` again, and each of ours is another."""
    site.register(keys["ES384"])
    endpoint = site.endpoint(keys["ES384"])
    await endpoint.fetch()
    await endpoint.fetch()

    async with httpx.AsyncClient(verify=tls_context(site.folder / "ca.pem")) as http:
        replayed = await http.post(site.ehr.token_endpoint, data=site.ehr.forms[0])

    assert (400, "invalid_client") == (replayed.status_code, replayed.json()["error"])
    assert 2 == len(site.ehr.seen_ids)


async def test_an_assertion_for_another_audience_is_refused(site: Site, keys: dict[Algorithm, SigningKey]) -> None:
    """The audience is the address that is asked, so an address that is only similar gets nothing."""
    site.register(keys["ES384"])
    address = site.ehr.token_endpoint.replace("/token", "/alias/token")

    error = await failure(site.endpoint(keys["ES384"], address=address))

    assert "invalid-client" == error.code
    assert (
        "The token endpoint does not know this client, its key or its secret (invalid_client). "
        "Check client_id, and what is registered there."
    ) == str(error)


@pytest.mark.parametrize(
    ("ahead_s", "told"),
    [
        (-170, None),
        (-400, "This machine's clock is 400 s behind the endpoint's: set it right."),
        (50, None),
        (120, "This machine's clock is 120 s ahead of the endpoint's: set it right."),
    ],
)
async def test_a_clock_that_is_wrong_is_borne_a_while_and_then_named(
    ahead_s: int, told: str | None, site: Site, keys: dict[Algorithm, SigningKey]
) -> None:
    """An assertion that has ended, or ends too far away, is refused: the sentence says whose clock to set."""
    site.register(keys["ES384"])
    endpoint = site.endpoint(keys["ES384"], now=lambda: time.time() + ahead_s)

    if told is None:
        assert frozenset(SCOPES.split()) == (await endpoint.fetch()).scopes
        return
    error = await failure(endpoint)
    assert "invalid-client" == error.code
    # The endpoint tells its time in whole seconds.
    assert any(str(error).endswith(told.replace(str(abs(ahead_s)), str(abs(ahead_s) + off))) for off in (-1, 0, 1))


async def test_a_key_is_rotated_by_its_id(site: Site) -> None:
    """Both are registered while installations move from one to the other; then the old one is worth nothing."""
    old, new = new_key("ES384"), new_key("ES384")
    site.register(old, new)
    for key_id in (None, old.key_id, new.key_id):
        async with destination_client(site.destination(old, new, key_id=key_id)) as client:
            assert await client.read("CarePlan", "c-1") is not None
    headers = [
        jwt.decode(form["client_assertion"], KeySet([old.key, new.key]), algorithms=["ES384"]).header
        for form in site.ehr.forms
    ]
    assert [old.key_id, old.key_id, new.key_id] == [header["kid"] for header in headers]

    site.register(new)
    async with destination_client(site.destination(old, new, key_id=new.key_id)) as client:
        assert await client.read("CarePlan", "c-1") is not None
    async with destination_client(site.destination(old, new)) as client:
        with pytest.raises(Transient, match="invalid_client"):
            await client.read("CarePlan", "c-1")


async def test_a_client_secret_gets_a_token(site: Site) -> None:
    """Encoded as RFC 6749 has it: a colon or a plus in it changes nothing."""
    site.ehr.clients[CLIENT] = Registration(CLIENT, SCOPES, secret=SECRET)
    auth = {"kind": "client-secret", "client_id": CLIENT, "client_secret": SECRET}

    async with destination_client(site.at(auth=auth)) as client:
        assert await client.read("CarePlan", "c-1") is not None
    assert {"grant_type": "client_credentials"} == site.ehr.forms[0]


async def test_concurrent_requests_ask_for_one_token(site: Site, keys: dict[Algorithm, SigningKey]) -> None:
    """At the start, and again where the token is revoked under way."""
    site.register(keys["ES384"])
    async with destination_client(site.destination(keys["ES384"])) as client:
        first = await asyncio.gather(*(client.read("CarePlan", "c-1") for _ in range(20)))
        assert (True, 1) == (all(first), site.ehr.asked["/token"])

        site.ehr.revoke()
        second = await asyncio.gather(*(client.read("CarePlan", "c-1") for _ in range(20)))
        assert (True, 2) == (all(second), site.ehr.asked["/token"])


async def test_a_refused_token_is_replaced_once_for_each_request(site: Site, keys: dict[Algorithm, SigningKey]) -> None:
    """A server that refuses every token is asked twice, however much it has to say, and not for ever."""
    site.register(keys["ES384"])
    site.ehr.accepts_tokens, site.ehr.refusal = False, b"no " * 1_000_000
    async with destination_client(site.destination(keys["ES384"])) as client:
        with pytest.raises(Transient) as caught:
            await client.read("CarePlan", "c-1")

    assert ("unauthorised", 2, 2) == (caught.value.code, site.ehr.asked["CarePlan/c-1"], site.ehr.asked["/token"])


async def test_a_token_that_has_nearly_ended_is_replaced_before_it_is_refused(
    site: Site, keys: dict[Algorithm, SigningKey]
) -> None:
    """Tokens of no length are fetched for each request, and none is ever refused."""
    site.register(keys["ES384"])
    site.ehr.lifetime_s = -1
    async with destination_client(site.destination(keys["ES384"])) as client:
        for _ in range(3):
            assert await client.read("CarePlan", "c-1") is not None

    assert (3, 3) == (site.ehr.asked["CarePlan/c-1"], site.ehr.asked["/token"])


async def test_the_token_endpoint_is_looked_for_in_the_capability_statement_too(
    site: Site, keys: dict[Algorithm, SigningKey]
) -> None:
    """Servers before SMART 1.1 name it there alone; one that names none is told of."""
    site.register(keys["ES384"])
    site.ehr.smart = None
    endpoint = site.endpoint(keys["ES384"])
    assert "no-token-endpoint" == (await failure(endpoint)).code

    uris = {"url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"}
    security = {"extension": [uris | {"extension": [{"url": "token", "valueUri": site.ehr.token_endpoint}]}]}
    site.ehr.metadata["rest"][0]["security"] = security
    assert (await endpoint.fetch()).value in site.ehr.tokens


async def test_a_token_endpoint_without_https_is_not_asked(site: Site, keys: dict[Algorithm, SigningKey]) -> None:
    """What a server behind TLS names is not a way around it."""
    site.ehr.smart = {"token_endpoint": "http://127.0.0.1:9/token"}

    error = await failure(site.endpoint(keys["ES384"]))

    assert ("no-token-endpoint", 0) == (error.code, site.ehr.asked["/token"])
    assert "without https" in str(error)


async def test_a_server_of_an_unknown_authority_is_not_asked(site: Site, keys: dict[Algorithm, SigningKey]) -> None:
    """Not with a token, and not with an assertion."""
    stranger = site.folder / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    site.register(keys["ES384"])

    error = await failure(site.endpoint(keys["ES384"], ca_file=stranger))
    assert "discovery-untrusted" == error.code
    error = await failure(site.endpoint(keys["ES384"], ca_file=stranger, address=site.ehr.token_endpoint))
    assert "token-untrusted" == error.code
    async with destination_client(site.at(ca_file=stranger, auth={"kind": "bearer", "token": "t"})) as client:
        with pytest.raises(Transient) as caught:
            await client.read("CarePlan", "c-1")
    assert "untrusted" == caught.value.code
    assert (
        "No TLS with the FHIR server: its certificate is not trusted: self-signed certificate in certificate chain. "
        "Look at ca_file and base."
    ) == str(caught.value)
    assert 0 == site.ehr.asked.total()


async def test_a_server_that_speaks_no_tls_is_told_of() -> None:
    """A base with https where http is meant."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    base = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir"
    async with server, destination_client(FhirDestination(kind="fhir", base=base, timeout_s=5)) as client:
        with pytest.raises(Transient) as caught:
            await client.read("CarePlan", "c-1")

    assert "tls" == caught.value.code
    assert "No TLS with the FHIR server: what answers does not speak TLS. Look at ca_file and base." == str(
        caught.value
    )


async def test_a_certificate_for_another_host_is_not_trusted(ca: trustme.CA, tmp_path: Path) -> None:
    """The right authority is not enough."""
    with served(GuardedEhr(), ca, tmp_path, name="elsewhere.example") as guarded:
        async with destination_client(Site(guarded, tmp_path).at()) as client:
            with pytest.raises(Transient) as caught:
                await client.read("CarePlan", "c-1")

    assert ("untrusted", 0) == (caught.value.code, guarded.asked.total())
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in str(caught.value)


@pytest.mark.parametrize(
    ("version", "code"),
    # By TLS 1.3 the server tells after the client has begun to ask: all that is seen is a closed connection.
    [(ssl.TLSVersion.TLSv1_2, "tls-refused"), (ssl.TLSVersion.TLSv1_3, "unreachable")],
)
async def test_mutual_tls_shows_our_certificate(
    version: ssl.TLSVersion, code: str, ca: trustme.CA, tmp_path: Path
) -> None:
    """A server that lets in certificates of its authority alone takes ours, for tokens too, and nobody without."""
    ours, key = tmp_path / "client.pem", tmp_path / "client.key"
    issued = ca.issue_cert("ipt-bridge.example")
    issued.cert_chain_pems[0].write_to_path(ours)
    issued.private_key_pem.write_to_path(key)
    own = new_key("ES384")
    guarded = GuardedEhr(answers={"CarePlan/c-1": JSONResponse(PLAN, media_type=FHIR)})
    with served(guarded, ca, tmp_path, client_certificate=True, newest=version):
        site = Site(guarded, tmp_path)
        site.register(own)
        settings = site.destination(own)
        with_ours = settings.model_copy(update={"certificate_file": ours, "key_file": key})
        async with destination_client(with_ours) as client:
            assert await client.read("CarePlan", "c-1") is not None
        async with destination_client(site.at()) as client:
            with pytest.raises(Transient) as caught:
                await client.read("CarePlan", "c-1")
    assert (code, 1) == (caught.value.code, guarded.asked["CarePlan/c-1"])


def test_a_key_of_the_file_that_is_not_there_is_named(site: Site, keys: dict[Algorithm, SigningKey]) -> None:
    """With those that are."""
    key = keys["ES384"]
    with pytest.raises(ConfigurationError) as caught:
        destination_client(site.destination(key, key_id="2026-03"))

    file = site.folder / "keys.json"
    expected = f"The destination ehr: {file} holds no key 2026-03, but {key.key_id}. Set key_id to one of them."
    assert expected == str(caught.value)
    assert [key.key_id] == [each.key_id for each in signing_keys(file.read_bytes())]
