"""How a process under measurement says that it has its partitions: one line of JSON, as in the service's log."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
from aiokafka import ConsumerRebalanceListener

if TYPE_CHECKING:
    from aiokafka import TopicPartition

ASSIGNED = "partitions assigned"
"""What the service logs."""


class Said(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Says when partitions are assigned."""

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Say nothing."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Print one line."""
        line = {"event": ASSIGNED, "count": len(assigned), "timestamp": datetime.now(UTC)}
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        sys.stdout.flush()
