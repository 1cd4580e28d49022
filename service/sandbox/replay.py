"""Brings synthetic patients to the parts: their charts to the FHIR server, their events to Kafka, both watched."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from service.sandbox.process import SandboxError
from service.store import ParkedKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from service.sandbox.events import Event, Resource
    from service.sandbox.patients import SyntheticPatient
    from service.store import Store

TOPICS = {"Encounter": "fhir.encounter", "QuestionnaireResponse": "fhir.questionnaireresponse"}
"""Topic of each stream of the synthetic EHR."""
PLANS = "ipt.careplan"
PARTITIONS = 3
AT_ONCE = 4
"""Resources on their way to the FHIR server at once."""
REQUEST_S = 60
LOOK_S = 0.25
PATIENCE_S = 90.0
"""Longest time without any change before the replay is given up."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the replay is."""

    events: int
    sent: int
    read: int
    """Events that the service has committed."""
    courses: int
    delivered: int
    """Courses whose plan every destination has acknowledged."""
    behind: int
    """Plans that some destination is still to take, counted for each destination."""
    refused: int
    """Of those, the ones that wait for a person."""
    parked: int
    """Records that can't be read, and plans that are refused."""

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.sent == self.read == self.events and self.behind <= self.refused


@dataclass(slots=True)
class Sent:
    """Counts what was handed to the producer."""

    events: int = 0


def topics() -> list[NewTopic]:
    """Return the topics that the demo reads and the one that it writes."""
    sources = [NewTopic(name, PARTITIONS, 1) for name in TOPICS.values()]
    return [*sources, NewTopic(PLANS, PARTITIONS, 1, topic_configs={"cleanup.policy": "compact"})]


async def write_charts(base: str, patients: Iterable[SyntheticPatient], written: Callable[[], None]) -> None:
    """Put what a chart holds before the first event into the FHIR server; `written` is called for each resource.

    Raises SandboxError with the server's status where it takes one not.
    """
    by_id = {f"{each['resourceType']}/{each['id']}": each for patient in patients for each in patient.resources}
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(timeout=REQUEST_S) as client:

        async def put(reference: str, resource: Resource) -> None:
            async with gate:
                try:
                    answer = await client.put(f"{base}/{reference}", json=resource)
                except httpx.HTTPError as error:
                    text = f"The FHIR server did not take {reference} ({type(error).__name__}). Try again."
                    raise SandboxError(text) from error
            if not answer.is_success:
                raise SandboxError(f"The FHIR server refused {reference} (HTTP {answer.status_code}). Report it.")
            written()

        # The server holds references to what is there: conditions follow those whom they name.
        named = [reference for reference in by_id if not reference.startswith("Condition/")]
        for wave in (named, by_id.keys() - set(named)):
            await asyncio.gather(*(put(reference, by_id[reference]) for reference in wave))


async def send(bootstrap: str, events: Sequence[Event], speed: float, sent: Sent) -> None:
    """Send the events in their order, `speed` of them a second; 0: as fast as they go. Raises SandboxError."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    try:
        await producer.start()
        began = time.monotonic()
        acknowledged = []
        for number, event in enumerate(events):
            if speed:
                await asyncio.sleep(max(0.0, began + number / speed - time.monotonic()))
            stamp = round(event.time.timestamp() * 1000)
            topic = TOPICS[event.kind]
            acknowledged.append(await producer.send(topic, event.value, key=event.key.encode(), timestamp_ms=stamp))
            sent.events += 1
        await asyncio.gather(*acknowledged)
    except KafkaError as error:
        raise SandboxError(f"Kafka did not take the events ({type(error).__name__}). Try again.") from error
    finally:
        await producer.stop()


@dataclass(frozen=True, slots=True)
class Watch:
    """Where to look for how far the service is."""

    bootstrap: str
    group_id: str
    store: Store
    running: Callable[[], bool]
    """Whether the service still runs."""
    log: str
    """Where the service writes what goes wrong."""


async def replay(watch: Watch, events: Sequence[Event], speed: float, shown: Callable[[Standing], None]) -> Standing:
    """Send the events and wait until each is read and each plan delivered, or refused for good.

    Raises SandboxError where the service ends, or where nothing changes any more.
    """
    sent = Sent()
    admin = AIOKafkaAdminClient(bootstrap_servers=watch.bootstrap)
    sending = asyncio.create_task(send(watch.bootstrap, events, speed, sent))
    try:
        await admin.start()
        last, changed_at = None, time.monotonic()
        while True:
            if sending.done():
                sending.result()
            # In this order: what is read was committed before the courses and deliveries are counted.
            read = await _read(admin, watch.group_id)
            now = await _standing(watch.store, len(events), sent.events, read)
            shown(now)
            if now.settled and sending.done():
                return now
            if now != last:
                last, changed_at = now, time.monotonic()
            if not watch.running():
                raise SandboxError(f"The service ended by itself. Read {watch.log}.")
            if time.monotonic() - changed_at > PATIENCE_S + (1 / speed if speed else 0.0):
                raise SandboxError(
                    f"Nothing has moved for {PATIENCE_S:.0f} seconds: {now.read} of {now.events} events are read, "
                    f"{now.behind} plans are not delivered. Read {watch.log}."
                )
            await asyncio.sleep(LOOK_S)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await admin.close()


async def _read(admin: AIOKafkaAdminClient, group_id: str) -> int:
    """How many records the group has committed: the topics are new, so an offset counts what is before it."""
    try:
        offsets = await admin.list_consumer_group_offsets(group_id)
    except KafkaError as error:
        if error.retriable:  # the group's coordinator is not known before its first member has come
            return 0
        raise SandboxError(f"Kafka does not tell what is read ({type(error).__name__}). Try again.") from error
    return sum(max(0, each.offset) for partition, each in offsets.items() if partition.topic in TOPICS.values())


async def _standing(store: Store, events: int, sent: int, read: int) -> Standing:
    counts = await store.operators.counts()
    courses = sum(counts.courses.values())
    refused = sum(number for (kind, _), number in counts.parked.items() if kind == ParkedKind.DELIVERY)
    return Standing(
        events=events,
        sent=sent,
        read=read,
        courses=courses,
        delivered=max(0, courses - max(chain([0], counts.undelivered.values()))),
        behind=sum(counts.undelivered.values()),
        refused=refused,
        parked=sum(counts.parked.values()),
    )
