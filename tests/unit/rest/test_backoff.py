"""How long is waited after a failed attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.rest.backoff import LONGEST_ASKED_S, Backoff


@pytest.mark.parametrize(("attempts", "longest"), [(1, 1), (2, 2), (4, 8), (40, 60)])
def test_waits_double_up_to_a_ceiling(attempts: int, longest: float) -> None:
    """Full jitter: each wait lies anywhere between none and the ceiling."""
    backoff = Backoff(first_s=1, longest_s=60)
    assert timedelta(0) == backoff.wait(attempts, None, 0.0)
    assert timedelta(seconds=longest / 4) == backoff.wait(attempts, None, 0.25)
    assert timedelta(seconds=longest) == backoff.wait(attempts, None, 1.0)


def test_destination_that_asks_for_patience_gets_it() -> None:
    """Retry-After is the least."""
    assert timedelta(seconds=30) == Backoff(first_s=1, longest_s=60).wait(1, 30, 0.5)


@pytest.mark.parametrize("retry_after_s", [901, 999_999, 251_000_000_000, 1e300])
def test_nobody_is_left_alone_for_days_at_their_own_word(retry_after_s: float) -> None:
    """What a wrong clock or a proxy's default asks for must not hold safety alerts."""
    assert timedelta(seconds=LONGEST_ASKED_S) == Backoff(first_s=1, longest_s=60).wait(1, retry_after_s, 0.5)
