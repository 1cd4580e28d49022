"""What is counted of a feed, as it is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.event_numbers import Numbered, Told
from service.inbound.envelopes import Notice
from service.tally import LONGEST_REFERENCE, MOST_FOLLOWED, Tally

AT = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def notice(kind: str = "event-notification", **said: Any) -> Notice:  # noqa: ANN401 - of any of its elements
    """Return what a notification of one subscription says."""
    return Notice(**{"subscription": "Subscription/s-1", "kind": kind, "status": "active", "form": "R5", **said})


def followed(*notices: Notice) -> dict[tuple[str, str], list[Numbered]]:
    """Return the numbers that were noted."""
    tally = Tally()
    for each in notices:
        tally.follow("main", each, AT, set())
    return tally.numbers


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        (notice(numbers=(7, 8), total=8), [Numbered(7, AT), Numbered(8, AT)]),
        (notice(total=8), [Numbered(8, AT)]),
        (notice(numbers=(7,), happened=AT - DAY), [Numbered(7, AT - DAY)]),
        (notice("query-event", numbers=(3,), total=8), [Numbered(3, AT, Told.AGAIN)]),
        (notice("heartbeat", total=8), [Numbered(8, AT, Told.COUNT)]),
        (notice("handshake", total=0), [Numbered(0, AT, Told.START)]),
        (notice("heartbeat"), None),
        (notice("query-status", total=8), None),
        (notice("query-event", total=8), None),
        (notice(subscription="", numbers=(7,)), None),
    ],
)
def test_numbers_are_noted_by_how_a_notification_tells_them(said: Notice, numbers: list[Numbered] | None) -> None:
    """An empty notification may give its number as the count alone."""
    expected = {} if numbers is None else {("main", "Subscription/s-1"): numbers}

    assert expected == followed(said)


def test_no_more_subscriptions_are_followed_than_a_feed_can_have() -> None:
    """However many references it makes up, in however many batches; those that are followed stay so."""
    tally, known = Tally(), set[tuple[str, str]]()
    for number in (*range(2 * MOST_FOLLOWED), 0):
        tally.follow("main", notice(subscription=f"Subscription/{number}", numbers=(1,)), AT, known)
    other = Tally()
    other.follow("main", notice(subscription="Subscription/new", numbers=(1,)), AT, known)

    assert (MOST_FOLLOWED, 2) == (len(tally.numbers), len(tally.numbers["main", "Subscription/0"]))
    assert {} == other.numbers


def test_subscription_is_the_same_however_its_reference_is_written() -> None:
    """Relative, absolute, with a version; another form of name is kept, and cut."""
    forms = ("Subscription/s-1", "https://ehr.example/fhir/Subscription/s-1", "Subscription/s-1/_history/3")

    assert [3] == [
        len(numbers) for numbers in followed(*(notice(subscription=s, numbers=(1,)) for s in forms)).values()
    ]
    ((_, cut),) = followed(notice(subscription="x" * 1000, numbers=(1,)))
    assert LONGEST_REFERENCE == len(cut)


def test_tallies_add_up() -> None:
    """What waits for a transaction, and what comes with it."""
    one, other = Tally(latest={"main": AT}), Tally(latest={"main": AT - DAY})
    for each in (one, other):
        each.counts["main", "other", "irrelevant"] += 2
        each.deviations["main", "Encounter.id"] += 1
        each.follow("main", notice(numbers=(1,)), AT, set())
    one.add(other)

    ((source, kind, outcome, count, latest),) = one.feed_counts()
    assert ("main", "other", "irrelevant", 4, AT) == (source, kind, outcome, count, latest)
    assert {("main", "Encounter.id"): 2} == one.deviations
    assert {("main", "Subscription/s-1"): [Numbered(1, AT)] * 2} == one.numbers
