"""The service's numbers for Prometheus, in a registry of their own.

Every label takes values from a closed set that is known at the start; anything else is counted as `other`,
so that no id of a patient can become a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable

_M = TypeVar("_M", Counter, Gauge, Histogram)

OTHER = "other"
RECORD_OUTCOMES = ("relevant", "irrelevant", "awaited", "parked")
"""`awaited`: something in it waits for an answer of the EHR."""
OPERATIONS = ("create", "update", "delete")
FACT_EFFECTS = ("merged", "known")
"""`known`: a duplicate, or older than what the store has."""
BATCH_OUTCOMES = ("committed", "retried", "bisected")
DELIVERY_OUTCOMES = ("delivered", "unchanged", "retried", "conflict", "ended-in-ehr", "parked")
BREAKER_STATES = ("closed", "open", "half-open")
FETCH_OUTCOMES = ("fetched", "gone", "known", "retried", "parked")
"""`gone`: the EHR has it no longer; `known`: the version that was named was read before."""
AUDIT_OUTCOMES = ("told", "retried", "refused")
LOOPS = ("intake", "fetching", "deliveries", "sweeper", "audit")
_BATCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)


@dataclass(frozen=True, slots=True)
class Labelled(Generic[_M]):
    """A metric whose labels take values from closed sets: `labelled("main", "parked")` is its series."""

    metric: _M
    allowed: tuple[frozenset[str], ...]

    def __call__(self, *values: str) -> _M:
        """Return the series of these label values, each unknown one as `other`."""
        closed = (value if value in known else OTHER for value, known in zip(values, self.allowed, strict=True))
        return self.metric.labels(*closed)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Every metric of one process; names in Prometheus are `ipt_bridge_` and the name here."""

    registry: CollectorRegistry
    records: Labelled[Counter]
    """Kafka records by source and outcome."""
    changes: Labelled[Counter]
    """Changes by source and operation."""
    facts: Labelled[Counter]
    """Facts by source and effect."""
    parked: Labelled[Counter]
    """What was parked, by source and reason code."""
    event_gaps: Labelled[Gauge]
    """Gaps in the event numbers of Subscriptions that are open, by source."""
    missed_events: Labelled[Counter]
    """Event numbers that were found missing, by source."""
    fetches: Labelled[Counter]
    """Attempts to fetch a resource or to find a patient, by source and outcome."""
    awaited: Labelled[Gauge]
    """Resources that wait for an answer of their EHR, by source."""
    oldest_awaited_seconds: Labelled[Gauge]
    """How long the oldest of them has waited (seconds)."""
    batches: Labelled[Counter]
    """Batches by outcome."""
    batch_seconds: Histogram
    """From a batch's first record to its committed transaction (seconds)."""
    batch_records: Histogram
    """Records of a batch."""
    projections: Counter
    """Patients projected."""
    courses_changed: Labelled[Counter]
    """Courses that got another revision, by source."""
    put_off: Gauge
    """Patients not projected since their facts changed: a worker catches up with a backlog."""
    sweeps: Counter
    """Looks for patients that fell due."""
    due_patients: Counter
    """Patients that were projected because time had passed."""
    deliveries: Labelled[Counter]
    """Attempts to deliver a plan, by destination and outcome."""
    delivery_seconds: Labelled[Histogram]
    """One attempt to deliver, by destination (seconds)."""
    breaker: Labelled[Gauge]
    """By destination and state: 1 for the state that it is in, 0 for the others."""
    terms_shrunk: Labelled[Counter]
    """Times that a destination came to take less of a plan than before."""
    undelivered: Labelled[Gauge]
    """Plans that a destination has not acknowledged."""
    oldest_undelivered_seconds: Labelled[Gauge]
    """How long the oldest of them has waited (seconds)."""
    audit_events: Labelled[Counter]
    """Attempts to tell a destination of a write there, by destination and outcome."""
    untold_writes: Labelled[Gauge]
    """Writes that a destination is to be told of as AuditEvents, and has not been."""
    active_courses: Gauge
    """Courses that are open."""
    fresh_ratio: Labelled[Gauge]
    """Share of the active courses whose plan at the destination is current (0 to 1)."""
    lag: Gauge
    """Records not read yet, by topic and partition; to be set through `lag_of`."""
    topics: frozenset[str]
    last_event_timestamp: Labelled[Gauge]
    """Time of the newest record read, by source (seconds since 1970)."""
    rebalances: Counter
    """Times that this worker's partitions were assigned anew."""
    last_progress_timestamp: Labelled[Gauge]
    """When a loop last went round (seconds since 1970)."""

    def lag_of(self, topic: str, partition: int) -> Gauge:
        """Return the series of one partition's lag (records)."""
        return self.lag.labels(topic if topic in self.topics else OTHER, partition)

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics as Prometheus reads them, and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def create_metrics(
    *, topics: dict[str, tuple[str, ...]], destinations: Iterable[str], reasons: Iterable[str]
) -> Metrics:
    """Return the metrics at zero, for these topics of each source, destinations and reason codes of parking."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    sources = tuple(topics)
    places = tuple(destinations)

    def series(metric: _M, *labels: Iterable[str]) -> Labelled[_M]:
        values = [tuple(label) for label in labels]
        for combination in product(*values):
            metric.labels(*combination)  # from the start at zero, so that a rate sees its first step
        return Labelled(metric, tuple(frozenset(label) for label in values))

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ipt_bridge_{name}", text, labels, registry=registry)

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ipt_bridge_{name}", text, labels, registry=registry)

    def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"ipt_bridge_{name}", text, labels, buckets=buckets, registry=registry)

    return Metrics(
        registry=registry,
        records=series(counter("records", "Kafka records", "source", "outcome"), sources, RECORD_OUTCOMES),
        changes=series(counter("changes", "Changes", "source", "operation"), sources, OPERATIONS),
        facts=series(counter("facts", "Facts", "source", "effect"), sources, FACT_EFFECTS),
        parked=series(counter("parked", "Parked", "source", "reason"), sources, reasons),
        event_gaps=series(gauge("event_gaps", "Open gaps in event numbers", "source"), sources),
        missed_events=series(counter("missed_events", "Event numbers found missing", "source"), sources),
        fetches=series(counter("fetches", "Attempts to fetch", "source", "outcome"), sources, FETCH_OUTCOMES),
        awaited=series(gauge("awaited", "Resources that wait for an answer of their EHR", "source"), sources),
        oldest_awaited_seconds=series(
            gauge("oldest_awaited_seconds", "Longest wait for an answer of an EHR", "source"), sources
        ),
        batches=series(counter("batches", "Batches", "outcome"), BATCH_OUTCOMES),
        batch_seconds=histogram("batch_seconds", "First record to commit", _BATCH_SECONDS),
        batch_records=histogram("batch_records", "Records of a batch", _BATCH_RECORDS),
        projections=counter("projections", "Patients projected"),
        courses_changed=series(counter("courses_changed", "Courses with another revision", "source"), sources),
        put_off=gauge("put_off_patients", "Patients not projected since their facts changed"),
        sweeps=counter("sweeps", "Looks for patients that fell due"),
        due_patients=counter("due_patients", "Patients projected because time had passed"),
        deliveries=series(
            counter("deliveries", "Attempts to deliver a plan", "destination", "outcome"), places, DELIVERY_OUTCOMES
        ),
        delivery_seconds=series(
            histogram("delivery_seconds", "One attempt to deliver", _DELIVERY_SECONDS, "destination"), places
        ),
        breaker=_closed(
            series(gauge("breaker", "Whether it is delivered to", "destination", "state"), places, BREAKER_STATES),
            places,
        ),
        terms_shrunk=series(counter("terms_shrunk", "Times that less of a plan was taken", "destination"), places),
        undelivered=series(gauge("undelivered", "Plans not acknowledged", "destination"), places),
        oldest_undelivered_seconds=series(
            gauge("oldest_undelivered_seconds", "Longest wait of a plan", "destination"), places
        ),
        audit_events=series(
            counter("audit_events", "Attempts to tell of a write", "destination", "outcome"), places, AUDIT_OUTCOMES
        ),
        untold_writes=series(gauge("untold_writes", "Writes not told of as AuditEvents", "destination"), places),
        active_courses=gauge("active_courses", "Open courses"),
        fresh_ratio=series(gauge("fresh_ratio", "Active courses whose plan is current", "destination"), places),
        lag=gauge("lag", "Records not read yet", "topic", "partition"),
        topics=frozenset(name for names in topics.values() for name in names),
        last_event_timestamp=series(
            gauge("last_event_timestamp_seconds", "Time of the newest record read", "source"), sources
        ),
        rebalances=counter("rebalances", "Assignments of partitions"),
        last_progress_timestamp=series(
            gauge("last_progress_timestamp_seconds", "When a loop last went round", "loop"), LOOPS
        ),
    )


def _closed(breaker: Labelled[Gauge], places: Iterable[str]) -> Labelled[Gauge]:
    for place in places:
        breaker(place, "closed").set(1)
    return breaker
