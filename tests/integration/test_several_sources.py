"""Two EHRs in one running service, whose ids are the same: nothing of one ever counts for the other."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from service import app
from service.domain import state
from service.domain.codes import SNOMED_CT
from service.domain.facts import Code
from service.settings import Http, Kafka, KafkaDestination, Settings, Source, Topic
from service.settings import Store as StoreSettings
from service.store import Store
from tests.charts import charts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from service.domain.course import Course
    from service.sandbox.kafka import Broker

PART_2 = "http://terminology.hl7.org/CodeSystem/v3-ActCode|42CFRPart2"
STANDARD = {"system": SNOMED_CT, "code": "443730003"}
OF_THE_SITE = {"system": "https://clinic.example/fhir/visit-type", "code": "IPT"}
WITHIN_S = 60.0


def session(code: dict[str, str], name: str = "e-1") -> dict[str, Any]:
    """A session at ten o'clock, wherever that is."""
    return {
        "resourceType": "Encounter",
        "id": name,
        "meta": {"versionId": "1", "lastUpdated": "2026-03-04T23:00:00Z"},
        "status": "finished",
        "type": [{"coding": [code]}],
        "subject": {"reference": "Patient/p-1"},
        "period": {"start": "2026-03-04T10:00:00", "end": "2026-03-04T10:50:00"},
    }


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so; fail after `WITHIN_S`."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if await what():
                return
            await asyncio.sleep(0.1)


async def test_same_ids_of_two_sources_stay_apart(kafka: Broker, tmp_path: Path) -> None:
    """Each is read by its own zone, site, base and labels; a delete in one leaves the other's alone."""
    name = uuid.uuid4().hex[:8]
    topics = [f"north-{name}", f"south-{name}"]
    async with charts() as north, charts() as south:
        settings = Settings(
            kafka=Kafka(bootstrap=(kafka.bootstrap,), group_id=name),
            store=StoreSettings(url=f"sqlite:///{tmp_path}/store.sqlite"),
            http=Http(port=0),
            destinations=(KafkaDestination(kind="kafka", topic=f"plans-{name}"),),
            sources=(
                Source(
                    id="north",
                    topics=(Topic(name=topics[0], resource_type="Encounter"),),
                    time_zone="America/New_York",
                    fhir_base=north.base,
                    labels=(PART_2,),
                ),
                Source(
                    id="south",
                    topics=(Topic(name=topics[1], resource_type="Encounter"),),
                    time_zone="Australia/Sydney",
                    fhir_base=south.base,
                    site="example",
                ),
            ),
        )
        south.resources["Encounter/e-1"] = session(OF_THE_SITE)
        only_named = {"operationType": "update", "location": "Encounter/e-1/_history/1"}
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(each, 1, 1) for each in (*topics, f"plans-{name}")])
        await admin.close()
        stop = asyncio.Event()
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        serving = asyncio.create_task(app.serve(settings, stop))
        try:
            await producer.send_and_wait(topics[0], orjson.dumps(session(STANDARD)), key=b"e-1")
            await producer.send_and_wait(topics[0], orjson.dumps(session(OF_THE_SITE, "e-2")), key=b"e-2")
            await producer.send_and_wait(topics[1], orjson.dumps(only_named), key=b"e-1")

            async def both() -> bool:
                return serving.done() or len(await courses(settings)) == len(topics)

            await until(both)
            found = await courses(settings)
            assert ["north", "south"] == sorted(found)
            assert 2 == len({each.id for each in found.values()})
            assert [1, 1] == [each.held for each in found.values()]
            assert (Code(*PART_2.split("|")),) == found["north"].labels
            assert () == found["south"].labels
            starts = {source: each.sessions[0].start.astimezone(UTC) for source, each in found.items()}
            ten = datetime(2026, 3, 4, 10, tzinfo=UTC)
            assert {"north": ten + timedelta(hours=5), "south": ten - timedelta(hours=11)} == starts
            assert ([], ["Encounter/e-1"]) == (north.asked, south.asked)

            await producer.send_and_wait(topics[0], None, key=b"e-1")

            async def gone() -> bool:
                return serving.done() or "north" not in await courses(settings)

            await until(gone)
            assert {"south": found["south"]} == await courses(settings)
        finally:
            stop.set()
            await serving
            await producer.stop()


async def courses(settings: Settings) -> dict[str, Course]:
    """Return the patient's course by source, as the store has it."""
    async with await Store.open(settings.store.sqlalchemy_url()) as store:
        if not (await store.schema_state()).at_head:
            return {}
        stored = await store.operators.courses_of_patient("p-1")
    return {each.patient.source: state.load(each.state) for each in stored if not each.gone}
