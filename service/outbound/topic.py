"""A Kafka topic as destination: compacted, keyed by course; the newest record of a key is the plan."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from service.outbound.careplan import bundle
from service.outbound.destination import Delivered, Route
from service.rest.errors import Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.outbound.destination import PlanDelivery

MAX_BATCH_BYTES = 262_144  # plans are 5 to 30 KB: the library's default of 16 KiB is 2.6 times slower
MOST_CAUSES = 16  # a backfill can have hundreds; headers are for following an event, not for keeping history
AT_ONCE = 64  # sends go out in batches; fewer of them would wait for each other's acknowledgements
CLOSE_S = 5.0
DEFAULT_DEADLINE_S = 30.0

Headers = list[tuple[str, bytes]]


def record(delivery: PlanDelivery) -> tuple[bytes, bytes, Headers]:
    """Return key, value and headers of a plan's record: course id, collection Bundle, and where it comes from.

    Headers name the source and source resources, never the patient.
    """
    headers: Headers = [
        ("content-type", b"application/fhir+json"),
        ("revision", delivery.revision.encode()),
        ("counter", str(delivery.counter).encode()),
        ("source", delivery.plan.source.encode()),
        *(("cause", cause.encode()) for cause in delivery.causes[:MOST_CAUSES]),
    ]
    return delivery.course_id.encode(), bundle(delivery.plan), headers


class TopicDestination:
    """Sends plans to one topic, each acknowledged by all in-sync replicas before it counts.

    `connection` says how to connect, as keyword arguments of AIOKafkaProducer (bootstrap_servers, security).
    `deadline_s` bounds each send.
    """

    def __init__(
        self,
        name: str,
        topic: str,
        connection: Mapping[str, Any],
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> None:
        self.name: Final = name
        self.at_once: Final = AT_ONCE
        self._topic = topic
        self._deadline_s = deadline_s
        self._connection = dict(connection)
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def deliver(self, delivery: PlanDelivery) -> Delivered:
        """Return once the broker has acknowledged the plan's record. Raises Transient or Permanent."""
        key, value, headers = record(delivery)
        producer = None
        try:
            async with asyncio.timeout(self._deadline_s):
                producer = await self._started()
                await (await producer.send(self._topic, key=key, value=value, headers=headers))
        except (MessageSizeTooLargeError, RecordTooLargeError):
            message = (
                f"The plan of {len(value)} bytes is larger than the topic takes. "
                "Raise max.message.bytes of the topic and max_request_size of the producer."
            )
            raise Permanent("too-large", message) from None
        except TopicAuthorizationFailedError:
            await self._discard(producer)
            message = f"Kafka lets us not write to {self._topic}. Give the service's user the right to write."
            raise Transient("unauthorised", message) from None
        except TimeoutError:
            # An idempotent send never expires: left alone it could still overtake a newer plan.
            await self._discard(producer)
            message = f"Kafka did not acknowledge within {self._deadline_s:g} s. It is tried again by itself."
            raise Transient("timeout", message) from None
        except (KafkaError, OSError) as error:
            # After a fatal error (fenced, out of sequence) a producer fails every send to come.
            await self._discard(producer)
            message = f"Kafka does not take plans ({type(error).__name__}). It is tried again by itself."
            raise Transient("unreachable", message) from None
        return Delivered(delivery.ledger, Route.TOPIC)

    async def close(self) -> None:
        """Close the producer; sends that are under way end in time or count as not delivered."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(TimeoutError, KafkaError, OSError):
                await asyncio.wait_for(producer.stop(), CLOSE_S)
            await _end(producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=MAX_BATCH_BYTES,
                    linger_ms=0,  # 5 ms of it made p50 27 ms instead of 3
                    compression_type="zstd",
                    **self._connection,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _end(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and self._producer is producer:
            self._producer = None
            await _end(producer)


async def _end(producer: AIOKafkaProducer) -> None:
    """Stop a producer without flushing: what it still holds fails at once, and must not go out later."""
    producer._closed = True  # noqa: SLF001 - its stop() flushes first, which can wait for ever
    with suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer._sender.close(), CLOSE_S)  # noqa: SLF001 - as above
    producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001 - as above
    with suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer.client.close(), CLOSE_S)
