"""The real parts of a run: one broker, one PostgreSQL that waits for its disk, and what is made on them."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import asyncpg
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from service.configuration import load_mappings
from service.domain.facts import Fact, FactKey, merge
from service.inbound.reading import read_record
from service.inbound.records import Limits, Record, SourceContext
from service.inbound.relevance import Relevance
from service.sandbox.kafka import Broker
from service.sandbox.postgres import DURABLE, Postgres
from service.settings import Settings
from tests.bench.events import ENCOUNTER, RESPONSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from service.domain.mappings import Mappings
    from tests.bench.events import Event

SOURCE = "main"
PARTITIONS = 4
"""Of each topic that is read."""
PLAN_PARTITIONS = 4
UNSENT = 5_000
"""Records handed to the producer before waiting for the broker to have them."""
TRANSACTION_MS = 600_000
"""Longest time between the writing of gated records and the opening of their gate (milliseconds)."""

# What a server of its own would have at the least; and a checkpoint in mid-run would fall on one row alone.
SERVER = DURABLE | {
    "shared_buffers": "2GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
}
# The first change of a page after a checkpoint logs all of it. To compress the pages of a large store by pglz, the
# only other way, took two thirds of the server's time in row 9. Not every server is built with lz4.
_COMPRESSION = """
SELECT CASE WHEN 'lz4' = ANY (enumvals) THEN 'lz4' ELSE 'off' END FROM pg_settings WHERE name = 'wal_compression'
"""

Facts = dict[str, dict[FactKey, Fact]]
"""The newest fact of each resource, by patient."""

_CONTEXT = SourceContext(SOURCE, ZoneInfo("UTC"))
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Events that wait on topics, to be read by any number of consumer groups."""

    topics: tuple[str, ...]
    """Of encounters and of responses."""
    ends: dict[TopicPartition, int]
    """The offset that a group has committed in each partition when it has read everything."""
    records: int
    facts: Facts
    """What a store must end up with."""


@dataclass(slots=True)
class Parts:
    """The parts while a run lasts."""

    broker: Broker
    postgres: Postgres
    folder: Path
    mappings: Mappings
    _number: int = field(default=0)

    def name(self, what: str) -> str:
        """Return a name that nothing of this run has had yet."""
        self._number += 1
        return f"{what}-{self._number}"

    async def topics(self, what: str) -> tuple[str, str]:
        """Make the two topics of a source."""
        name = self.name(what)
        topics = (f"{name}.encounter", f"{name}.questionnaireresponse")
        await self.broker.create_topics(NewTopic(topic, PARTITIONS, 1) for topic in topics)
        return topics

    async def plan_topic(self) -> str:
        """Make a topic for plans, or what stands for them."""
        name = self.name("plans")
        compacted = {"cleanup.policy": "compact"}
        await self.broker.create_topics([NewTopic(name, PLAN_PARTITIONS, 1, topic_configs=compacted)])
        return name

    @contextlib.asynccontextmanager
    async def database(self, kind: str, *, copy_of: str = "") -> AsyncIterator[str]:
        """Give the URL of a database, `postgresql` or `sqlite`; deleted when the block ends.

        It is empty, or the copy of one of PostgreSQL, by its URL, that nobody is connected to.
        """
        name = self.name("store").replace("-", "_")
        if kind == "sqlite":
            path = self.folder / f"{name}.sqlite"
            yield f"sqlite:///{path}"
            for file in self.folder.glob(f"{name}.sqlite*"):
                file.unlink()
            return
        template = f"TEMPLATE {copy_of.rpartition('/')[2]} STRATEGY FILE_COPY" if copy_of else ""
        await self.execute(self.postgres.url(), f"CREATE DATABASE {name} {template}")
        yield self.postgres.url(name)
        # A finished database would still be vacuumed, in the time of other rows.
        await self.execute(self.postgres.url(), f"DROP DATABASE {name} WITH (FORCE)")

    async def execute(self, url: str, *statements: str) -> None:
        """Execute statements on a database, each a transaction of its own."""
        connection = await asyncpg.connect(plain(url))
        try:
            for statement in statements:
                await connection.execute(statement, timeout=1800)
        finally:
            await connection.close()

    async def compress_wal(self) -> str:
        """Let PostgreSQL compress the pages in its log by lz4, where it can; return what it does then."""
        connection = await asyncpg.connect(plain(self.postgres.url()))
        try:
            found = str(await connection.fetchval(_COMPRESSION))
            await connection.execute(f"ALTER SYSTEM SET wal_compression = {found}")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()
        return found

    async def postgresql_version(self) -> str:
        """Return PostgreSQL's version, as `18.1`."""
        connection = await asyncpg.connect(plain(self.postgres.url()))
        try:
            return str(await connection.fetchval("SHOW server_version")).partition(" ")[0]
        finally:
            await connection.close()

    async def write(self, what: str, events: Iterable[Event]) -> Waiting:
        """Write events to topics of their own, keyed by resource as an EHR does."""
        topics = await self.topics(what)
        async with self.producer() as producer:
            return await self.send(producer, topics, events)

    @contextlib.asynccontextmanager
    async def gated(self, what: str, events: Iterable[Event]) -> AsyncIterator[tuple[Waiting, AIOKafkaProducer]]:
        """Write events that nobody sees before `commit_transaction()`: then they all wait at once."""
        topics = await self.topics(what)
        name = self.name("gate")
        async with self.producer(transactional_id=name, transaction_timeout_ms=TRANSACTION_MS) as producer:
            await producer.begin_transaction()
            yield await self.send(producer, topics, events), producer

    @contextlib.asynccontextmanager
    async def producer(self, **options: str | int) -> AsyncIterator[AIOKafkaProducer]:
        """Give a producer as an interface engine has it."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.broker.bootstrap,
            acks="all",
            enable_idempotence=True,
            max_batch_size=262_144,
            **options,
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def send(self, producer: AIOKafkaProducer, topics: tuple[str, str], events: Iterable[Event]) -> Waiting:
        """Write events to these topics; return when the broker has them."""
        ends: dict[TopicPartition, int] = {}
        facts: Facts = {}
        relevance = Relevance.of(self.mappings)
        count = 0
        sent: list[asyncio.Future[TopicPartition]] = []

        async def arrived() -> None:
            for written in await asyncio.gather(*sent):
                partition = TopicPartition(written.topic, written.partition)
                ends[partition] = max(ends.get(partition, 0), written.offset + 1)
            sent.clear()

        for event in events:
            sent.append(await producer.send(topic_of(topics, event), event.value, key=event.key.encode()))
            count += 1
            _add(facts, facts_in(event, relevance))
            if len(sent) == UNSENT:
                await arrived()
        await arrived()
        return Waiting(topics, ends, count, facts)


def topic_of(topics: tuple[str, str], event: Event) -> str:
    """Return the one of a source's two topics that an event is written to."""
    return topics[(ENCOUNTER, RESPONSE).index(event.kind)]


def facts_in(event: Event, relevance: Relevance) -> list[Fact]:
    """Return what the service has to know from an event; nothing, if it is not ours."""
    record = Record(event.kind, 0, 0, _LONG_AGO, event.key.encode(), event.value)
    return read_record(record, _CONTEXT, relevance, Limits()).facts


def newest_facts(events: Iterable[Event], mappings: Mappings) -> Facts:
    """Return what a store must end up with that has read these events."""
    facts: Facts = {}
    relevance = Relevance.of(mappings)
    for event in events:
        _add(facts, facts_in(event, relevance))
    return facts


def _add(facts: Facts, found: Iterable[Fact]) -> None:
    for fact in found:
        known = facts.setdefault(str(fact.patient_id), {})
        known[fact.key] = merge(known.get(fact.key), fact)


def plain(url: str) -> str:
    """Return a store's URL as asyncpg itself takes it."""
    return url.replace("+asyncpg", "")


@contextlib.contextmanager
def parts() -> Iterator[Parts]:
    """Give the real parts; they end, and everything on them is lost, when the block ends."""
    with (
        tempfile.TemporaryDirectory(prefix="ipt-bridge-bench-") as place,
        Broker() as broker,
        Postgres(SERVER) as postgres,
    ):
        yield Parts(broker, postgres, Path(place), load_mappings(Settings(), None))
