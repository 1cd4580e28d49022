"""When a server that fails is left alone, and when it is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.rest.backoff import LONGEST_ASKED_S, Backoff
from service.rest.breaker import Breaker, State

NOW = datetime(2026, 3, 4, 10, tzinfo=UTC)
LONGEST_S = 60.0


def after(seconds: float) -> datetime:
    """Return the instant so long after the first failure."""
    return NOW + timedelta(seconds=seconds)


def opened(failures: int = 3) -> Breaker:
    """Return a breaker that has just opened for one second."""
    breaker = Breaker(failures, Backoff(first_s=1, longest_s=LONGEST_S))
    for _ in range(failures):
        breaker.failed(NOW, None, 1.0)
    return breaker


def test_single_failures_open_nothing() -> None:
    """A server that answers in between is well enough."""
    breaker = Breaker(2, Backoff(first_s=1, longest_s=LONGEST_S))
    opened_by = []
    for _ in range(3):
        opened_by.append(breaker.failed(NOW, None, 1.0))
        breaker.succeeded(NOW)
    assert [False, False, False] == opened_by
    assert breaker.state(NOW) is State.CLOSED
    assert breaker.allow(NOW)


def test_failures_in_a_row_open_it() -> None:
    """Nothing is sent until the wait is over."""
    breaker = opened()
    assert breaker.state(NOW) is State.OPEN
    assert not breaker.allow(after(0.9))
    assert after(1) == breaker.next_at(after(0.9))


def test_it_tells_when_it_opens() -> None:
    """Once, so that it is logged once."""
    breaker = Breaker(2, Backoff(first_s=1, longest_s=LONGEST_S))
    assert [False, True, False] == [breaker.failed(NOW, None, 1.0) for _ in range(3)]


def test_one_trial_is_let_through_after_the_wait() -> None:
    """The others wait for how it goes."""
    breaker = opened()
    assert breaker.state(after(1)) is State.HALF_OPEN
    assert [True, False] == [breaker.allow(after(1)), breaker.allow(after(1))]


def test_trial_that_goes_well_closes_it() -> None:
    """Then it is as if nothing had been."""
    breaker = opened()
    breaker.allow(after(1))
    breaker.succeeded(after(1))
    assert breaker.state(after(1)) is State.CLOSED
    assert not breaker.failed(after(2), None, 1.0)


def test_trial_that_fails_doubles_the_wait() -> None:
    """A server that stays away is asked less and less often."""
    breaker = opened()
    breaker.allow(after(1))
    assert breaker.failed(after(1), None, 1.0)
    assert [False, True] == [breaker.allow(after(2.9)), breaker.allow(after(3))]


def test_trial_that_nobody_reports_on_is_given_up() -> None:
    """Whoever sent it may have been cancelled; the server is not left alone for ever."""
    breaker = opened()
    breaker.allow(after(1))
    assert [False, True] == [breaker.allow(after(LONGEST_S)), breaker.allow(after(1 + LONGEST_S))]


def test_wait_that_the_server_asks_for_is_the_least() -> None:
    """Retry-After counts."""
    breaker = Breaker(1, Backoff(first_s=1, longest_s=LONGEST_S))
    breaker.failed(NOW, 30, 0.0)
    assert after(30) == breaker.next_at(NOW)


def test_late_answers_from_before_it_opened_do_not_prolong_it() -> None:
    """Requests under way when it opened fail all together."""
    breaker = opened()
    for _ in range(10):
        breaker.failed(after(0.5), None, 1.0)
    assert after(1) == breaker.next_at(after(0.5))


def test_one_subject_that_always_fails_opens_nothing() -> None:
    """One course's trouble delays no other's."""
    breaker = Breaker(3, Backoff(first_s=1, longest_s=LONGEST_S))
    assert [False] * 20 == [breaker.failed(NOW, None, 1.0, "course") for _ in range(20)]


def test_server_that_asks_to_wait_is_left_alone_at_once() -> None:
    """Whatever was asked of it: the wait is for all."""
    breaker = Breaker(3, Backoff(first_s=1, longest_s=LONGEST_S))
    assert breaker.failed(NOW, 30, 0.0, "course")
    assert [State.OPEN, State.HALF_OPEN] == [breaker.state(after(29.9)), breaker.state(after(30))]


def test_wait_that_one_subject_alone_is_asked_for_holds_for_no_other() -> None:
    """A 503 that one course provokes again and again; of a second one's, nobody can say that any more."""
    breaker = Breaker(3, Backoff(first_s=1, longest_s=LONGEST_S))
    assert [False] * 5 == [breaker.failed(NOW, 30, 0.0, "course", asks_all=False) for _ in range(5)]
    assert breaker.failed(NOW, 30, 0.0, "another", asks_all=False)
    assert after(30) == breaker.next_at(NOW)


def test_late_answers_do_not_undo_what_the_server_asked_for() -> None:
    """Neither one that went well, nor one that asks for less; one that asks for more prolongs the wait."""
    breaker = Breaker(3, Backoff(first_s=1, longest_s=LONGEST_S))
    breaker.failed(NOW, 30, 0.0)
    breaker.succeeded(after(1))
    breaker.failed(after(1), 10, 0.0)
    assert after(30) == breaker.next_at(after(1))
    breaker.failed(after(1), 50, 0.0)
    assert after(51) == breaker.next_at(after(1))


def test_late_answer_that_asks_for_years_prolongs_the_wait_by_minutes() -> None:
    """As one that opens the breaker does."""
    breaker = Breaker(3, Backoff(first_s=1, longest_s=LONGEST_S))
    breaker.failed(NOW, 30, 0.0)
    breaker.failed(after(1), 251_000_000_000, 1.0)
    assert after(1 + LONGEST_ASKED_S) == breaker.next_at(after(1))
