"""Topics read from their beginning, on a real broker: whole, once, and outside of any group."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from service.backfill import consuming
from service.backfill.consuming import of_topics
from service.backfill.portions import Portion, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.backfill.portions import Position
    from service.sandbox.kafka import Broker


@dataclass
class Topics:
    """Two topics, one of them over two partitions."""

    options: dict[str, Any]
    names: list[str]
    producer: AIOKafkaProducer

    async def send(self, count: int, *, first: int = 0) -> None:
        """Write records into both topics, in turn."""
        for number in range(first, first + count):
            value = f"{number}".encode()
            await self.producer.send(self.names[number % 2], value, key=value, partition=None)
        await self.producer.flush()

    async def portions(self, position: Position | None = None) -> list[Portion]:
        """Return all that they hold."""
        return [each async for each in of_topics(self.options, self.names, position)]


@pytest.fixture
async def topics(kafka: Broker) -> AsyncIterator[Topics]:
    """Topics of this test's own, and a producer."""
    names = sorted(f"backfill-{uuid.uuid4().hex}" for _ in range(2))
    await kafka.create_topics([NewTopic(name, partitions, 1) for name, partitions in zip(names, (1, 2), strict=True)])
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    yield Topics({"bootstrap_servers": kafka.bootstrap}, names, producer)
    await producer.stop()


def values(found: list[Portion]) -> list[int]:
    """Return the numbers that were read, sorted."""
    return sorted(int(each.value or b"-1") for portion in found for each in portion.records)


async def test_topics_are_read_from_their_beginning_to_their_end(topics: Topics) -> None:
    """Each record with its own place, as the stream has it; how much is left is told."""
    await topics.send(100)
    found = await topics.portions()
    assert list(range(100)) == values(found)
    assert (100, 100) == (found[-1].done, found[-1].total)
    places = {(each.topic, each.partition, each.offset) for portion in found for each in portion.records}
    assert (100, set(topics.names)) == (len(places), {topic for topic, _, _ in places})


async def test_reading_goes_on_from_any_position(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before it and what comes after are the whole, each record once."""
    monkeypatch.setattr(consuming, "MOST_RECORDS", 20)
    await topics.send(100)
    whole = await topics.portions()
    for place, portion in list(enumerate(whole))[::3]:
        rest = await topics.portions(portion.position)
        assert list(range(100)) == sorted([*values(whole[: place + 1]), *values(rest)])


async def test_it_ends_where_the_topics_ended_at_the_start(topics: Topics) -> None:
    """What is written meanwhile is the stream's; else a busy topic would never be done."""
    await topics.send(10)
    found: list[Portion] = []
    async for portion in of_topics(topics.options, topics.names):
        if not found:
            await topics.send(20, first=10)
        found.append(portion)
    assert list(range(10)) == values(found)


async def test_transactions_are_read_as_they_ended(topics: Topics, kafka: Broker) -> None:
    """What was rolled back is not read, and the marks at the end of a topic keep nobody waiting."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=uuid.uuid4().hex)
    await producer.start()
    async with producer.transaction():
        await asyncio.gather(*[await producer.send(topics.names[0], b"%d" % number) for number in range(5)])
    await producer.begin_transaction()
    await asyncio.gather(*[await producer.send(topics.names[0], b"%d" % number) for number in range(5, 9)])
    await producer.abort_transaction()
    await producer.stop()
    assert list(range(5)) == values(await topics.portions())


async def test_empty_topics_are_done_at_once(topics: Topics) -> None:
    """Nothing to read is no reason to wait."""
    assert [] == values(await topics.portions())


async def test_topic_that_does_not_exist_is_named(topics: Topics) -> None:
    """Before anything is read."""
    topics.names.append("backfill-nowhere")
    with pytest.raises(Refusal, match="backfill-nowhere"):
        await topics.portions()


async def test_no_group_is_joined(topics: Topics, kafka: Broker) -> None:
    """The service's offsets stay as they are: there is nothing that could move them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    before = await admin.list_consumer_groups()
    await topics.send(10)
    await topics.portions()
    assert before == await admin.list_consumer_groups()
    await admin.close()


async def test_broker_that_is_away_is_told() -> None:
    """By Kafka's own error, for the command to explain."""
    with pytest.raises(KafkaError):
        [each async for each in of_topics({"bootstrap_servers": "127.0.0.1:9"}, ["any"])]
