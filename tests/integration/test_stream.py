"""The stream on a real broker, into SQLite: what a backlog, a stop and a rebalance leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError
from faststream.kafka.subscriber.usecase import BatchSubscriber

from service import stream
from service.settings import Kafka
from service.store import Store
from service.stream import Stream
from tests.workers import Clock, expected, recorded, stored, weekly, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.sandbox.events import Event
    from service.sandbox.kafka import Broker
    from tests.workers import Worker

PATIENTS = 150
EACH = 20
BACKLOG = {f"b{patient}": weekly(patient, EACH) for patient in range(PATIENTS)}
NOW = datetime(2026, 7, 6, tzinfo=UTC)
PARTITIONS = 2
DEADLINE_S = 60.0


@dataclass
class Site:
    """A topic, a group and a database."""

    kafka: Kafka
    topic: str
    url: str
    mappings: Mappings

    async def send(self, events: Iterable[Event]) -> None:
        """Write events and wait for the broker to have them."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap[0])
        await producer.start()
        sent = [await producer.send(self.topic, each.value, key=each.key.encode()) for each in events]
        await asyncio.gather(*sent)
        await producer.stop()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[tuple[Worker, asyncio.Task[None]]]:
        """Read with one more worker of the group while the block lasts; it may be cancelled before."""
        stop = asyncio.Event()
        async with await Store.open(self.url) as store:
            reader = worker(store, self.mappings, Clock(NOW), topics=[self.topic])
            stream = Stream(self.kafka, [self.topic], reader.intake, on_change=lambda: None, vitals=reader.vitals)
            running = asyncio.create_task(stream.run(stop))
            try:
                yield reader, running
            finally:
                stop.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

    async def committed(self) -> int:
        """Return how many records the group has committed."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap[0])
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(self.kafka.group_id)
            places = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
            return sum(offsets[place].offset for place in places if place in offsets)
        except GroupCoordinatorNotAvailableError:
            return 0  # the broker's first group: it makes the topic of offsets meanwhile
        finally:
            await admin.close()

    async def all_committed(self, records: int) -> None:
        """Wait until the group has committed so many records."""
        deadline = time.monotonic() + DEADLINE_S
        while await self.committed() < records:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


@pytest.fixture
async def site(kafka: Broker, tmp_path: Path, mappings: Mappings) -> Site:
    """A site of its own, its group's batches never filled by waiting."""
    name = uuid.uuid4().hex[:8]
    await kafka.create_topics([NewTopic(name, PARTITIONS, 1)])
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    async with await Store.open(url) as store:
        await store.migrate()
    return Site(Kafka(bootstrap=(kafka.bootstrap,), group_id=name), name, url, mappings)


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def different(site: Site) -> list[str]:
    """Return the patients of the backlog whose courses are not what their facts say."""
    async with await Store.open(site.url) as store:
        assert 0 == (await store.operators.counts()).put_off
        return [
            patient
            for patient, events in BACKLOG.items()
            if expected(patient, events, site.mappings, as_of=NOW) != await stored(store, patient)
        ]


def merged(*readers: Worker) -> float:
    """Return how many facts these workers counted as new; each event of the backlog is one."""
    return sum(each.counted("facts", source="main", effect="merged") for each in readers)


def interleaved() -> list[Event]:
    """Return the backlog as it happened: all patients' first events, then the second ones."""
    return [events[place] for place in range(EACH) for events in BACKLOG.values()]


async def test_lone_record_is_stored_without_waiting_for_more(site: Site) -> None:
    """However long a batch may take to fill."""
    patient = replace(site, kafka=site.kafka.model_copy(update={"batch_timeout_s": 30.0}))
    async with patient.reading() as (reader, _):
        await until(lambda: reader.counted("rebalances") > 0)
        await site.send(BACKLOG["b0"][:1])
        began = time.monotonic()
        await until(lambda: merged(reader) > 0)
        assert time.monotonic() < began + 5
        assert expected("b0", BACKLOG["b0"][:1], site.mappings, as_of=NOW) == await stored(reader.store, "b0")


async def test_records_are_not_asked_for_in_faststreams_own_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sleeps after each poll that found nothing: a lone record after a quiet while would wait for that."""
    asked: list[object] = []

    async def get_msg(_self: object, consumer: object) -> tuple[object, ...]:
        asked.append(consumer)
        return ()

    monkeypatch.setattr(BatchSubscriber, "get_msg", get_msg)
    monkeypatch.setattr(stream, "POLL_MS", 50)
    async with site.reading() as (reader, _):
        await until(lambda: reader.counted("rebalances") > 0)
        await asyncio.sleep(0.2)  # some polls that find nothing
        await site.send(BACKLOG["b2"][:1])
        await until(lambda: merged(reader) > 0)
    assert not asked


async def test_headers_of_a_record_say_what_happened(site: Site) -> None:
    """Two events of a patient, then their deletes: by Medplum's headers, and as a CloudEvent without data."""
    events = BACKLOG["b1"][:2]
    one, other = (orjson.loads(each.value or b"") for each in events)
    async with site.reading() as (reader, _):
        await site.send(events)
        await until(lambda: merged(reader) == 2)
        assert await stored(reader.store, "b1")

        producer = AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap[0])
        await producer.start()
        medplum = [("X-Medplum-Deleted-Resource", f"{one['resourceType']}/{one['id']}".encode()), ("trace", None)]
        await producer.send_and_wait(site.topic, b"{}", key=b"b1", headers=medplum)
        cloud_event = [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"org.example.deleted"),
            ("ce_subject", f"{other['resourceType']}/{other['id']}".encode()),
        ]
        await producer.send_and_wait(site.topic, None, key=b"b1", headers=cloud_event)
        await producer.stop()

        await until(lambda: merged(reader) == 4)
        assert {} == await stored(reader.store, "b1")


async def test_backlog_is_read_in_few_transactions_and_projected_once(site: Site) -> None:
    """In the end every patient is projected, the offsets are committed, and nobody catches up any more."""
    await site.send(interleaved())
    async with site.reading() as (reader, _):
        await site.all_committed(PATIENTS * EACH)
        await until(lambda: reader.intake.put_off == 0 and not reader.vitals.backlog.catching_up)
        await until(lambda: reader.counted("projections") >= PATIENTS)
        batches = reader.counted("batches", outcome="committed")
        projections = reader.counted("projections")
    assert ([], PATIENTS * EACH) == (await different(site), merged(reader))
    # A transaction for each poll would be six or more, each of which would have projected every patient.
    assert batches <= 5
    assert projections <= 2 * PATIENTS


async def test_worker_that_is_cut_off_in_a_backlog_loses_nothing(site: Site) -> None:
    """The next one reads what was not committed, and counts nothing twice."""
    site.kafka = site.kafka.model_copy(update={"batch_size": 300})
    await site.send(interleaved())
    async with site.reading() as (first, running):
        await until(lambda: merged(first) > 0)
        running.cancel()
        await asyncio.wait([running])
        assert merged(first) < PATIENTS * EACH
    async with site.reading() as (second, _):
        await second.store.take_up(NOW)
        await second.intake.sweep()
        await site.all_committed(PATIENTS * EACH)
        await until(lambda: second.intake.put_off == 0 and not second.vitals.backlog.catching_up)
    assert ([], PATIENTS * EACH) == (await different(site), merged(first, second))


async def test_worker_that_ends_between_the_two_commits_changes_no_course_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has the batch, Kafka does not know: the next worker reads it again, and nothing changes."""

    async def ended(_self: object, _after: object) -> None:
        """Commit no offsets, as a worker that was killed just before."""

    events = BACKLOG["b3"][:6]
    with monkeypatch.context() as patched:
        patched.setattr(stream.Stream, "_commit", ended)
        async with site.reading() as (first, _):
            await site.send(events)
            await until(lambda: merged(first) == len(events))
            await until(lambda: first.counted("projections") > 0)
        assert await site.committed() == 0
    async with await Store.open(site.url) as store:
        before = await recorded(store, "b3")
        assert expected("b3", events, site.mappings, as_of=NOW) == await stored(store, "b3")
    async with site.reading() as (second, _):
        await site.all_committed(len(events))
    assert second.counted("facts", source="main", effect="known") == len(events)
    assert merged(second) == 0
    async with await Store.open(site.url) as store:
        assert before == await recorded(store, "b3")


async def test_worker_that_joins_in_a_backlog_takes_its_share_and_nothing_is_lost(site: Site) -> None:
    """Partitions move in the middle: each record is stored once, and each patient projected with all facts."""
    site.kafka = site.kafka.model_copy(update={"batch_size": 200})
    await site.send(interleaved())
    async with site.reading() as (first, _):
        await until(lambda: merged(first) > 0)
        async with site.reading() as (second, _):
            await site.all_committed(PATIENTS * EACH)
            await until(lambda: second.counted("rebalances") > 0)
            await site.send(BACKLOG["b0"])
            await site.all_committed(PATIENTS * EACH + EACH)
            for each in (first, second):
                await each.store.take_up(NOW)
                await each.intake.sweep()
            await until(lambda: not (first.vitals.backlog.catching_up or second.vitals.backlog.catching_up))
    assert ([], PATIENTS * EACH) == (await different(site), merged(first, second))


async def test_worker_that_is_stopped_in_a_backlog_ends_at_once(site: Site) -> None:
    """It finishes the batch in hand and leaves the rest to others, within an orchestrator's patience."""
    site.kafka = site.kafka.model_copy(update={"batch_size": 300})
    await site.send(interleaved())
    async with site.reading() as (reader, _):
        await until(lambda: merged(reader) > 0)
        began = time.monotonic()
    assert time.monotonic() < began + 8
    assert merged(reader) == await site.committed()
