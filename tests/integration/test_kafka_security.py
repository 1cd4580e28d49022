"""Kafka behind TLS and SASL: a real broker with a private authority, and what is said where it lets nobody in."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import pytest
import trustme
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc import jwt
from joserfc.jwk import RSAKey

from service.clients import kafka_options
from service.configuration import load_settings
from service.kafka_trouble import trouble
from service.sandbox.kafka import Broker, Doors
from tests.guarded_ehr import GuardedEhr, Registration, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, PASSWORD = "ipt-bridge", "correct-horse-battery"
CLIENT, CLIENT_SECRET = "ipt-bridge-client", "staple-battery-horse"
WRONG = "wrong-horse-battery"
AUDIENCE = "kafka-of-the-test"
ISSUER = "https://login.example"
EVENTS = "events"
STARTS_IN_S = 60.0


@dataclass(frozen=True)
class Cluster:
    """A broker with a door for each way to come in, and the files and addresses that its clients need."""

    broker: Broker
    folder: Path
    tokens: GuardedEhr

    def kafka(self, door: str, **settings: str) -> dict[str, str]:
        """Return the settings for a door."""
        folder = self.folder
        protocol = "SSL" if door in {"TLS", "MUTUAL"} else "SASL_SSL"
        own = {"certificate_file": str(folder / "client.pem"), "key_file": str(folder / "client.key")}
        by_password = {"sasl_username": USER, "sasl_password": PASSWORD}
        by_token = {
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_oauth_token_endpoint": self.tokens.token_endpoint,
            "sasl_oauth_client_id": CLIENT,
            "sasl_oauth_client_secret": CLIENT_SECRET,
            "sasl_oauth_ca_file": str(folder / "ca.pem"),
        }
        more = {"TLS": {}, "MUTUAL": own, "PASSWORDS": by_password, "TOKENS": by_token}[door]
        general = {
            "bootstrap": self.broker.address(door),
            "security_protocol": protocol,
            "ca_file": str(folder / "ca.pem"),
            "group_id": uuid.uuid4().hex,
        }
        return general | more | settings

    def config(self, file: Path, kafka: dict[str, str]) -> Path:
        """Write a configuration with these settings of Kafka."""
        lines = [f"{name} = {orjson.dumps(value).decode()}" for name, value in kafka.items()]
        file.write_text(
            "\n".join(
                [
                    "[kafka]",
                    *lines,
                    "[store]",
                    f'url = "sqlite:///{file.parent / "store.sqlite"}"',
                    "[http]",
                    "port = 0",
                    "[[sources]]",
                    f'topics = ["{EVENTS}"]',
                    "[[destinations]]",
                    'kind = "kafka"',
                    'topic = "plans"',
                ]
            )
        )
        return file


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster, its authority and the authorization server that grants its tokens."""
    folder = tmp_path_factory.mktemp("cluster")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    server, client = ca.issue_cert("127.0.0.1"), ca.issue_cert("ipt-bridge.example")
    # Kafka reads PKCS #8 alone.
    key = load_pem_private_key(server.private_key_pem.bytes(), password=None)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "broker.pem").write_bytes(pkcs8 + b"".join(pem.bytes() for pem in server.cert_chain_pems))
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    client.private_key_pem.write_to_path(folder / "client.key")
    signer = RSAKey.generate_key(2048, {"kid": "signer", "use": "sig", "alg": "RS256"})
    (folder / "jwks.json").write_bytes(orjson.dumps({"keys": [signer.as_dict(private=False)]}))

    def token(client_id: str) -> str:
        at = int(time.time())
        claims = {"iss": ISSUER, "sub": client_id, "aud": AUDIENCE, "iat": at, "exp": at + 300, "scope": "kafka"}
        return jwt.encode({"alg": "RS256", "kid": "signer"}, claims, signer)

    tokens = GuardedEhr(makes_token=token, clients={CLIENT: Registration(CLIENT, "kafka", secret=CLIENT_SECRET)})
    modules = "org.apache.kafka.common.security"
    passwords = f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    jwks = (folder / "jwks.json").as_uri()
    doors = Doors(
        {"TLS": "SSL", "MUTUAL": "SSL", "PASSWORDS": "SASL_SSL", "TOKENS": "SASL_SSL"},
        scram_users={USER: PASSWORD},
        java_properties={"org.apache.kafka.sasl.oauthbearer.allowed.urls": jwks},
    )
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.passwords.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.passwords.plain.sasl.jaas.config": passwords,
        "listener.name.passwords.scram-sha-256.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
        "listener.name.passwords.scram-sha-512.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
        "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.tokens.oauthbearer.sasl.jaas.config": (
            f"{modules}.oauthbearer.OAuthBearerLoginModule required;"
        ),
        "listener.name.tokens.oauthbearer.sasl.server.callback.handler.class": (
            f"{modules}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
        "listener.name.tokens.sasl.oauthbearer.jwks.endpoint.url": jwks,
        "listener.name.tokens.sasl.oauthbearer.expected.audience": AUDIENCE,
        "listener.name.tokens.sasl.oauthbearer.expected.issuer": ISSUER,
    }
    with served(tokens, ca, folder), Broker(doors=doors, properties=properties) as broker:
        asyncio.run(broker.create_topics([NewTopic(EVENTS, 1, 1), NewTopic("plans", 1, 1)]))
        yield Cluster(broker, folder, tokens)


WAYS = [
    ("TLS", {}),
    ("MUTUAL", {}),
    ("PASSWORDS", {"sasl_mechanism": "PLAIN"}),
    ("PASSWORDS", {"sasl_mechanism": "SCRAM-SHA-256"}),
    ("PASSWORDS", {"sasl_mechanism": "SCRAM-SHA-512"}),
    ("TOKENS", {}),
]


@pytest.mark.parametrize(("door", "settings"), WAYS)
async def test_records_go_in_and_out_by_every_way(
    door: str, settings: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    """What the settings say is what aiokafka's clients come in with."""
    kafka = load_settings(cluster.config(tmp_path / "ipt.toml", cluster.kafka(door, **settings))).kafka
    options, value = kafka_options(kafka), uuid.uuid4().bytes
    producer, consumer = AIOKafkaProducer(**options), AIOKafkaConsumer("plans", auto_offset_reset="earliest", **options)
    await producer.start()
    await producer.send_and_wait("plans", value)
    await producer.stop()
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            async for record in consumer:
                if record.value == value:
                    break
    finally:
        await consumer.stop()


@pytest.mark.parametrize(
    ("door", "settings"), [("MUTUAL", {}), ("PASSWORDS", {"sasl_mechanism": "SCRAM-SHA-256"}), ("TOKENS", {})]
)
def test_the_service_reads_by_every_way(door: str, settings: dict[str, str], cluster: Cluster, tmp_path: Path) -> None:
    """Its stream gets its partitions, and `check` finds nothing wrong."""
    config = cluster.config(tmp_path / "ipt.toml", cluster.kafka(door, **settings))

    checked = command("check", config)
    told = until_assigned(config, tmp_path / "log")

    assert 0 == checked.returncode, checked.stdout
    assert "partitions assigned" in told
    assert [] == secrets_in(told + checked.stdout + checked.stderr)


@pytest.mark.parametrize(
    ("door", "settings", "said"),
    [
        ("PASSWORDS", {"sasl_password": WRONG}, "Kafka at {address} refuses user or password (SCRAM-SHA-512). Check"),
        (
            "PASSWORDS",
            {"sasl_password": WRONG, "sasl_mechanism": "PLAIN"},
            "Kafka at {address} refuses user or password (PLAIN). Check sasl_username and sasl_password.",
        ),
        (
            "TOKENS",
            {"sasl_oauth_client_secret": WRONG},
            "no token for Kafka at {address}. The token endpoint does not know this client, its key or its secret",
        ),
        ("TLS", {"ca_file": "{folder}/stranger.pem"}, "no TLS with Kafka at {address}: its certificate is not trusted"),
        (
            "TLS",
            {"bootstrap": "localhost:{port}"},
            "no TLS with Kafka at localhost:{port}: its certificate is not trusted: Hostname mismatch",
        ),
        (
            "TOKENS",
            {"sasl_oauth_ca_file": "{folder}/stranger.pem"},
            "no token for Kafka at {address}. No TLS with the token endpoint: its certificate is not trusted",
        ),
        (
            "MUTUAL",
            {"certificate_file": "", "key_file": ""},
            "no TLS with Kafka at {address}: it ends TLS before it begins, as where it asks for another client",
        ),
        ("TLS", {"security_protocol": "PLAINTEXT"}, "can't reach Kafka at {address} (KafkaConnectionError; look at"),
        (
            "TOKENS",
            {"sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": PASSWORD},
            "Kafka at {address} does not offer PLAIN. Set sasl_mechanism to one that it offers.",
        ),
        ("TLS", {"bootstrap": "127.0.0.1:9"}, "can't reach Kafka at 127.0.0.1:9 (nobody listens there). Set IPT_KAFKA"),
        ("TLS", {"bootstrap": "nowhere.invalid:9"}, "can't reach Kafka at nowhere.invalid:9 (name not known). Set IPT"),
    ],
)
async def test_who_is_not_let_in_is_told_why(
    door: str, settings: dict[str, str], said: str, cluster: Cluster, tmp_path: Path
) -> None:
    """One sentence says what is wrong, and one what to look at."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "stranger.pem")
    address = cluster.broker.address(door)
    port = address.rpartition(":")[2]
    given = {name: value.format(folder=tmp_path, port=port) for name, value in settings.items()}
    kafka = {name: value for name, value in cluster.kafka(door, **given).items() if value}
    options = kafka_options(load_settings(cluster.config(tmp_path / "ipt.toml", kafka)).kafka)

    found = await trouble(options) or ""

    assert found.startswith(said.format(address=address, port=port))
    assert found.endswith(".")
    assert [] == secrets_in(found)


async def test_a_token_that_the_broker_refuses_is_told_of(cluster: Cluster, tmp_path: Path) -> None:
    """It looks at signature, issuer and audience; aiokafka itself would only wait."""
    options = kafka_options(load_settings(cluster.config(tmp_path / "ipt.toml", cluster.kafka("TOKENS"))).kafka)
    makes_token = cluster.tokens.makes_token
    cluster.tokens.makes_token = lambda _: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."
    try:
        found = await trouble(options) or ""
    finally:
        cluster.tokens.makes_token = makes_token

    assert found.endswith("does not accept the token. Ask its operator what a token must have there.")


async def test_who_is_let_in_has_no_trouble(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing is said where nothing is wrong."""
    options = kafka_options(load_settings(cluster.config(tmp_path / "ipt.toml", cluster.kafka("TOKENS"))).kafka)

    assert None is await trouble(options)


def test_a_wrong_password_ends_the_service_with_a_sentence(cluster: Cluster, tmp_path: Path) -> None:
    """By `run` as by `check`, with the documented exit code, and no secret anywhere."""
    config = cluster.config(tmp_path / "ipt.toml", cluster.kafka("PASSWORDS", sasl_password=WRONG))
    address = cluster.broker.address("PASSWORDS")
    expected = f"Kafka at {address} refuses user or password (SCRAM-SHA-512). Check sasl_username and sasl_password."

    checked, ran = command("check", config), command("run", config)

    assert (1, 69) == (checked.returncode, ran.returncode)
    assert f"wrong kafka: {expected}" in checked.stdout.splitlines()
    assert [f"ipt-bridge: {expected}"] == [line for line in ran.stderr.splitlines() if line.startswith("ipt-bridge")]
    assert "Traceback" not in ran.stderr
    assert [] == secrets_in(checked.stdout + checked.stderr + ran.stdout + ran.stderr)


def command(name: str, config: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the service that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service", name, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def until_assigned(config: Path, log: Path) -> str:
    """Run the service until its stream has partitions; return what it has logged, also in the end."""
    with log.open("wb") as opened:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "run", "--config", str(config)], stdout=opened, stderr=opened
        )
    try:
        until = time.monotonic() + STARTS_IN_S
        while time.monotonic() < until and process.poll() is None and b"partitions assigned" not in log.read_bytes():
            time.sleep(0.1)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        process.kill()
    return log.read_text()


def secrets_in(text: str) -> list[str]:
    """Return the secrets that a text shows."""
    return [secret for secret in (PASSWORD, CLIENT_SECRET, WRONG) if secret in text]
