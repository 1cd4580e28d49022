"""What is to be told of the sources with the next transaction: counts, event numbers, deviations from FHIR."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from service.domain.event_numbers import Numbered, Told
from service.inbound.references import named
from service.store.values import FeedCount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.domain.facts import Fact
    from service.inbound.envelopes import Notice
    from service.inbound.reading import Irrelevant, RecordReading

log = structlog.get_logger(__name__)

OTHER = "other"
"""Kind of the resources that are not read."""
UNKNOWN = "unknown"
"""Kind of what can't be told."""
NO_EVENT = datetime(1970, 1, 1, tzinfo=UTC)
"""Time of a source's last event where there was none."""
LONGEST_REFERENCE = 200
"""Of a subscription that is followed (characters)."""
MOST_FOLLOWED = 1000
"""Subscriptions followed by one worker; a feed has a handful."""

_TOLD = {
    "event-notification": Told.EVENT,
    "query-event": Told.AGAIN,
    "heartbeat": Told.COUNT,
    "handshake": Told.START,
}


@dataclass(slots=True)
class Tally:
    """Counts of what came of changes, and what else is known of where they came from."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Changes by source, kind and outcome."""
    latest: dict[str, datetime] = field(default_factory=dict)
    """Time of the last record of each source."""
    deviations: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Resources by source and path at which they deviate from FHIR."""
    numbers: dict[tuple[str, str], list[Numbered]] = field(default_factory=dict)
    """Event numbers by source and subscription."""

    def add(self, other: Tally) -> None:
        """Add all of another one."""
        self.counts.update(other.counts)
        self.deviations.update(other.deviations)
        for source, at in other.latest.items():
            self.latest[source] = max(at, self.latest.get(source, at))
        for key, numbers in other.numbers.items():
            self.numbers.setdefault(key, []).extend(numbers)

    def count_read(self, facts: Iterable[Fact], not_ours: Iterable[Irrelevant]) -> None:
        """Count what was read, and what was found to be none of ours."""
        for (source, kind), count in Counter([(fact.key.source, fact.key.resource_type) for fact in facts]).items():
            self.counts[source, kind, "relevant"] += count
        for (source, kind), count in Counter([(each.key.source, each.key.resource_type) for each in not_ours]).items():
            self.counts[source, kind, "irrelevant"] += count

    def count_set_aside(self, source: str, reading: RecordReading, *, fetches: bool) -> None:
        """Count what can't be read, and where it deviates from FHIR if that is why; and what its EHR is asked for."""
        for _, problem in reading.unreadable:
            self.counts[source, problem.resource_type or UNKNOWN, "parked"] += 1
            if problem.deviations:
                self.counts[source, problem.resource_type, "deviating"] += 1
                self.deviations.update((source, path) for path in problem.deviations)
        for _, change in reading.fetch:
            self.counts[source, change.resource_type, "awaited" if fetches else "parked"] += 1
        for _, change, _ in reading.subjects:
            self.counts[source, change.resource_type, "awaited"] += 1

    def follow(self, source: str, notice: Notice, time: datetime, followed: set[tuple[str, str]]) -> None:
        """Note the event numbers that a notification tells of, if its subscription is one of `followed`, or gets one.

        References come from outside: beyond MOST_FOLLOWED none is added, which is logged once.
        """
        told = _TOLD.get(notice.kind)
        numbers = notice.numbers
        if told in {Told.COUNT, Told.START} or (told is Told.EVENT and not numbers):
            numbers = () if notice.total is None else (notice.total,)
        if told is None or not numbers or not notice.subscription:
            return
        place = named(notice.subscription)
        reference = place.relative if place is not None else notice.subscription
        key = source, reference[:LONGEST_REFERENCE]
        if key not in followed:
            if len(followed) >= MOST_FOLLOWED:
                return
            followed.add(key)
            if len(followed) == MOST_FOLLOWED:
                log.warning("events tell of more subscriptions than are followed; look at the sender", source=source)
        self.numbers.setdefault(key, []).extend(Numbered(number, notice.happened or time, told) for number in numbers)

    def feed_counts(self) -> list[FeedCount]:
        """Return the counts as the store takes them."""
        return [
            FeedCount(source, kind, outcome, count, self.latest[source])
            for (source, kind, outcome), count in self.counts.items()
            if source in self.latest
        ]

    def __bool__(self) -> bool:
        return bool(self.counts or self.deviations or self.numbers)
