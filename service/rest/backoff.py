"""How long to wait after a failed attempt: longer each time, never in step with others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

LONGEST_ASKED_S = 900.0
"""Nobody is left alone for longer at their own word: a wrong clock or header must not hold alerts (seconds)."""
_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts at one thing, in seconds."""

    first_s: float
    longest_s: float

    def wait(self, attempts: int, retry_after_s: float | None, jitter: float) -> timedelta:
        """Return the wait after the given number of attempts; `jitter` (0 to 1) says where below the ceiling it lies.

        What the other side asked for is the least, up to LONGEST_ASKED_S. Source: AWS Architecture Blog, "Exponential
        Backoff And Jitter" (2015): of all ways to spread attempts, full jitter takes the fewest.
        """
        ceiling = min(self.longest_s, self.first_s * 2 ** min(attempts - 1, _MOST_DOUBLINGS))
        return max(asked(retry_after_s or 0.0), timedelta(seconds=ceiling * jitter))


def asked(retry_after_s: float) -> timedelta:
    """Return how long the other side is left alone where it asks for so many seconds."""
    return timedelta(seconds=min(retry_after_s, LONGEST_ASKED_S))
