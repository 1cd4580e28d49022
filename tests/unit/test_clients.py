"""From settings to clients: what they connect with, and what is said of files that can't be used."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from pydantic import SecretStr

from service.clients import destination_client, kafka_options, source_client
from service.configuration import ConfigurationError
from service.credentials import BearerAuth
from service.settings import FhirDestination, Kafka, Source

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct-horse-battery"  # noqa: S105 - made up, to look for in messages


def destination(**settings: object) -> FhirDestination:
    """Return a destination with these settings."""
    return FhirDestination.model_validate({"kind": "fhir", "base": "https://ehr.example/fhir", **settings})


def test_plain_kafka_needs_no_credentials() -> None:
    """The options name the brokers and nothing else."""
    assert {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "PLAINTEXT",
    } == kafka_options(Kafka())


def test_kafka_over_tls_verifies_the_broker() -> None:
    """Certificate and host name are checked, and the credentials go along."""
    kafka = Kafka(security_protocol="SASL_SSL", sasl_username="ipt", sasl_password=SecretStr(SECRET))

    options = kafka_options(kafka)

    context = options["ssl_context"]
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ("SCRAM-SHA-512", "ipt", SECRET) == (
        options["sasl_mechanism"],
        options["sasl_plain_username"],
        options["sasl_plain_password"],
    )


@pytest.mark.parametrize("content", ["", "\n", f"{SECRET}\n{SECRET}", f"{SECRET}\0", SECRET * 1000])
def test_a_file_that_holds_no_secret_is_named_and_not_shown(tmp_path: Path, content: str) -> None:
    """An empty mount would otherwise send empty credentials; what the file holds stays unsaid."""
    file = tmp_path / "token"
    file.write_text(content)

    with pytest.raises(ConfigurationError) as raised:
        destination_client(destination(auth={"kind": "bearer", "token_file": file}))

    sentence = f"The destination ehr: {file} holds no secret of one line. Write the secret alone into it."
    assert sentence == str(raised.value)


def test_files_without_certificates_are_named(tmp_path: Path) -> None:
    """An authority's file and a client's own are told apart."""
    nothing, key = tmp_path / "nothing.pem", tmp_path / "key.pem"
    nothing.write_text("no PEM")
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(key)

    with pytest.raises(ConfigurationError, match=r"The destination ehr: .*nothing\.pem holds no certificate of an au"):
        destination_client(destination(ca_file=nothing))
    with pytest.raises(ConfigurationError, match=r"kafka: .*nothing\.pem and .*key\.pem are no certificate and its k"):
        kafka_options(Kafka(security_protocol="SSL", certificate_file=nothing, key_file=key))


def test_a_source_without_a_server_has_no_client() -> None:
    """The sentence names the setting."""
    with pytest.raises(ConfigurationError, match="The source main has no fhir_base"):
        source_client(Source())


async def test_a_client_shows_no_secret(tmp_path: Path) -> None:
    """Neither of the client nor of what it authenticates with."""
    (tmp_path / "token").write_text(f"{SECRET}\n")
    auth = BearerAuth(kind="bearer", token_file=tmp_path / "token")

    async with source_client(Source(fhir_base="https://ehr.example/fhir", auth=auth)) as client:
        assert SECRET not in repr(vars(client))
