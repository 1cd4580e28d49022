"""What `ipt-bridge sources` tells: of each source what comes, what is missing, and what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.clients import kafka_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from service.settings import Kafka, Settings, Source
    from service.store import FeedOverview, FeedRate, Store

LAG_S = 5.0
"""How long Kafka is asked for the lag (seconds)."""
TELLING = 10
"""Deviations that are shown, the most frequent first."""
CONFORMANT, DEVIATING = "conformant", "deviating"
"""Outcomes of holding a resource against the full FHIR model."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source as it stands."""

    source: Source
    overview: FeedOverview
    lag: Mapping[str, int] | None
    """Records that wait, by topic; None where Kafka does not tell."""

    @property
    def rates(self) -> Sequence[FeedRate]:
        """What came of changes, by kind and outcome."""
        return [each for each in self.overview.rates if each.outcome not in {CONFORMANT, DEVIATING}]

    @property
    def held(self) -> int:
        """How many resources were held against the full FHIR model."""
        return sum(each.total for each in self.overview.rates if each.outcome in {CONFORMANT, DEVIATING})

    @property
    def deviating(self) -> int:
        """How many of them deviate."""
        return sum(each.total for each in self.overview.rates if each.outcome == DEVIATING)

    @property
    def deviations(self) -> Sequence[tuple[str, int]]:
        """The most frequent paths of deviations, and how many resources have each."""
        return list(self.overview.deviations.items())[:TELLING]


async def states(settings: Settings, store: Store, only: str | None, now: datetime) -> list[SourceState]:
    """Return how each source stands, or the one of this id."""
    asked = [each for each in settings.sources if only in {None, each.id}]
    lag = await lag_by_topic(settings.kafka, [topic.name for each in asked for topic in each.topics])
    return [
        SourceState(
            each,
            await store.sources.overview(each.id, now),
            None if lag is None else {topic.name: lag.get(topic.name, 0) for topic in each.topics},
        )
        for each in asked
    ]


async def lag_by_topic(kafka: Kafka, topics: Sequence[str]) -> dict[str, int] | None:
    """Return how many records of each topic the group has not committed; None if Kafka does not answer in time."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that it is not known says it
    try:
        async with asyncio.timeout(LAG_S):
            partitions = await _partitions(kafka, topics)
            return await _lag(kafka, partitions) if partitions else {}
    except (KafkaError, OSError, TimeoutError):
        return None


async def _partitions(kafka: Kafka, topics: Sequence[str]) -> list[TopicPartition]:
    """Return the partitions of these topics, of those that exist."""
    admin = AIOKafkaAdminClient(**kafka_options(kafka), request_timeout_ms=round(LAG_S * 1000))
    try:
        await admin.start()
        known = set(topics) & set(await admin.list_topics())
        described = await admin.describe_topics(sorted(known)) if known else []
    finally:
        await admin.close()
    return [TopicPartition(topic["topic"], each["partition"]) for topic in described for each in topic["partitions"]]


async def _lag(kafka: Kafka, partitions: Sequence[TopicPartition]) -> dict[str, int]:
    """Return how many records the group has not committed, by topic. It joins no group."""
    found: dict[str, int] = {}
    async with AIOKafkaConsumer(
        **kafka_options(kafka),
        group_id=kafka.group_id,
        enable_auto_commit=False,
        isolation_level="read_committed",
        request_timeout_ms=round(LAG_S * 1000),
    ) as consumer:
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for each in partitions:
            committed = await consumer.committed(each)
            read = begins[each] if committed is None else max(committed, begins[each])
            found[each.topic] = found.get(each.topic, 0) + max(0, ends[each] - read)
    return found


def as_json(state: SourceState) -> dict[str, Any]:
    """Return how a source stands as JSON values."""
    overview = state.overview
    return {
        "source": state.source.id,
        "lastEvent": overview.latest,
        "lag": None if state.lag is None else dict(state.lag),
        "changes": [
            {"kind": each.kind, "outcome": each.outcome, "day": each.day, "ever": each.total} for each in state.rates
        ],
        "gaps": [
            {
                "subscription": each.subscription,
                "first": each.first,
                "last": each.last,
                "missing": each.missing,
                "after": each.after,
                "before": each.before,
                "noticedAt": each.noticed_at,
                "searches": each.attempts,
            }
            for each in overview.gaps
        ],
        "gapsClosed": dict(overview.gaps_closed),
        "conformance": {
            "fhirVersion": state.source.fhir_version,
            "held": state.held,
            "deviating": state.deviating,
            "deviations": [{"path": path, "resources": count} for path, count in state.deviations],
        },
        "parked": dict(overview.parked),
    }
