"""Settings in, clients out: how the service connects to each FHIR server and to Kafka, in one place for all.

Files of certificates and secrets are read here, once, when a client is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from service.configuration import ConfigurationError
from service.credentials import BasicAuth, BearerAuth
from service.rest.auth import Bearer
from service.rest.client import DEFAULT_TIMEOUT_S, FhirClient
from service.rest.transport import Identity, Unusable, tls_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from pydantic import SecretStr

    from service.credentials import Auth, Transport
    from service.settings import FhirDestination, Kafka, Source

LONGEST_SECRET = 16_384
"""Bytes of a secret's file: tokens have up to a few thousand."""


def destination_client(destination: FhirDestination) -> FhirClient:
    """Return a client of a destination's FHIR server. Raises ConfigurationError for a file that can't be used."""
    try:
        return _fhir_client(destination, destination.base, destination.timeout_s)
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
    if kafka.security_protocol.endswith("SSL"):
        password = kafka.key_password.get_secret_value() if kafka.key_password else None
        try:
            options["ssl_context"] = tls_context(
                kafka.ca_file, _identity(kafka.certificate_file, kafka.key_file, password)
            )
        except Unusable as error:
            raise ConfigurationError(f"kafka: {error}") from None
    if kafka.security_protocol.startswith("SASL") and kafka.sasl_password is not None:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return options


def _fhir_client(transport: Transport, base: str, timeout_s: float) -> FhirClient:
    tls = _tls(transport) if base.startswith("https:") else None
    return FhirClient(base, timeout_s=timeout_s, auth=_auth(transport.auth), tls=tls)


def _tls(transport: Transport) -> ssl.SSLContext:
    password = _content(transport.key_password_file) if transport.key_password_file else None
    return tls_context(transport.ca_file, _identity(transport.certificate_file, transport.key_file, password))


def _identity(certificate: Path | None, key: Path | None, password: str | None) -> Identity | None:
    return Identity(certificate, key, password) if certificate is not None and key is not None else None


def _auth(auth: Auth) -> httpx.Auth | None:
    match auth:
        case BearerAuth():
            return Bearer(_secret(auth.token, auth.token_file))
        case BasicAuth():
            return httpx.BasicAuth(auth.username, _secret(auth.password, auth.password_file))
        case _:
            return None


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
