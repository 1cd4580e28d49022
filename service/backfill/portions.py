"""Portions: a bounded number of records, and where to go on once they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from service.inbound.records import HISTORY, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Position = dict[str, Any]
"""JSON values: where a place is to be read from. Empty: from its beginning."""
UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Record time of a resource that says nothing of when it changed: whatever else is known of it is newer."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Records that are held at a time, and what is known once they are stored."""

    records: Sequence[Record]
    position: Position
    done: int
    """How much of the whole is read with them, in the unit of `total`."""
    total: int | None = None
    """None: not known."""
    lacking: int = 0
    """Resources that the place says it has, or should have, and does not give."""
    stage: str = ""
    """What is under way, for whoever watches."""


class Refusal(Exception):  # noqa: N818 - it says what happened; the message, what to do
    """A place can't be read to its end, and trying again will not help."""


def topic_of(source: str) -> str:
    """Return the name that stands in for the topic of what no topic brought; Kafka's own names hold no colon."""
    return f"{HISTORY}{source}"


def is_backfilled(topic: str) -> bool:
    """Return whether a name stands in for a topic."""
    return topic.startswith(HISTORY)


def record_of(source: str, value: bytes, state_of: datetime) -> Record:
    """Return a resource as the record that a topic would have brought.

    `state_of` is when the place held it so, for a resource that does not say when it changed. Its offset is a
    fingerprint of the content: read twice, in one run or in two, it is parked once, and never instead of another.
    """
    fingerprint = int.from_bytes(blake2b(value, digest_size=8).digest()) >> 1
    return Record(topic_of(source), 0, fingerprint, state_of, None, value)


def text_at(position: Mapping[str, Any], name: str) -> str | None:
    """Return a text of a position, None where it has none."""
    value = position.get(name)
    return value if isinstance(value, str) else None


def number_at(position: Mapping[str, Any], name: str) -> int:
    """Return a number of a position, 0 where it has none."""
    value = position.get(name)
    return value if isinstance(value, int) else 0
