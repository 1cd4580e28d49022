"""What a loop is given to tell of itself, and its clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from service.health import Health
    from service.metrics import Metrics


@dataclass(slots=True)
class Backlog:
    """What the intake tells the deliveries of the events that still wait."""

    catching_up: bool = False
    """More than a batch of records waits to be read."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Numbers, liveness and the clock of one process. Only the loops read the clock, once a turn."""

    metrics: Metrics
    health: Health
    now: Callable[[], datetime]
    backlog: Backlog = field(default_factory=Backlog)

    def turn(self, loop: str) -> None:
        """Note that a loop goes round: also while it waits for something that is away."""
        self.health.turn(loop)
        self.metrics.last_progress_timestamp(loop).set(self.now().timestamp())
