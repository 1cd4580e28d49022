"""Plans on a real Kafka topic."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from service.outbound.careplan import bundle, render
from service.outbound.destination import Delivered, PlanDelivery, Route
from service.outbound.topic import MAX_BATCH_BYTES, MOST_CAUSES, TopicDestination
from service.rest.errors import Permanent, Transient
from service.sandbox.kafka import Broker
from tests import courses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiokafka import ConsumerRecord

    from service.domain.mappings import Mappings
    from service.outbound.careplan import Plan


@pytest.fixture
async def topic(kafka: Broker) -> str:
    """Return a compacted topic of one partition that takes plans of up to half a megabyte."""
    name = f"plans-{uuid.uuid4()}"
    configs = {"cleanup.policy": "compact", "max.message.bytes": "500000"}
    await kafka.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, topic_configs=configs)])
    return name


@pytest.fixture
async def destination(kafka: Broker, topic: str) -> AsyncIterator[TopicDestination]:
    """Return the topic as a destination."""
    opened = TopicDestination("kafka", topic, {"bootstrap_servers": kafka.bootstrap})
    yield opened
    await opened.close()


def delivery(plan: Plan, *, counter: int = 1, causes: tuple[str, ...] = ()) -> PlanDelivery:
    """Return a plan on its way."""
    return PlanDelivery(plan.course_id, f"revision-{counter}", counter, plan, causes, {"kept": {}})


async def on_topic(kafka: Broker, topic: str) -> list[ConsumerRecord]:
    """Return every record of the topic, as a consumer of committed records reads them."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        records: list[ConsumerRecord] = []
        while await consumer.position(partition) < end:
            records += [r for batch in (await consumer.getmany(timeout_ms=500)).values() for r in batch]
        return records
    finally:
        await consumer.stop()


async def test_a_plan_is_one_record_keyed_by_its_course(
    kafka: Broker, topic: str, destination: TopicDestination, mappings: Mappings
) -> None:
    """The value is the whole plan; headers say what a reader needs before opening it."""
    plan = render(courses.course(), mappings)
    delivered = await destination.deliver(delivery(plan, counter=7, causes=("Encounter/e-9",)))
    (record,) = await on_topic(kafka, topic)
    assert (plan.course_id.encode(), bundle(plan)) == (record.key, record.value)
    expected = {
        "content-type": b"application/fhir+json",
        "revision": b"revision-7",
        "counter": b"7",
        "source": b"main",
        "cause": b"Encounter/e-9",
    }
    assert expected == dict(record.headers)
    assert (Route.TOPIC, {"kept": {}}) == (delivered.route, delivered.ledger)


async def test_headers_never_name_the_patient(
    kafka: Broker, topic: str, destination: TopicDestination, mappings: Mappings
) -> None:
    """Brokers' tools and traces show headers; and there are only so many causes."""
    causes = tuple(f"Encounter/e-{number}" for number in range(40))
    await destination.deliver(delivery(render(courses.course("p-secret"), mappings), causes=causes))
    (record,) = await on_topic(kafka, topic)
    assert b"p-secret" not in b" ".join(value for _, value in record.headers)
    assert MOST_CAUSES == len([name for name, _ in record.headers if name == "cause"])


async def test_many_plans_at_once_are_all_acknowledged(
    kafka: Broker, topic: str, destination: TopicDestination, mappings: Mappings
) -> None:
    """One producer, one connection, whatever order they are acknowledged in."""
    plans = [render(courses.course(f"p-{number}"), mappings) for number in range(50)]
    delivered = await asyncio.gather(*(destination.deliver(delivery(plan)) for plan in plans))
    assert 50 == len(delivered)
    assert {plan.course_id.encode() for plan in plans} == {record.key for record in await on_topic(kafka, topic)}


async def test_a_plan_larger_than_a_batch_is_delivered(
    kafka: Broker, topic: str, destination: TopicDestination, mappings: Mappings
) -> None:
    """As long as the topic takes it."""
    sessions = tuple(courses.session(place) for place in range(1, 400))
    plan = render(courses.course(sessions=sessions), mappings)
    assert len(bundle(plan)) > MAX_BATCH_BYTES
    await destination.deliver(delivery(plan))
    (record,) = await on_topic(kafka, topic)
    activities = orjson.loads(record.value)["entry"][0]["resource"]["activity"]
    sent = {reference["reference"] for each in activities for reference in each.get("outcomeReference", ())}
    assert {f"Encounter/e-{place}" for place in range(1, 400)} <= sent


async def test_a_plan_that_the_topic_does_not_take_is_permanent_and_harms_no_other(
    kafka: Broker, topic: str, destination: TopicDestination, mappings: Mappings
) -> None:
    """A person must raise the limit."""
    sessions = tuple(courses.session(place) for place in range(1, 1_300))
    with pytest.raises(Permanent) as caught:
        await destination.deliver(delivery(render(courses.course(sessions=sessions), mappings)))
    assert "too-large" == caught.value.code
    await destination.deliver(delivery(render(courses.course("p-other"), mappings)))
    assert 1 == len(await on_topic(kafka, topic))


async def test_a_broker_that_is_away_is_transient_and_the_next_attempt_succeeds(mappings: Mappings) -> None:
    """Killed and started again on its data: what was acknowledged is there once, and what failed can be sent anew."""
    plans = [render(courses.course(f"p-{number}"), mappings) for number in range(3)]
    with Broker() as broker:
        await broker.create_topics([NewTopic("plans", num_partitions=1, replication_factor=1)])
        destination = TopicDestination("kafka", "plans", {"bootstrap_servers": broker.bootstrap}, deadline_s=3)
        try:
            await destination.deliver(delivery(plans[0]))
            broker.kill()
            outcomes = await asyncio.gather(
                *(destination.deliver(delivery(plan)) for plan in plans[1:]), return_exceptions=True
            )
            assert [Transient, Transient] == [type(outcome) for outcome in outcomes]
            broker.start()
            again = [await _until_delivered(destination, delivery(plan, counter=2)) for plan in plans[1:]]
            assert 2 == len(again)
            keys = [record.key for record in await on_topic(broker, "plans")]
        finally:
            await destination.close()
    assert [plan.course_id.encode() for plan in plans] == keys


async def _until_delivered(destination: TopicDestination, what: PlanDelivery) -> Delivered:
    for _ in range(20):
        try:
            return await destination.deliver(what)
        except Transient:
            continue
    return await destination.deliver(what)
