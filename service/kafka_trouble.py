"""Why Kafka can't be reached, in one sentence: aiokafka's own clients say only that it can't."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest

from service.rest.transport import tls_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_MS = 10_000
"""Longest wait for one broker's answer (milliseconds)."""

CLOSES_IN_S = 0.2
"""Longest wait for a connection to be closed, which one that was never open does not tell (seconds)."""


class KafkaTrouble(Exception):  # noqa: N818 - it says what there is
    """Kafka can't be reached; the message says why, and what to set."""


class NoToken(KafkaConnectionError):  # type: ignore[misc] # noqa: N818 - aiokafka has no types; it says what is missing
    """There is no token for OAUTHBEARER; the message says why."""


async def trouble(options: Mapping[str, Any]) -> str | None:
    """Return why no broker lets us in, told of the last one asked; None where one does.

    `options` are those of every aiokafka client.
    """
    found = None
    security = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    for address in options["bootstrap_servers"]:
        host, _, port = address.rpartition(":")
        connection = AIOKafkaConnection(host, int(port), request_timeout_ms=TIMEOUT_MS, **security)
        try:
            await connection.connect()
            # aiokafka takes a refused token for an accepted one: the broker names no brokers then, not even itself.
            if (await connection.send(MetadataRequest([]))).brokers:
                return None
            found = _sentence(SaslAuthenticationFailed(), address, options)
        except (KafkaError, OSError) as error:
            found = _sentence(error, address, options)
        finally:
            await asyncio.wait({connection.close()}, timeout=CLOSES_IN_S)
    return found


def _sentence(error: Exception, address: str, options: Mapping[str, Any]) -> str:
    mechanism = options.get("sasl_mechanism", "")
    problem = tls_problem(error)
    match error:
        case NoToken():
            return f"no token for Kafka at {address}. {error.args[0]}"
        case _ if problem is not None:
            return f"no TLS with Kafka at {address}: {problem[1]}. Look at ca_file and security_protocol of [kafka]."
        case SaslAuthenticationFailed() if mechanism == "OAUTHBEARER":
            return f"Kafka at {address} does not accept the token. Ask its operator what a token must have there."
        case SaslAuthenticationFailed():
            return f"Kafka at {address} refuses user or password ({mechanism}). Check sasl_username and sasl_password."
        case UnsupportedSaslMechanismError():
            return f"Kafka at {address} does not offer {mechanism}. Set sasl_mechanism to one that it offers."
        case socket.gaierror():
            reason = "name not known"
        case ConnectionRefusedError():
            reason = "nobody listens there"
        case TimeoutError():
            reason = "no answer in time; look at security_protocol too"
        case KafkaConnectionError() if options["security_protocol"].endswith("SSL"):
            reason = (
                "it closes the connection, as where it asks for another client certificate; look at certificate_file"
            )
        case _:
            reason = f"{type(error).__name__}; look at security_protocol too"
    return f"can't reach Kafka at {address} ({reason}). Set IPT_KAFKA__BOOTSTRAP or [kafka] bootstrap."
