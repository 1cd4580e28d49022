"""The whole path as an operator runs it: `ipt-bridge run` on a real broker, database and FHIR server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from service.configuration import load_settings
from service.rest.transport import authorities
from service.sandbox.disorder import shuffle
from service.sandbox.patients import generate, stream
from service.store import Store
from tests.fault_proxy import Fault, How, fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from service.sandbox.events import Event
    from service.sandbox.hapi import FhirServer
    from service.sandbox.kafka import Broker
    from service.sandbox.patients import SyntheticPatient
    from service.sandbox.postgres import Postgres

START = date(2026, 1, 5)
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Site:
    """One installation of the service: a configuration file and the topics that it reads and writes."""

    config: Path
    bootstrap: str
    encounters: str
    responses: str
    plans: str
    log: Path

    def topic(self, event: Event) -> str:
        """Return the topic of an event."""
        return self.encounters if event.kind == "Encounter" else self.responses

    def start(self) -> subprocess.Popen[bytes]:
        """Start the service as an operator does."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service", "run", "--config", str(self.config)], stderr=log, stdout=log
            )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the service."""
        return subprocess.run(
            [sys.executable, "-m", "service", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@contextlib.contextmanager
def running(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service while the block lasts; end it as an orchestrator does."""
    process = site.start()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


@pytest.fixture(params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, kafka: Broker, fhir_server: FhirServer, postgres: Postgres, tmp_path: Path
) -> Site:
    """An installation with topics, a group and a database of its own."""
    name = uuid.uuid4().hex[:8]
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    if request.param == "postgresql":
        url = postgres.create_database(f"site_{name}")
    made = Site(
        tmp_path / "ipt-bridge.toml", kafka.bootstrap, f"enc-{name}", f"qr-{name}", f"plans-{name}", tmp_path / "log"
    )
    made.config.write_text(
        f"""
        [kafka]
        bootstrap = "{kafka.bootstrap}"
        group_id = "{name}"
        [store]
        url = "{url}"
        [http]
        port = 0
        [deliveries]
        lease_s = 5
        [[sources]]
        id = "main"
        time_zone = "America/New_York"
        topics = [
            {{ name = "{made.encounters}", resource_type = "Encounter" }},
            {{ name = "{made.responses}", resource_type = "QuestionnaireResponse" }},
        ]
        [[destinations]]
        kind = "kafka"
        topic = "{made.plans}"
        [[destinations]]
        kind = "fhir"
        base = "{fhir_server.base}"
        """
    )
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    topics = [NewTopic(topic, 2, 1) for topic in (made.encounters, made.responses)]
    compacted = NewTopic(made.plans, 1, 1, topic_configs={"cleanup.policy": "compact"})
    answer = await admin.create_topics([*topics, compacted])
    await admin.close()
    assert [0, 0, 0] == [error[1] for error in answer.topic_errors]
    migrated = made.command("migrate")
    assert 0 == migrated.returncode, migrated.stderr
    return made


@pytest.fixture
async def producer(kafka: Broker) -> AsyncIterator[AIOKafkaProducer]:
    """A producer as an interface engine has it."""
    made = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True)
    await made.start()
    yield made
    await made.stop()


async def load(server: FhirServer, patients: Iterable[SyntheticPatient]) -> None:
    """Write the patients' own resources into the FHIR server."""
    async with httpx.AsyncClient(base_url=server.base, timeout=60) as client:
        for patient in patients:
            for resource in patient.resources:
                answer = await client.put(f"{server.base}/{resource['resourceType']}/{resource['id']}", json=resource)
                assert answer.is_success, resource["resourceType"]


async def send(site: Site, producer: AIOKafkaProducer, events: Sequence[Event]) -> None:
    """Write the events to their topics and wait for the broker to have them."""
    waiting = [
        await producer.send(
            site.topic(event), event.value, key=event.key.encode(), timestamp_ms=round(event.time.timestamp() * 1000)
        )
        for event in events
    ]
    await asyncio.gather(*waiting)


async def started(site: Site, process: subprocess.Popen[bytes]) -> None:
    """Wait until the service says that it has started."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        said = site.log.read_bytes()
        if b'"started"' in said:
            return
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.05)


async def settled(site: Site) -> None:
    """Wait until everything is read and delivered, as the service's own store says."""
    settings = load_settings(site.config)
    deadline = time.monotonic() + DEADLINE_S
    admin = AIOKafkaAdminClient(bootstrap_servers=site.bootstrap)
    await admin.start()
    consumer = AIOKafkaConsumer(bootstrap_servers=site.bootstrap)
    await consumer.start()
    try:
        async with await Store.open(settings.store.sqlalchemy_url()) as store:
            while True:
                offsets = await admin.list_consumer_group_offsets(settings.kafka.group_id)
                ends = await consumer.end_offsets([*partitions_of(site)])
                read = all(end == 0 or (tp in offsets and offsets[tp].offset == end) for tp, end in ends.items())
                pending = [await store.deliveries.pending(each.name) for each in settings.destinations]
                if read and not any(each.count for each in pending):
                    return
                if time.monotonic() > deadline:
                    counts = [each.count for each in pending]
                    offsets_now = {str(tp): (offsets.get(tp), end) for tp, end in ends.items()}
                    pytest.fail(f"not settled: {offsets_now}, pending {counts}; {site.log.read_text()[-3000:]}")
                await asyncio.sleep(0.3)
    finally:
        await consumer.stop()
        await admin.close()


def partitions_of(site: Site) -> Iterator[TopicPartition]:
    """Yield the partitions of the source topics."""
    for topic in (site.encounters, site.responses):
        for number in (0, 1):
            yield TopicPartition(topic, number)


async def plans_on_topic(site: Site) -> dict[str, bytes]:
    """Return the newest record of each course on the plan topic."""
    consumer = AIOKafkaConsumer(site.plans, bootstrap_servers=site.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    found: dict[str, bytes] = {}
    try:
        while batch := await consumer.getmany(timeout_ms=2000):
            for records in batch.values():
                found |= {record.key.decode(): record.value for record in records}
    finally:
        await consumer.stop()
    return found


async def test_events_become_courses_and_current_plans_across_a_kill(
    site: Site, producer: AIOKafkaProducer, fhir_server: FhirServer
) -> None:
    """Shuffled, doubled and late events; SIGKILL in mid-stream; every course verified and delivered."""
    fhir_server.reset()
    patients = generate(7, 6, START)
    await load(fhir_server, patients)
    events = shuffle(stream(patients), 7)
    process = site.start()
    try:
        await send(site, producer, events[: len(events) // 2])
        await started(site, process)
        await send(site, producer, events[len(events) // 2 :])
        process.kill()
        assert -signal.SIGKILL == process.wait(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
    with running(site):
        await settled(site)
    verified = site.command("verify", "--json")
    assert 0 == verified.returncode, verified.stdout + verified.stderr
    report = json.loads(verified.stdout)
    assert [] == report["different"]
    on_topic = await plans_on_topic(site)
    courses = [course for patient in patients for course in shown(site, patient.patient_id)]
    assert report["courses"] == len(courses)
    assert {course["id"] for course in courses} <= on_topic.keys()
    async with httpx.AsyncClient(timeout=30) as client:
        for course in courses:
            bundle = json.loads(on_topic[course["id"]])
            plan = bundle["entry"][0]["resource"]
            assert "CarePlan" == plan["resourceType"]
            answer = await client.get(f"{fhir_server.base}/CarePlan/{plan['id']}")
            assert 200 == answer.status_code, site.log.read_text()[-2000:]
            in_chart = answer.json()
            assert held_of(plan) == held_of(in_chart) == course["held"]
            assert plan["status"] == in_chart["status"]
            assert plan.get("goal") == in_chart.get("goal")


async def test_kill_between_a_write_and_its_acknowledgement_writes_nothing_twice(
    site: Site, producer: AIOKafkaProducer, fhir_server: FhirServer
) -> None:
    """The EHR has the plan, and nobody heard of it: the next start finds it there."""
    fhir_server.reset()
    (patient,) = generate(5, 1, START)
    await load(fhir_server, [patient])
    async with (
        fault_proxy(fhir_server.base) as proxy,
        httpx.AsyncClient(base_url=f"{fhir_server.base}/", timeout=60, verify=authorities()) as http,
    ):
        site.config.write_text(site.config.read_text().replace(fhir_server.base, proxy.base))
        proxy.faults = [Fault(How.LOST_AFTER)]
        process = site.start()
        try:
            await send(site, producer, patient.events)
            deadline = time.monotonic() + DEADLINE_S
            while not (before := await in_chart(http)):
                assert time.monotonic() < deadline, site.log.read_text()
                await asyncio.sleep(0.1)
        finally:
            process.kill()
            assert -signal.SIGKILL == process.wait(timeout=10)
        assert 1 == proxy.met
        with running(site):
            await settled(site)
        after = await in_chart(http)
    courses = shown(site, patient.patient_id)
    assert len(courses) == len(after)
    assert before <= after
    report = json.loads(site.command("verify", "--json").stdout)
    assert ([], len(courses)) == (report["different"], report["courses"])


async def in_chart(http: httpx.AsyncClient) -> set[str]:
    """Return the ids of all CarePlans that a FHIR server holds."""
    found = (await http.get("CarePlan", params={"_count": "200"})).raise_for_status().json()
    return {entry["resource"]["id"] for entry in found.get("entry", [])}


def shown(site: Site, patient: str) -> list[dict[str, Any]]:
    """Return a patient's courses as `ipt-bridge show` gives them."""
    answer = site.command("show", patient, "--json")
    return json.loads(answer.stdout) if answer.returncode == 0 else []


def held_of(plan: dict[str, Any]) -> int:
    """Return the number of sessions held that a CarePlan states."""
    (counts,) = [e for e in plan["extension"] if e["url"].endswith("/session-count")]
    (held,) = [e["valueUnsignedInt"] for e in counts["extension"] if e["url"] == "held"]
    return int(held)


async def test_bad_records_are_parked_and_others_go_on(
    site: Site, producer: AIOKafkaProducer, fhir_server: FhirServer
) -> None:
    """Whatever a topic holds, the good records beside it are read, and no value of the bad ones is logged."""
    fhir_server.reset()
    canary = "Zzyzx-Canary"
    (patient,) = generate(3, 1, START)
    await load(fhir_server, [patient])
    bad: list[tuple[bytes | None, bytes | None, list[tuple[str, Any]]]] = [
        (b"k", f"{canary} not json".encode(), []),
        (b"k", b"\xff\xfe\x00" + canary.encode(), []),
        (b"k", b"[" * 100_000 + b"]" * 100_000, []),
        (b"k", b'{"resourceType":"Encounter","id":"nan","x":NaN}', []),
        (None, b'{"resourceType":"Encounter","id":"%s","status":"finished"}' % canary.encode(), [("h", b"\xff")]),
        (b"k", b'{"resourceType":"Nonsense","id":"x"}', [("n", None)]),
        (b"k", b"", []),
    ]
    with running(site):
        for key, value, headers in bad:
            await producer.send_and_wait(site.encounters, value, key=key, headers=headers)
        await send(site, producer, patient.events)
        await settled(site)
    listed = json.loads(site.command("parked", "list", "--json").stdout)
    assert {"not-json", "not-utf8", "too-deep"} <= {item["reason"] for item in listed}
    assert 1 <= len(shown(site, patient.patient_id))
    assert canary not in site.log.read_text()
    assert canary not in json.dumps(listed)


async def test_sigterm_ends_the_service_with_exit_code_zero(site: Site) -> None:
    """An orchestrator's stop is no failure."""
    process = site.start()
    await started(site, process)
    process.send_signal(signal.SIGTERM)
    assert 0 == await asyncio.to_thread(process.wait, 30), site.log.read_text()
