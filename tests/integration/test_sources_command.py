"""`ipt-bridge sources`: what it tells of each source, from a database and a real broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from typer.testing import CliRunner

from service.cli import cli
from service.commands import sources_screen
from service.commands.sources import SourceState, as_json, lag_by_topic
from service.domain.event_numbers import Numbered
from service.settings import Kafka, Settings, Source, Topic
from service.store import EventGap, FeedCount, FeedOverview, FeedRate, Store
from tests.integration.store.samples import NOW, parked

if TYPE_CHECKING:
    from pathlib import Path

    from service.sandbox.kafka import Broker

NOBODY = "127.0.0.1:9"
"""An address at which nothing listens."""
QUIET = FeedOverview(None, (), (), {}, {}, {})
BUSY = FeedOverview(
    latest=NOW,
    rates=(
        FeedRate("Encounter", "conformant", 8, 9),
        FeedRate("Encounter", "deviating", 3, 3),
        FeedRate("Encounter", "relevant", 48, 100),
        FeedRate("other", "irrelevant", 4800, 9000),
    ),
    gaps=(EventGap(1, "main", "Subscription/s-1", 119, 120, NOW, NOW + timedelta(minutes=3), NOW, 2),),
    gaps_closed={"arrived": 4, "searched-without-deletes": 1},
    deviations={"Encounter.class": 3, "Encounter.?": 1},
    parked={"no-subject": 12, "bad-status": 3},
)


def shown(*states: SourceState) -> str:
    """Return what is printed, with its spaces made one."""
    console = Console(file=StringIO(), width=200)
    sources_screen.show(console, states)
    assert isinstance(console.file, StringIO)
    return "\n".join(" ".join(line.split()) for line in console.file.getvalue().splitlines())


def test_person_sees_what_comes_what_is_missing_and_what_is_wrong() -> None:
    """A line for each, and what to do about it."""
    source = Source(fhir_base="https://ehr.example/fhir")
    told = shown(SourceState(source, BUSY, {"fhir.encounter": 7, "fhir.questionnaireresponse": 0}))

    for line in (
        "source main fhir.encounter, fhir.questionnaireresponse",
        "lag 7 records (fhir.encounter 7, fhir.questionnaireresponse 0)",
        "Encounter relevant 48 2.0 100",
        "other irrelevant 4800 200.0 9000",
        "closed: 4 came late, 1 searched for without deletes",
        "a search tells of no deletes; `ipt-bridge backfill search --history` brings them",
        "conformance 3 of 12 resources deviate from FHIR R4, at",
        "3 Encounter.class",
        "parked 12 no-subject, 3 bad-status: ipt-bridge parked list",
    ):
        assert line in told
    assert "gaps Subscription/s-1: event 119 to 120 missing" in told
    assert "conformant" not in told


def test_source_of_which_nothing_has_come_says_so() -> None:
    """And that Kafka does not answer."""
    told = shown(SourceState(Source(), QUIET, None))

    for line in ("last event none yet", "changes none yet", "gaps none open", "parked nothing"):
        assert line in told
    assert "lag unknown: Kafka does not answer" in told
    assert "conformance not looked at (inbound.conformance)" in told


def test_json_holds_the_same() -> None:
    """With the names that scripts rely on."""
    told = as_json(SourceState(Source(), BUSY, {"fhir.encounter": 7}))

    assert {"fhir.encounter": 7} == told["lag"]
    assert [("Encounter", "relevant", 48, 100), ("other", "irrelevant", 4800, 9000)] == [
        tuple(each.values()) for each in told["changes"]
    ]
    assert (119, 120, 2) == tuple(told["gaps"][0][name] for name in ("first", "last", "missing"))
    assert (12, 3) == (told["conformance"]["held"], told["conformance"]["deviating"])
    assert {"path": "Encounter.class", "resources": 3} == told["conformance"]["deviations"][0]
    assert {"no-subject": 12, "bad-status": 3} == told["parked"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings of a source whose database has a count, two gaps and something parked, and whose broker is away."""
    url = f"sqlite:///{tmp_path}/store.sqlite"

    async def fill() -> None:
        async with await Store.open(url) as store:
            await store.migrate()
            seen = {("main", "Subscription/s-1"): [Numbered(number, NOW) for number in (1, 3, 5)]}
            async with store.transaction() as transaction:
                await transaction.park([parked()], NOW)
                await transaction.tell([FeedCount("main", "Encounter", "relevant", 5, NOW)], {}, seen, NOW)
            await store.sources.notice_gaps(timedelta(0), NOW)

    asyncio.run(fill())
    file = tmp_path / "ipt-bridge.toml"
    file.write_text(f'[kafka]\nbootstrap = "{NOBODY}"\n[store]\nurl = "{url}"\n', encoding="utf-8")
    return file


def test_command_tells_what_the_database_knows_while_kafka_is_away(config: Path) -> None:
    """And closes gaps for a person who knows that what they hide came in another way."""
    run = CliRunner().invoke(cli, ["sources", "--json", "--config", str(config)])
    (told,) = json.loads(run.stdout)

    assert ("main", None, 2) == (told["source"], told["lag"], len(told["gaps"]))
    assert [{"kind": "Encounter", "outcome": "relevant", "day": 0, "ever": 5}] == told["changes"]
    settled = CliRunner().invoke(cli, ["sources", "--settle", "main", "--config", str(config)])
    assert (0, True) == (settled.exit_code, "2 gaps of main closed." in settled.stdout)
    assert "closed: 2 closed by hand" in settled.stdout
    assert 2 == CliRunner().invoke(cli, ["sources", "--source", "x", "--config", str(config)]).exit_code


async def test_lag_is_what_the_group_has_not_committed(kafka: Broker) -> None:
    """Of a topic without commits all that is there; a topic that does not exist has none."""
    name = uuid.uuid4().hex[:8]
    settings = Kafka(bootstrap=(kafka.bootstrap,), group_id=name)
    topics = [f"read-{name}", f"unread-{name}"]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1) for topic in topics])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for topic in topics:
            for number in range(6):
                await producer.send_and_wait(topic, b"{}", partition=number % 2)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=name, enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition(topics[0], 0)])
        await consumer.commit({TopicPartition(topics[0], 0): 2})

    assert {topics[0]: 4, topics[1]: 6} == await lag_by_topic(settings, [*topics, f"none-{name}"])
    assert await lag_by_topic(Kafka(bootstrap=(NOBODY,)), topics) is None


def test_settings_have_a_source_each() -> None:
    """The state of a source names its topics."""
    (source,) = Settings(sources=(Source(id="a", topics=(Topic(name="t"),)),)).sources
    assert "source a t" in shown(SourceState(source, QUIET, {"t": 0}))
    assert datetime.now(UTC) > NOW
