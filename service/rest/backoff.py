"""How long to wait after a failed attempt: longer each time, never in step with others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts at one thing, in seconds."""

    first_s: float
    longest_s: float

    def wait(self, attempts: int, retry_after_s: float | None, jitter: float) -> timedelta:
        """Return the wait after the given number of attempts; `jitter` from 0 to 1 spreads it.

        From half of an exponential ceiling to all of it; what the other side asked for is the least.
        """
        ceiling = min(self.longest_s, self.first_s * 2 ** min(attempts - 1, _MOST_DOUBLINGS))
        return timedelta(seconds=max(retry_after_s or 0.0, ceiling * (0.5 + 0.5 * jitter)))
