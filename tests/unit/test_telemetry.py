"""What operators see: log lines, metrics and probes, none of which may hold patient data."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from service.health import Condition, Health, health_app, serving
from service.metrics import Metrics, create_metrics
from service.settings import Log
from service.telemetry import configure_logging, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "Zyxwvut Canary"


class CourseError(ValueError):
    """Stands for an error of the service's own."""

    code = "no-subject"


CourseError.__module__ = "service.inbound.readers"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log lines go while the test lasts; everything is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines(stream: io.StringIO) -> _Lines:
    """Log as JSON, and what was logged."""
    configure_logging(Log(format="json"), stream)
    return _Lines(stream)


@dataclass
class _Lines:
    stream: io.StringIO

    def last(self) -> dict[str, Any]:
        return json.loads(self.stream.getvalue().splitlines()[-1])  # type: ignore[no-any-return] # JSON object

    def text(self) -> str:
        return self.stream.getvalue()


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of one source and two destinations."""
    return create_metrics(
        topics={"main": ("fhir.encounter",)}, destinations=["kafka", "ehr"], reasons=["not-json", "too-large"]
    )


def _fail(error: Exception) -> None:
    raise error


def test_a_line_is_one_json_object(lines: _Lines) -> None:
    """With level, logger and time in UTC."""
    structlog.get_logger("service.intake").info("batch committed", records=5)

    line = lines.last()
    assert {"event": "batch committed", "records": 5, "level": "info", "logger": "service.intake"} == {
        key: value for key, value in line.items() if key != "timestamp"
    }
    assert line["timestamp"].endswith("Z")


def test_lines_for_a_person_are_no_json(stream: io.StringIO) -> None:
    """At a terminal, or where it is set."""
    configure_logging(Log(format="console"), stream)

    structlog.get_logger("service.intake").warning("broker away", attempt=2)

    assert "broker away" in stream.getvalue()
    assert "attempt" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_leaves_type_code_and_place_but_no_message(stream: io.StringIO, log_format: str) -> None:
    """Messages of libraries quote what they failed on."""
    configure_logging(Log(format=log_format), stream)

    try:
        _fail(KeyError(CANARY))
    except KeyError:
        structlog.get_logger("service").exception("batch failed")

    assert CANARY not in stream.getvalue()
    assert "KeyError" in stream.getvalue()
    assert "test_telemetry.py:" in stream.getvalue()


def test_our_own_errors_keep_their_text(lines: _Lines) -> None:
    """It is written to be read by operators, and holds no data by rule; its causes keep only their type."""
    try:
        try:
            _fail(ValueError(CANARY))
        except ValueError as error:
            raise CourseError("Encounter.subject is missing.") from error
    except CourseError:
        structlog.get_logger("service").warning("record parked", exc_info=True)

    described = lines.last()["error"]
    assert ("no-subject", "Encounter.subject is missing.") == (described["code"], described["text"])
    assert ["ValueError"] == [cause["type"] for cause in described["from"]]
    assert CANARY not in lines.text()


def test_an_operating_system_error_keeps_its_number() -> None:
    """The number says what the message would have said."""
    assert 111 == describe(ConnectionRefusedError(111, CANARY))["code"]


def test_every_error_of_a_group_is_described() -> None:
    """A task group raises one."""
    described = describe(ExceptionGroup(CANARY, [KeyError(CANARY), TypeError(CANARY)]))

    assert ["KeyError", "TypeError"] == [inner["type"] for inner in described["from"]]
    assert CANARY not in str(described)


def test_objects_never_reach_a_line(lines: _Lines) -> None:
    """A resource, a fact or a body in a log call is replaced by its type's name."""
    structlog.get_logger("service").error(
        "odd", resource={"name": CANARY}, body=CANARY.encode(), some=[{"name": CANARY}]
    )

    line = lines.last()
    assert ("<dict>", "<bytes>") == (line["resource"], line["body"])
    assert CANARY not in lines.text()


@pytest.mark.parametrize("name", ["sqlalchemy.pool", "asyncio", "httpx", "faststream", "elsewhere"])
def test_a_librarys_arguments_are_left_out(lines: _Lines, name: str) -> None:
    """Nor the lines after the first, where asyncio writes the exception of a lost task."""
    logging.getLogger(name).warning("lost: %s\nfuture: " + CANARY, CANARY)  # noqa: G003 - as asyncio writes it

    assert "lost: %s" == lines.last()["event"]
    assert CANARY not in lines.text()


def test_a_librarys_exception_is_described_like_ours(lines: _Lines) -> None:
    """FastStream writes the exception's message into its line."""
    try:
        _fail(ValueError(CANARY))
    except ValueError as error:
        logging.getLogger("faststream").exception(f"ValueError: {error}")  # noqa: G004, TRY401 - as FastStream writes it

    assert "ValueError" == lines.last()["error"]["type"]
    assert CANARY not in lines.text()


def test_kafkas_own_lines_keep_what_they_say(lines: _Lines) -> None:
    """They speak of brokers and partitions."""
    logging.getLogger("aiokafka.conn").error("Unable to connect to %s", "kafka:9092")

    assert "Unable to connect to kafka:9092" == lines.last()["event"]


@pytest.mark.parametrize("name", ["httpx", "sqlalchemy.engine.Engine", "uvicorn.access"])
def test_lines_that_hold_addresses_or_parameters_are_never_written(stream: io.StringIO, name: str) -> None:
    """Not even where everything is."""
    configure_logging(Log(level="debug", format="json"), stream)

    logging.getLogger(name).info("GET /Patient/%s", CANARY)

    assert "" == stream.getvalue()


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    """For the service's own loggers too."""
    configure_logging(Log(level="warning", format="json"), stream)

    structlog.get_logger("service").info("batch committed")

    assert "" == stream.getvalue()


def test_series_stand_at_zero_from_the_start(metrics: Metrics) -> None:
    """An alert on a rate sees the first parked record."""
    assert 0 == metrics.registry.get_sample_value("ipt_bridge_parked_total", {"source": "main", "reason": "not-json"})
    assert 0 == metrics.registry.get_sample_value("ipt_bridge_undelivered", {"destination": "ehr"})


def test_an_unknown_label_value_is_counted_as_other(metrics: Metrics) -> None:
    """So no id can become a label."""
    metrics.parked("main", CANARY).inc()

    body, _ = metrics.exposition()
    assert 1 == metrics.registry.get_sample_value("ipt_bridge_parked_total", {"source": "main", "reason": "other"})
    assert CANARY not in body.decode()


def test_lag_is_counted_by_partition(metrics: Metrics) -> None:
    """One partition's lag doesn't hide another's."""
    metrics.lag_of("fhir.encounter", 0).set(7)
    metrics.lag_of("fhir.encounter", 1).set(0)

    assert 7 == metrics.registry.get_sample_value("ipt_bridge_lag", {"topic": "fhir.encounter", "partition": "0"})


def test_two_sets_of_metrics_do_not_meet(metrics: Metrics) -> None:
    """There is no registry of the process."""
    other = create_metrics(topics={"main": ("fhir.encounter",)}, destinations=["kafka"], reasons=["not-json"])

    metrics.records("main", "relevant").inc(3)

    assert 0 == other.registry.get_sample_value("ipt_bridge_records_total", {"source": "main", "outcome": "relevant"})


async def _get(health: Health, metrics: Metrics, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(health_app(health, metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        return await client.get(path)


async def test_a_loop_that_stands_still_is_not_alive(metrics: Metrics) -> None:
    """The probe names it; a loop that ended on purpose is not missed."""
    now = 1000.0
    health = Health(now=lambda: now)
    for loop in ("intake", "deliveries", "sweeper"):
        health.turn(loop)
    health.ended("sweeper")
    alive = await _get(health, metrics, "/livez")
    now += health.patience_s + 1
    health.turn("deliveries")

    stuck = await _get(health, metrics, "/livez")

    assert (200, []) == (alive.status_code, alive.json()["stuck"])
    assert (503, ["intake"]) == (stuck.status_code, stuck.json()["stuck"])


async def test_ready_when_configured_migrated_and_consuming(metrics: Metrics) -> None:
    """And not ready again when the partitions are gone or the worker stops."""
    health = Health()
    health.hold(Condition.CONFIGURATION)
    health.hold(Condition.SCHEMA)
    before = await _get(health, metrics, "/readyz")
    health.hold(Condition.CONSUMING)
    ready = await _get(health, metrics, "/readyz")
    health.hold(Condition.CONSUMING, holds=False)
    health.stopping = True

    stopping = await _get(health, metrics, "/readyz")

    assert (503, ["consuming"]) == (before.status_code, before.json()["missing"])
    assert 200 == ready.status_code
    assert (503, ["stopping", "consuming"]) == (stopping.status_code, stopping.json()["missing"])


async def test_a_worker_that_is_not_ready_is_alive(metrics: Metrics) -> None:
    """A restart would not bring the broker back."""
    response = await _get(Health(), metrics, "/livez")

    assert 200 == response.status_code


async def test_metrics_are_served_as_prometheus_reads_them(metrics: Metrics) -> None:
    """Over a real connection."""
    metrics.records("main", "relevant").inc(3)
    handler = signal.getsignal(signal.SIGTERM)

    async with serving(health_app(Health(), metrics), "127.0.0.1", 0) as url, httpx.AsyncClient() as client:
        response = await client.get(f"{url}/metrics")
        handler_meanwhile = signal.getsignal(signal.SIGTERM)

    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    counted = [
        sample.value
        for sample in families["ipt_bridge_records"].samples
        if sample.name == "ipt_bridge_records_total" and sample.labels["outcome"] == "relevant"
    ]
    assert [3] == counted
    assert response.headers["Content-Type"].startswith("text/plain")
    assert handler == handler_meanwhile


async def test_an_address_in_use_is_an_error_at_once(metrics: Metrics) -> None:
    """Two workers on one machine are told so."""
    app = health_app(Health(), metrics)
    async with serving(app, "127.0.0.1", 0) as url:
        port = int(url.rpartition(":")[2])

        with pytest.raises(OSError, match="in use"):
            async with asyncio.timeout(5), serving(app, "127.0.0.1", port):
                pass
