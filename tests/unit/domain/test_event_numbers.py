"""Event numbers of a subscription: what is missing, and what only comes late, again or anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from service.domain.event_numbers import MOST_STRETCHES, Followed, Numbered, Told, follow, without_gap

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = START + timedelta(hours=1)


def at(number: int, second: int, told: Told = Told.EVENT) -> Numbered:
    """Return a number that a record of this second tells of."""
    return Numbered(number, START + timedelta(seconds=second), told)


def missing(followed: Followed) -> list[tuple[int, int]]:
    """Return the first and the last number of each gap."""
    return [(gap.first, gap.last) for gap in followed.gaps]


def test_number_left_out_is_missing_from_when_a_greater_one_is_seen() -> None:
    """And its events happened between the records around it."""
    followed = follow(Followed(), [at(118, 0)], NOW)
    followed = follow(followed, [at(121, 30)], NOW + timedelta(seconds=30))

    (gap,) = followed.gaps
    assert (119, 120) == (gap.first, gap.last)
    assert NOW + timedelta(seconds=30) == gap.noticed
    assert (START, START + timedelta(seconds=30)) == (gap.after, gap.before)


def test_what_was_before_the_first_number_seen_is_not_missing() -> None:
    """The service may begin in the middle of a subscription's life."""
    assert [] == missing(follow(Followed(), [at(118, 0), at(119, 1)], NOW))


@given(st.permutations(range(50, 70)), st.lists(st.integers(50, 69)), st.integers(1, 19))
def test_order_and_repetition_leave_no_gap(order: list[int], again: list[int], cut: int) -> None:
    """Several workers see the partitions of a topic in any order, and replays see them again."""
    numbers = [at(number, number) for number in (*order, *again)]
    followed = follow(follow(Followed(), numbers[:cut], NOW), numbers[cut:], NOW)

    assert [] == missing(followed)
    assert followed.has(50, 69)


@given(st.sets(st.integers(1, 60), min_size=2), st.randoms(use_true_random=False))
def test_missing_is_what_lies_between_and_was_not_seen(seen: set[int], random: object) -> None:
    """Whatever the order in which batches bring it."""
    order = sorted(seen)
    random.shuffle(order)  # type: ignore[attr-defined] # Hypothesis' own Random
    followed = Followed()
    for number in order:
        followed = follow(followed, [at(number, 0)], NOW)

    between = {number for gap in followed.gaps for number in range(gap.first, gap.last + 1)}
    assert set(range(min(seen), max(seen))) - seen == between


def test_late_number_that_splits_a_gap_leaves_it_as_old_as_it_was() -> None:
    """What is missing below it has been so since the greater one came."""
    followed = follow(Followed(), [at(1, 0), at(10, 1)], NOW)
    followed = follow(followed, [at(5, 2)], NOW + timedelta(minutes=9))

    assert [(2, 4), (6, 9)] == missing(followed)
    assert [NOW, NOW] == [gap.noticed for gap in followed.gaps]


def test_lower_number_than_ever_opens_its_gap_when_it_comes() -> None:
    """A topic that is read again from its beginning is no gap of old."""
    followed = follow(Followed(), [at(118, 600)], NOW)
    followed = follow(followed, [at(50, 0)], NOW + timedelta(days=3))

    assert [NOW + timedelta(days=3)] == [gap.noticed for gap in followed.gaps]


def test_first_number_much_later_than_the_newest_is_a_new_subscription() -> None:
    """Its numbers are followed from there, and the old ones that come again belong to its life before."""
    followed = follow(Followed(), [at(1, 0), at(2, 1), at(4, 2)], NOW)
    anew = follow(followed, [at(1, 3600), at(2, 3601), at(4, 2)], NOW)

    assert [] == missing(anew)
    assert [(2, 2)] == missing(follow(follow(followed, [at(1, 3600)], NOW), [at(3, 3601)], NOW))


def test_first_number_soon_after_the_newest_comes_late() -> None:
    """Partitions and repetitions bring it out of order."""
    assert [(3, 3)] == missing(follow(Followed(), [at(2, 0), at(4, 1), at(1, 2), at(1, 30)], NOW))


def test_sender_that_counts_every_event_as_the_first_has_no_gaps() -> None:
    """Some servers do."""
    assert [] == missing(follow(Followed(), [at(1, second) for second in range(0, 36_000, 600)], NOW))


def test_count_of_a_heartbeat_shows_that_the_newest_event_is_missing() -> None:
    """Which no later number would, while nothing happens."""
    followed = follow(Followed(), [at(7, 0), at(8, 60, Told.COUNT)], NOW)

    assert [(8, 8)] == missing(followed)
    assert [] == missing(follow(followed, [at(8, 1)], NOW))
    assert [] == missing(follow(followed, [at(8, 1), at(9, 70), at(9, 80, Told.COUNT)], NOW))


def test_handshake_that_counts_nothing_begins_anew() -> None:
    """The numbers that follow it are followed from the first."""
    followed = follow(Followed(), [at(7, 0), at(0, 5, Told.START), at(2, 6)], NOW)

    assert [(1, 1)] == missing(followed)


def test_events_that_were_asked_for_fill_a_gap_and_begin_nothing() -> None:
    """The answer to `$events` may hold the first one again, long after."""
    followed = follow(Followed(), [at(1, 0), at(4, 1)], NOW)
    asked = [at(number, 7200, Told.AGAIN) for number in (1, 2, 3)]

    assert [] == missing(follow(followed, asked, NOW))


def test_gap_whose_events_were_found_elsewhere_is_closed() -> None:
    """The others stay."""
    followed = follow(Followed(), [at(1, 0), at(4, 1), at(9, 2)], NOW)

    assert [(5, 8)] == missing(without_gap(followed, followed.gaps[0]))


def test_stretches_of_one_subscription_are_bounded() -> None:
    """A sender that leaves out every other number can't fill the database."""
    followed = follow(Followed(), [at(2 * number, number) for number in range(MOST_STRETCHES + 50)], NOW)

    assert MOST_STRETCHES == len(followed.stretches)
