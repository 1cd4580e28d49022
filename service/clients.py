"""Settings in, clients out: how the service connects to each FHIR server and to Kafka, in one place for all.

Files of certificates and secrets are read here, once, when a client is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from aiokafka.abc import AbstractTokenProvider

from service.configuration import ConfigurationError
from service.credentials import BackendServicesAuth, BasicAuth, BearerAuth, ClientSecretAuth
from service.kafka_trouble import NoToken
from service.rest.auth import Bearer, Granted
from service.rest.client import DEFAULT_TIMEOUT_S, FhirClient
from service.rest.errors import Transient
from service.rest.token_endpoint import Assertion, Secret, TokenEndpoint
from service.rest.tokens import TokenCache
from service.rest.transport import Identity, Unusable, tls_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from pydantic import SecretStr

    from service.credentials import Transport
    from service.rest.keys import SigningKey
    from service.rest.token_endpoint import Proof
    from service.settings import FhirDestination, Kafka, Source

LONGEST_SECRET = 16_384
"""Bytes of a secret's file: tokens have up to a few thousand."""


def destination_client(destination: FhirDestination) -> FhirClient:
    """Return a client of a destination's FHIR server. Raises ConfigurationError for a file that can't be used."""
    try:
        return _fhir_client(
            destination, destination.base, destination.timeout_s, requests_per_second=destination.requests_per_second
        )
    except Unusable as error:
        raise ConfigurationError(f"The destination {destination.name}: {error}") from None


def source_client(source: Source) -> FhirClient:
    """Return a client of a source's FHIR server. Raises ConfigurationError without one, and for unusable files."""
    if source.fhir_base is None:
        raise ConfigurationError(f"The source {source.id} has no fhir_base. Set it to the EHR's FHIR base URL.")
    try:
        return _fhir_client(source, source.fhir_base, DEFAULT_TIMEOUT_S)
    except Unusable as error:
        raise ConfigurationError(f"The source {source.id}: {error}") from None


def kafka_options(kafka: Kafka) -> dict[str, Any]:
    """Return how to connect, as keyword arguments of every aiokafka client.

    Raises ConfigurationError for a file that can't be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": list(kafka.bootstrap),
        "security_protocol": kafka.security_protocol,
    }
    try:
        if kafka.security_protocol.endswith("SSL"):
            password = kafka.key_password.get_secret_value() if kafka.key_password else None
            identity = _identity(kafka.certificate_file, kafka.key_file, password)
            options["ssl_context"] = tls_context(kafka.ca_file, identity)
        if kafka.security_protocol.startswith("SASL"):
            options |= _sasl(kafka)
    except Unusable as error:
        raise ConfigurationError(f"kafka: {error}") from None
    return options


def token_endpoint(transport: Transport, base: str) -> TokenEndpoint | None:
    """Return where a FHIR server's tokens come from; None where none are needed. Raises Unusable."""
    auth = transport.auth
    match auth:
        case BackendServicesAuth():
            proof: Proof = Assertion(auth.client_id, _signing_key(auth.keys_file, auth.key_id))
        case ClientSecretAuth():
            proof = Secret(auth.client_id, _secret(auth.client_secret, auth.client_secret_file))
        case _:
            return None
    return TokenEndpoint(proof, address=auth.token_endpoint, fhir_base=base, scopes=auth.scopes, tls=tls_of(transport))


def tls_of(transport: Transport) -> ssl.SSLContext:
    """Return how an EHR's TLS is verified, and what proves who we are in it. Raises Unusable."""
    password = _content(transport.key_password_file) if transport.key_password_file else None
    return tls_context(transport.ca_file, _identity(transport.certificate_file, transport.key_file, password))


class _KafkaTokens(AbstractTokenProvider):  # type: ignore[misc] # aiokafka has no types
    """Tokens for Kafka's OAUTHBEARER."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._tokens = TokenCache(endpoint.fetch)

    async def token(self) -> str:
        """Return a token. Raises NoToken, which every aiokafka client tries again after."""
        try:
            return (await self._tokens.token()).value
        except Transient as error:
            raise NoToken(str(error)) from None


def _sasl(kafka: Kafka) -> dict[str, Any]:
    if kafka.sasl_mechanism == "OAUTHBEARER":
        secret = _secret(kafka.sasl_oauth_client_secret, None)
        endpoint = TokenEndpoint(
            Secret(kafka.sasl_oauth_client_id or "", secret),
            address=kafka.sasl_oauth_token_endpoint,
            scopes=kafka.sasl_oauth_scopes,
            tls=tls_context(kafka.sasl_oauth_ca_file),
        )
        return {"sasl_mechanism": kafka.sasl_mechanism, "sasl_oauth_token_provider": _KafkaTokens(endpoint)}
    return {
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": _secret(kafka.sasl_password, None),
    }


def _fhir_client(
    transport: Transport, base: str, timeout_s: float, *, requests_per_second: float | None = None
) -> FhirClient:
    return FhirClient(
        base,
        timeout_s=timeout_s,
        auth=_auth(transport, base),
        tls=tls_of(transport),
        requests_per_second=requests_per_second,
    )


def _identity(certificate: Path | None, key: Path | None, password: str | None) -> Identity | None:
    return Identity(certificate, key, password) if certificate is not None and key is not None else None


def _auth(transport: Transport, base: str) -> httpx.Auth | None:
    auth = transport.auth
    match auth:
        case BearerAuth():
            return Bearer(_secret(auth.token, auth.token_file))
        case BasicAuth():
            return httpx.BasicAuth(auth.username, _secret(auth.password, auth.password_file))
        case _:
            endpoint = token_endpoint(transport, base)
            return Granted(TokenCache(endpoint.fetch)) if endpoint is not None else None


def _signing_key(file: Path, key_id: str | None) -> SigningKey:
    from service import key_files  # noqa: PLC0415 - most EHRs need no keys, and these take 11 MB
    from service.rest.keys import chosen  # noqa: PLC0415 - as above

    try:
        keys = key_files.read(file)
    except OSError:
        raise Unusable(f"{file} can't be read. Let the service's user read it.") from None
    try:
        return chosen(keys, key_id)
    except Unusable as error:
        raise Unusable(f"{file} {error}") from None


def _secret(value: SecretStr | None, file: Path | None) -> str:
    return value.get_secret_value() if value is not None else _content(file) if file is not None else ""


def _content(file: Path) -> str:
    """Return a secret's file without the line end that editors put there. Raises Unusable."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LONGEST_SECRET + 1)
        text = content.decode().strip()
    except (OSError, UnicodeDecodeError):
        raise Unusable(f"{file} can't be read. Let the service's user read it, as text.") from None
    if not text or len(content) > LONGEST_SECRET or not text.isprintable():
        raise Unusable(f"{file} holds no secret of one line. Write the secret alone into it.")
    return text
