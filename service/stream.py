"""The stream application: Kafka's records to the intake, a batch at a time, and offsets committed after it.

FastStream subscribes and follows the group's rebalances; what it would do with acknowledgements, parsing
and decoding is turned off, since each of those can lose a record or stop on one.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaAckableMessage
from faststream.security import BaseSecurity, SASLOAuthBearer, SASLPlaintext, SASLScram256, SASLScram512

from service.batches import Batch
from service.clients import kafka_options
from service.inbound.records import Record
from service.kafka_trouble import KafkaTrouble, trouble
from service.store.errors import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiokafka import AIOKafkaConsumer, ConsumerRecord
    from faststream.kafka.subscriber.usecase import BatchSubscriber

    from service.intake import Intake
    from service.settings import Kafka
    from service.vitals import Vitals

log = structlog.get_logger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BY_PASSWORD = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}

FETCH_BYTES = 512 * 1024
"""Most bytes fetched of one partition at a time, and so kept for it; a larger record still comes, alone."""
POLL = 1000
"""Most records taken over from Kafka's client at a time; with more of them waiting, the service is catching up."""
POLL_MS = 10_000
"""How long Kafka's client is asked to wait for records: it gives those that come at once (milliseconds)."""
BATCH_BYTES = 16 * 1024 * 1024
"""A batch that holds so much is full."""
WORTH_WAITING_FOR = 200
"""A batch waits for more records only where so many are known to be there."""
PUT_OFF_S = 10.0
"""While the service is catching up, patients are projected at this interval at the least (seconds)."""
MOST_PUT_OFF = 20_000
"""Or when so many wait for it (patients)."""
FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 10.0
"""Waits between attempts at a batch while the database is away: doubled up to this (seconds)."""
HAND_OVER_S = 20.0
"""How long a rebalance waits for the batch in hand; less than the group's rebalance timeout (seconds)."""
REBALANCE_TIMEOUT_MS = 60_000
SESSION_TIMEOUT_MS = 15_000


@dataclass(slots=True)
class Gathered:
    """A batch, and the offsets after it."""

    batch: Batch
    after: dict[TopicPartition, int] = field(default_factory=dict)


class Stream:
    """One worker's share of the topics, read into one intake."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Sequence[str],
        intake: Intake,
        *,
        on_change: Callable[[], None],
        vitals: Vitals,
    ) -> None:
        """`on_change` is called after each batch that changed a course."""
        self._intake = intake
        self._on_change = on_change
        self._batch_size = kafka.batch_size
        self._batch_timeout_s = kafka.batch_timeout_s
        self._poll_size = min(POLL, kafka.batch_size)
        self._lag: dict[TopicPartition, int] = {}
        self._vitals = vitals
        self._metrics = vitals.metrics
        self._waiting: asyncio.Queue[tuple[ConsumerRecord, ...]] = asyncio.Queue(maxsize=1)
        self._idle = asyncio.Event()
        self._idle.set()
        self._put_off_since: float | None = None
        self._committing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committing.set_result(None)
        options = self._connection = kafka_options(kafka)
        self.broker = KafkaBroker(
            options["bootstrap_servers"],
            security=_security(options),
            sasl_oauth_token_provider=options.get("sasl_oauth_token_provider"),
            consumer_only=True,
            logger=None,
            apply_types=False,  # to resolve an argument takes a thread for each hand-over
        )
        self.app = FastStream(self.broker, logger=None)
        self._subscriber: BatchSubscriber = self.broker.subscriber(
            *topics,
            batch=True,
            group_id=kafka.group_id,
            max_records=self._poll_size,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_BYTES,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            listener=_Rebalance(self),
            parser=_unparsed,
            decoder=_undecoded,
            title="fhir-events",
        )
        self._subscriber.get_msg = self._poll  # type: ignore[method-assign] # FastStream takes no subscriber of ours
        self._subscriber(self._take)

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop` is set; then finish the batch in hand, commit it and leave the group.

        Raises KafkaTrouble where Kafka can't be reached at the start.
        """
        try:
            await self.broker.start()
        except KafkaError as error:
            with contextlib.suppress(KafkaError):
                await self.broker.stop()
            found = await trouble(self._connection)
            raise KafkaTrouble(found or f"Kafka did not let us start ({type(error).__name__}). Start again.") from error
        try:
            await self._work(stop)
        finally:
            letting_go = asyncio.create_task(self._let_go())
            await self.broker.stop()
            letting_go.cancel()
            self._vitals.health.ended("intake")

    async def _poll(self, consumer: AIOKafkaConsumer) -> tuple[ConsumerRecord, ...]:
        """Return the next records as soon as there are any; none, should none come for long.

        FastStream's own way to ask for them sleeps as long again where none came: a lone record would wait for that.
        """
        found = await consumer.getmany(timeout_ms=POLL_MS, max_records=self._poll_size)
        return tuple(chain.from_iterable(found.values()))

    async def _take(self, records: Any) -> None:  # noqa: ANN401 - FastStream resolves the annotation
        """Hand a batch over as soon as the one before it is done."""
        await self._waiting.put(records)

    async def _let_go(self) -> None:
        """Take what is handed over and leave it uncommitted: FastStream's stop waits for who still hands over."""
        while True:
            await self._waiting.get()

    async def _work(self, stop: asyncio.Event) -> None:
        """Process one batch after the other; while the database has one, the next is read."""
        stopping = asyncio.create_task(stop.wait())
        reading = asyncio.create_task(self._gather())
        try:
            while not stop.is_set():
                self._vitals.turn("intake")
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED, timeout=1.0)
                if not reading.done():
                    continue
                gathered = reading.result()
                self._idle.clear()
                reading = asyncio.create_task(self._gather())
                try:
                    await self._process(gathered, stop)
                finally:
                    self._idle.set()
        finally:
            stopping.cancel()
            reading.cancel()
            await asyncio.gather(stopping, reading, self._committing, return_exceptions=True)

    async def _gather(self) -> Gathered:
        """Return what waits, up to a batch: a backlog in few large transactions, a lone record at once."""
        gathered = Gathered(Batch())
        records = await self._waiting.get()
        while True:
            await self._intake.read([record_from(record) for record in records], gathered.batch)
            # The records of a partition come in the order of their offsets: the last one stays.
            last = {(record.topic, record.partition): record.offset + 1 for record in records}
            gathered.after |= {TopicPartition(*place): offset for place, offset in last.items()}
            self._note_lag(gathered.after)
            size = len(gathered.batch.records)
            if size >= self._batch_size or gathered.batch.bytes >= BATCH_BYTES:
                return gathered
            if self._waits() < WORTH_WAITING_FOR:
                more = await self._more_while_busy()
                if more is None:
                    return gathered
                records = more
                continue
            try:
                async with asyncio.timeout(self._batch_timeout_s):
                    records = await self._waiting.get()
            except TimeoutError:
                return gathered

    async def _more_while_busy(self) -> tuple[ConsumerRecord, ...] | None:
        """Return the next records that come while the batch before is being stored; None once it is."""
        if not self._waiting.empty():
            return self._waiting.get_nowait()
        if self._idle.is_set():
            return None
        more = asyncio.create_task(self._waiting.get())
        idle = asyncio.create_task(self._idle.wait())
        try:
            await asyncio.wait({more, idle}, return_when=asyncio.FIRST_COMPLETED)
            return more.result() if more.done() else None
        finally:
            # A get that is cancelled before it is done takes nothing from the queue.
            more.cancel()
            idle.cancel()

    async def _process(self, gathered: Gathered, stop: asyncio.Event) -> None:
        """Store one batch, however long the database is away, and let its offsets be committed."""
        batch = gathered.batch
        put_off = self._waits() > POLL or self._intake.put_off > 0
        self._vitals.backlog.catching_up = put_off
        started = asyncio.get_running_loop().time()
        changed = await self._insisting(partial(self._intake.process, batch, put_off=put_off), stop)
        if changed is None:
            return
        self._metrics.batches("committed").inc()
        self._metrics.batch_records.observe(len(batch.records))
        self._metrics.batch_seconds.observe(asyncio.get_running_loop().time() - started)
        # In order: one commit at a time, and none before its batch is in the database.
        await self._committing
        self._committing = asyncio.create_task(self._commit(gathered.after))
        if put_off:
            changed = await self._catch_up(stop)
        if changed:
            self._on_change()

    async def _catch_up(self, stop: asyncio.Event) -> bool:
        """Project what was put off once the backlog is read, or has lasted; return whether it was done."""
        now = asyncio.get_running_loop().time()
        self._put_off_since = now if self._put_off_since is None else self._put_off_since
        lasts = self._waits() > POLL
        if lasts and now < self._put_off_since + PUT_OFF_S and self._intake.put_off < MOST_PUT_OFF:
            return False
        self._idle.set()  # the batch is done: nothing here is lost when its partitions move
        await self._insisting(self._intake.catch_up, stop)
        self._put_off_since = None
        self._vitals.backlog.catching_up = lasts
        return True

    async def _insisting(self, work: Callable[[], Awaitable[bool]], stop: asyncio.Event) -> bool | None:
        """Return what `work` returns, tried again while the database is away; None if told to stop meanwhile."""
        wait = FIRST_RETRY_S
        while True:
            self._vitals.turn("intake")
            try:
                return await work()
            except Exception as error:
                if not is_transient(error):
                    raise
                self._metrics.batches("retried").inc()
                log.warning("the database did not take a batch; trying again", wait_s=wait, exc_info=error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
            if stop.is_set():
                return None
            wait = min(2 * wait, LONGEST_RETRY_S)

    def _note_lag(self, after: Mapping[TopicPartition, int]) -> None:
        consumer: AIOKafkaConsumer | None = self._subscriber.consumer
        if consumer is None:
            return
        for partition in after.keys() & consumer.assignment():
            self._lag[partition] = max(0, (consumer.highwater(partition) or 0) - after[partition])
            self._metrics.lag_of(partition.topic, partition.partition).set(self._lag[partition])

    def _waits(self) -> int:
        """How many records are known to wait."""
        return sum(self._lag.values())

    async def _commit(self, after: Mapping[TopicPartition, int]) -> None:
        """Commit the offsets of the partitions that this worker still has."""
        consumer: AIOKafkaConsumer | None = self._subscriber.consumer
        if consumer is None:
            return
        mine = {partition: after[partition] for partition in after.keys() & consumer.assignment()}
        if not mine:
            return
        try:
            await consumer.commit(mine)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("partitions moved to another worker, which reads the batch again", exc_info=error)
        except KafkaError as error:
            log.warning("offsets were not committed; the next batch's commit includes them", exc_info=error)

    async def settle(self) -> None:
        """Return once the batch in hand is stored and committed, or after `HAND_OVER_S`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_S):
                await self._idle.wait()
                await asyncio.shield(self._committing)

    def assigned(self, partitions: int) -> None:
        """Note that the group gave this worker its partitions."""
        self._lag.clear()
        self._vitals.backlog.catching_up = False
        self._metrics.rebalances.inc()
        log.info("partitions assigned", count=partitions)


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Lets the batch in hand be committed before its partitions move."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            await self._stream.settle()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._stream.assigned(len(assigned))


async def _unparsed(records: tuple[ConsumerRecord, ...]) -> KafkaAckableMessage:
    """Keep the records as they are: headers that are None or not UTF-8 can't fail here."""
    return KafkaAckableMessage(raw_message=records, body=b"", consumer=FAKE_CONSUMER)


async def _undecoded(message: KafkaAckableMessage) -> Any:  # noqa: ANN401 - FastStream's own signature
    return message.raw_message


def record_from(record: ConsumerRecord) -> Record:
    """Return what Kafka's client gives as the service's own value."""
    return Record(
        record.topic,
        record.partition,
        record.offset,
        _EPOCH + max(0, record.timestamp) * _MILLISECOND,
        record.key,
        record.value,
        tuple(record.headers),
    )


def _security(options: Mapping[str, Any]) -> BaseSecurity | None:
    """Return in FastStream's words what aiokafka's options say of security."""
    context = options.get("ssl_context")
    encrypted = context is not None
    match options.get("sasl_mechanism"):
        case None:
            return BaseSecurity(ssl_context=context) if encrypted else None
        case "OAUTHBEARER":
            return SASLOAuthBearer(ssl_context=context, use_ssl=encrypted)
        case mechanism:
            return _BY_PASSWORD[mechanism](
                username=options["sasl_plain_username"],
                password=options["sasl_plain_password"],
                ssl_context=context,
                use_ssl=encrypted,
            )
