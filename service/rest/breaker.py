"""A circuit breaker: while a server fails whatever it is asked, it is left alone, then tried with one request.

Pure: times come in, nothing is waited for. Failures are those of the server (unreachable, too slow, 429, 5xx),
never a refusal of what was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from service.rest.backoff import asked

if TYPE_CHECKING:
    from datetime import datetime

    from service.rest.backoff import Backoff


class State(StrEnum):
    """Whether requests may be sent."""

    CLOSED = "closed"
    """As many as one likes."""
    OPEN = "open"
    """None."""
    HALF_OPEN = "half-open"
    """One, to see how the server is."""


@dataclass(slots=True)
class Breaker:
    """What one server's last answers say of it.

    A server that asks everybody to wait is left alone at once. Else several subjects (courses, resources) have to fail
    in a row: one that fails again and again is in trouble itself, waits by itself, and must not delay the others.
    """

    failures: int
    """So many in a row, each of another subject, open it."""
    backoff: Backoff
    """How long it stays open: longer each time that the trial fails."""
    _failed: set[object] = field(default_factory=set)
    _opened: int = 0
    _until: datetime | None = None
    _trial_until: datetime | None = None

    def state(self, now: datetime) -> State:
        """Return whether requests may be sent at this instant."""
        if self._until is None:
            return State.CLOSED
        return State.OPEN if now < self._until else State.HALF_OPEN

    def allow(self, now: datetime) -> bool:
        """Return whether one more request may be sent; where it is the trial, whoever asks is to send it.

        A trial that nobody reports on counts as none after the longest wait.
        """
        state = self.state(now)
        if state is not State.HALF_OPEN:
            return state is State.CLOSED
        if self._trial_until is not None and now < self._trial_until:
            return False
        self._trial_until = now + timedelta(seconds=self.backoff.longest_s)
        return True

    def next_at(self, now: datetime) -> datetime:
        """Return when a request may next be sent: now, or once the server has been left alone long enough."""
        return now if self._until is None else max(now, self._until)

    def succeeded(self, now: datetime) -> None:
        """Note that the server has answered, be it with a refusal.

        While it is left alone, that is the answer to a request of before: what it has asked for since holds.
        """
        if self.state(now) is State.OPEN:
            return
        self._failed.clear()
        self._opened = 0
        self._until = self._trial_until = None

    def failed(
        self,
        now: datetime,
        retry_after_s: float | None,
        jitter: float,
        subject: str | None = None,
        *,
        asks_all: bool = True,
    ) -> bool:
        """Note that the server failed for a subject, or for one of many; return whether that opens the breaker.

        `retry_after_s` is what the server asked for; `jitter` from 0 to 1 spreads the wait. Answers to requests
        from before it opened only prolong it, where they ask for more. Without `asks_all` the wait may be meant for
        this subject alone: it holds for all once another one fails too.
        """
        state = self.state(now)
        if state is State.OPEN:
            if retry_after_s is not None and self._until is not None:
                self._until = max(self._until, now + asked(retry_after_s))
            return False
        if len(self._failed) < self.failures:
            self._failed.add(object() if subject is None else subject)
        enough = self.failures
        if retry_after_s is not None:
            enough = 1 if asks_all else min(2, enough)
        if state is State.CLOSED and len(self._failed) < enough:
            return False
        self._opened += 1
        self._until = now + self.backoff.wait(self._opened, retry_after_s, jitter)
        self._trial_until = None
        return True
