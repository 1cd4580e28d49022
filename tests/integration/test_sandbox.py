"""The sandbox's parts are the real ones, do their job, and never outlive who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic

from service.sandbox.kafka import Broker
from service.sandbox.postgres import DURABLE, Postgres
from service.sandbox.process import Child, SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.sandbox.hapi import FhirServer
    from service.sandbox.validator import Issue, Validator

DEADLINE_S = 30
NARRATIVE = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Plan</div>'}
SCRIPT = {
    "status": "generated",
    "div": '<div xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></div>',
}


def _care_plan(**elements: object) -> dict[str, Any]:
    return {
        "resourceType": "CarePlan",
        "id": "plan",
        "text": NARRATIVE,
        "status": "active",
        "intent": "plan",
        "subject": {"reference": "Patient/somebody"},
        **elements,
    }


def _without(resource: dict[str, Any], element: str) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != element}


async def _send(broker: Broker, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def _read(broker: Broker, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest") as consumer:
        values: list[bytes] = []
        while len(values) < count:
            record = await consumer.getone()
            values.append(record.value)
        return values


async def test_broker_hands_on_what_it_acknowledged(kafka: Broker) -> None:
    """A consumer reads what a producer sent, in order."""
    topic = f"sandbox-{uuid4()}"
    await kafka.create_topics([NewTopic(topic, 1, 1)])
    sent = [str(number).encode() for number in range(10)]

    await _send(kafka, topic, sent)

    assert sent == await _read(kafka, topic, len(sent))


async def test_topic_that_exists_is_left_as_it_is(kafka: Broker) -> None:
    """Asking twice for a topic is no error and keeps its records."""
    topic = f"sandbox-{uuid4()}"
    await kafka.create_topics([NewTopic(topic, 1, 1)])
    await _send(kafka, topic, [b"kept"])

    await kafka.create_topics([NewTopic(topic, 1, 1)])

    assert [b"kept"] == await _read(kafka, topic, 1)


async def test_topic_that_the_broker_refuses_is_an_error(kafka: Broker) -> None:
    """Kafka's own refusal comes out as an exception, which its client does not do."""
    with pytest.raises(SandboxError, match="two words"):
        await kafka.create_topics([NewTopic("two words", 1, 1)])


async def test_killed_broker_keeps_acknowledged_records() -> None:
    """A broker that was killed starts again on the same address and data."""
    sent = [str(number).encode() for number in range(50)]
    with Broker() as broker:
        await broker.create_topics([NewTopic("kept", 1, 1)])
        await _send(broker, "kept", sent)

        broker.kill()
        broker.start()

        assert sent == await _read(broker, "kept", len(sent))


@pytest.fixture
def chart(fhir_server: FhirServer) -> Iterator[httpx.Client]:
    """A client of an empty FHIR server that knows one patient."""
    fhir_server.reset()
    with httpx.Client(base_url=fhir_server.base, timeout=60) as client:
        client.put("/Patient/somebody", json={"resourceType": "Patient", "id": "somebody"}).raise_for_status()
        yield client


def test_fhir_server_gives_back_what_it_took(chart: httpx.Client) -> None:
    """A CarePlan that was put is read with version 1."""
    assert 201 == chart.put("/CarePlan/plan", json=_care_plan()).status_code

    found = chart.get("/CarePlan/plan").json()

    assert ("1", "active") == (found["meta"]["versionId"], found["status"])


def test_fhir_server_finds_an_identifier_written_with_a_bar(chart: httpx.Client) -> None:
    """A search with a raw `|` in its address, as many clients write it, is understood at once."""
    identifier = {"system": "https://example.org/plans", "value": "7"}
    chart.put("/CarePlan/plan", json=_care_plan(identifier=[identifier])).raise_for_status()

    # httpx would encode the bar, were the query not part of the address
    found = chart.get("/CarePlan?identifier=https://example.org/plans|7").json()

    assert 1 == found["total"]


def test_fhir_server_refuses_a_stale_version(chart: httpx.Client) -> None:
    """An If-Match that names another version than the current one is a conflict."""
    chart.put("/CarePlan/plan", json=_care_plan()).raise_for_status()

    answer = chart.put("/CarePlan/plan", json=_care_plan(status="revoked"), headers={"If-Match": 'W/"7"'})

    assert 409 == answer.status_code


@pytest.mark.parametrize(
    "invalid",
    [
        pytest.param(_without(_care_plan(), "status"), id="no status"),
        pytest.param(_care_plan(text=SCRIPT), id="script in the narrative"),
    ],
)
def test_fhir_server_refuses_an_invalid_plan(chart: httpx.Client, invalid: dict[str, Any]) -> None:
    """What FHIR does not allow is not stored."""
    assert 422 == chart.put("/CarePlan/plan", json=invalid).status_code
    assert 404 == chart.get("/CarePlan/plan").status_code


def test_fhir_server_refuses_a_reference_to_nobody(chart: httpx.Client) -> None:
    """Referential integrity is on, as in an EHR."""
    assert 400 == chart.put("/CarePlan/plan", json=_care_plan(subject={"reference": "Patient/nobody"})).status_code


def test_reset_empties_the_fhir_server(fhir_server: FhirServer, chart: httpx.Client) -> None:
    """After a reset nothing is known, not even that it was there."""
    fhir_server.reset()

    assert 404 == chart.get("/Patient/somebody").status_code


def _errors(issues: list[Issue]) -> list[str]:
    return [issue.path for issue in issues if issue.is_error]


def test_validator_passes_a_good_plan(validator: Validator) -> None:
    """A plan that keeps to FHIR and to our own extensions has no error."""
    phase = {
        "url": "https://ipt-bridge.org/fhir/StructureDefinition/course-phase",
        "valueCodeableConcept": {
            "coding": [{"system": "https://ipt-bridge.org/fhir/CodeSystem/phase", "code": "initial"}]
        },
    }

    assert [] == _errors(validator.validate(_care_plan(extension=[phase])))


@pytest.mark.parametrize(
    ("invalid", "place"),
    [
        pytest.param(_without(_care_plan(), "status"), "CarePlan", id="no status"),
        pytest.param(_care_plan(text=SCRIPT), "CarePlan.text.div", id="script in the narrative"),
        pytest.param(
            _care_plan(extension=[{"url": "https://example.org/unknown", "valueString": "x"}]),
            "CarePlan.extension[0]",
            id="unknown extension",
        ),
        pytest.param(_care_plan(mood="good"), "CarePlan", id="unknown element"),
        pytest.param(
            _care_plan(
                extension=[
                    {
                        "url": "https://ipt-bridge.org/fhir/StructureDefinition/course-phase",
                        "valueString": "initial",
                    }
                ]
            ),
            "CarePlan.extension[0]",
            id="own extension with a wrong type",
        ),
    ],
)
def test_validator_names_the_place_of_an_error(validator: Validator, invalid: dict[str, Any], place: str) -> None:
    """Each fault is found where it is."""
    assert place in _errors(validator.validate(invalid))


def test_validator_survives_what_is_no_json(validator: Validator) -> None:
    """A broken resource is an issue like others, and the next one is judged."""
    assert ["fatal"] == [issue.severity for issue in validator.validate(b"{broken")]
    assert [] == _errors(validator.validate(_care_plan()))


async def test_postgres_answers_in_a_database_of_its_own(postgres: Postgres) -> None:
    """A created database takes connections under the URL that came back."""
    url = postgres.create_database(f"sandbox_{uuid4().hex}")

    connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
    try:
        assert 1 == await connection.fetchval("select 1")
    finally:
        await connection.close()


async def test_durable_postgres_waits_for_its_disk() -> None:
    """A server with the settings for durability says itself that each commit reaches the disk first."""
    with Postgres(DURABLE) as server:
        connection = await asyncpg.connect(server.url().replace("postgresql+asyncpg", "postgresql"))
        try:
            found = {name: await connection.fetchval(f"show {name}") for name in DURABLE}
        finally:
            await connection.close()
    assert {"fsync": "on", "synchronous_commit": "on"} == found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_broker_ends_when_its_python_is_killed() -> None:
    """A SIGKILL of who started it, which no handler sees, ends the Java process and clears its folder."""
    program = (
        "import time\n"
        "from service.sandbox.kafka import Broker\n"
        "with Broker() as broker:\n"
        "    print(broker.pid, broker.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as python:
        assert python.stdout is not None
        pid, folder = python.stdout.readline().split()
        assert _alive(int(pid))

        python.send_signal(signal.SIGKILL)

    end = time.monotonic() + DEADLINE_S
    while (_alive(int(pid)) or Path(folder).exists()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _alive(int(pid))
    assert not Path(folder).exists()


def test_program_that_ends_at_once_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    """A part that can't start says where its own words stand."""
    log = tmp_path / "part.log"
    child = Child("The part", [sys.executable, "-c", "raise SystemExit('no memory')"], log=log)

    with pytest.raises(SandboxError, match=str(log)):
        child.wait_until(lambda: False, deadline_s=DEADLINE_S)

    assert "no memory" in log.read_text()


def test_program_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    """A deadline that passes is an error, and leaves no process behind."""
    child = Child("The part", [sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "part.log")

    with pytest.raises(SandboxError, match="not ready"):
        child.wait_until(lambda: False, deadline_s=0)

    assert not _alive(child.pid)
