"""A yardstick: consume, JSON, the full fhir.resources model of each, 3 KB produced for each, commit.

No database and no IPT. Arguments: bootstrap servers, group, topic to produce to, topics to read.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from fhir.resources.R4B import get_fhir_model_class

from tests.bench.assigned import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import ConsumerRecord

BATCH = 500
PRODUCED_BYTES = 3072


async def floor(bootstrap: str, group: str, target: str, topics: Sequence[str]) -> None:
    """Read until ended."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=262_144, linger_ms=0
    )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    consumer.subscribe(list(topics), listener=Said())
    await producer.start()
    await consumer.start()
    try:
        while True:
            found = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            await asyncio.gather(
                *[await producer.send(target, made(each), key=each.key) for batch in found.values() for each in batch]
            )
            after = {TopicPartition(*partition): batch[-1].offset + 1 for partition, batch in found.items() if batch}
            if after:
                await consumer.commit(after)
    finally:
        await consumer.stop()
        await producer.stop()


def made(record: ConsumerRecord) -> bytes:
    """Return 3 KB that stand for a plan, once the record has passed its full model."""
    resource = orjson.loads(record.value)
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    value: bytes = record.value
    return value.ljust(PRODUCED_BYTES)


if __name__ == "__main__":
    asyncio.run(floor(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
