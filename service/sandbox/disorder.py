"""What happens to events on their way: some come twice, some late, some out of order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.sandbox.events import Event

_LATEST = timedelta(days=10)
"""The longest that a late event takes."""


@dataclass(frozen=True, slots=True)
class Disorder:
    """Shares of the events to which it happens."""

    duplicates: float = 0.02
    """Sent a second time, at once or days later."""
    late: float = 0.03
    """Sent up to ten days late: after newer versions of the resource, or after what rests on it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a stream of events consists of."""

    events: int
    duplicates: int
    late: int
    """Sent after an event that was written later."""
    amended: int
    entered_in_error: int
    deleted: int
    broken: int


def shuffle(events: Iterable[Event], seed: int, disorder: Disorder | None = None) -> list[Event]:
    """Return the events in the order in which they arrive, with duplicates; the same for the same seed.

    An event keeps the time at which it was written.
    """
    shares = disorder or Disorder()
    rng = Random(f"{seed}/disorder")  # noqa: S311 - synthetic data, to be repeated
    arriving = []
    for event in events:
        arrival = event.time
        if rng.random() < shares.late:
            arrival += rng.random() * _LATEST
        arriving.append((arrival, event))
        if rng.random() < shares.duplicates:
            again = arrival + rng.choice((timedelta(), rng.random() * _LATEST))
            arriving.append((again, replace(event)))
    arriving.sort(key=lambda pair: pair[0])
    return [event for _, event in arriving]


def counts(events: Sequence[Event]) -> Counts:
    """Count what a stream consists of, in the order in which it arrives."""
    seen: set[tuple[str, bytes | None]] = set()
    duplicates = late = 0
    newest = None
    for event in events:
        identity = (event.key, event.value)
        duplicates += identity in seen
        late += identity not in seen and newest is not None and event.time < newest
        seen.add(identity)
        newest = event.time if newest is None else max(newest, event.time)
    statuses = [event.resource["status"] for event in events if event.resource is not None]
    return Counts(
        events=len(events),
        duplicates=duplicates,
        late=late,
        amended=statuses.count("amended"),
        entered_in_error=statuses.count("entered-in-error"),
        deleted=sum(event.resource is None and event.broken is None for event in events),
        broken=sum(event.broken is not None for event in events),
    )
