"""History from topics: every record from their beginning to where they end at the start, outside of any group."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaTimeoutError

from service.backfill.portions import Portion, Refusal
from service.stream import record_from

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from aiokafka import TopicPartition

    from service.backfill.portions import Position

MOST_RECORDS = 1000
FETCH_BYTES = 1024 * 1024
"""Most bytes of one partition that are kept at a time."""
POLL_MS = 500
STALLED_S = 60.0
"""A broker that gives nothing for so long, with records left, is taken for away (seconds)."""


async def of_topics(
    options: Mapping[str, Any], topics: Sequence[str], position: Position | None = None
) -> AsyncGenerator[Portion, None]:
    """Yield what topics hold, from a position of an earlier run on; `options` are Kafka's client's.

    Offsets of the service's own group stay as they are. Raises KafkaError while the broker is away, and Refusal
    for a topic that does not exist.
    """
    reached: dict[str, int] = (position or {}).get("offsets", {})
    missing = sorted(set(topics) - await _known(options))
    if missing:
        raise Refusal(f"There is no topic {missing[0]}. `ipt-bridge check` tries every topic.")
    async with _consumer(options, topics) as consumer:
        parts: list[TopicPartition] = sorted(consumer.assignment())
        first = await consumer.beginning_offsets(parts)
        ends = await consumer.end_offsets(parts)
        at = {part: max(first[part], reached.get(_name(part), 0)) for part in parts}
        total = sum(ends[part] - first[part] for part in parts)
        for part, offset in at.items():
            consumer.seek(part, offset)
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        while open_ := [part for part in parts if at[part] < ends[part]]:
            consumer.pause(*(part for part in parts if part not in open_))
            found = await consumer.getmany(*open_, timeout_ms=POLL_MS, max_records=MOST_RECORDS)
            now = {part: await consumer.position(part) for part in open_}
            if any(now[part] > at[part] for part in open_):
                moved_at = loop.time()
            elif loop.time() - moved_at > STALLED_S:
                raise KafkaTimeoutError
            at |= now
            records = [record_from(record) for part in found for record in found[part] if record.offset < ends[part]]
            done = sum(min(at[part], ends[part]) - first[part] for part in parts)
            yield Portion(records, {"offsets": {_name(part): at[part] for part in parts}}, done, total)


async def _known(options: Mapping[str, Any]) -> set[str]:
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=10_000)
    try:
        await admin.start()
        return set(await admin.list_topics())
    finally:
        await admin.close()


@asynccontextmanager
async def _consumer(options: Mapping[str, Any], topics: Sequence[str]) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        *topics,
        **options,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


def _name(part: TopicPartition) -> str:
    return f"{part.topic}/{part.partition}"
