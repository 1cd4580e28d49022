"""Disorder on the way: what arrives twice, late and out of order."""

from __future__ import annotations

from collections import Counter
from datetime import date

from service.sandbox.disorder import Disorder, counts, shuffle
from service.sandbox.patients import bystanders, generate, in_order, stream

START = date(2026, 1, 5)
EVENTS = in_order([*stream(generate(3, 20, START)), *bystanders(3, 5, START)])


def test_nothing_is_lost_and_only_copies_are_added() -> None:
    """Every event arrives, some more than once."""
    sent = Counter((event.key, event.value) for event in EVENTS)
    arrived = Counter((event.key, event.value) for event in shuffle(EVENTS, 1))
    assert set(sent) == set(arrived)
    assert sent <= arrived


def test_some_events_come_twice_late_and_out_of_order() -> None:
    """As a real stream has it."""
    arrived = counts(shuffle(EVENTS, 1))
    assert 0 < arrived.duplicates < len(EVENTS) / 10
    assert 0 < arrived.late < len(EVENTS) / 10


def test_without_disorder_events_arrive_as_written() -> None:
    """Shares of nothing change nothing."""
    assert EVENTS == shuffle(EVENTS, 1, Disorder(duplicates=0, late=0))
    assert 0 == counts(EVENTS).late


def test_an_event_keeps_the_time_at_which_it_was_written() -> None:
    """A late tombstone still says when the resource was deleted."""
    assert {event.time for event in EVENTS} == {event.time for event in shuffle(EVENTS, 1)}


def test_the_same_seed_gives_the_same_disorder() -> None:
    """And another seed another one."""
    assert shuffle(EVENTS, 1) == shuffle(EVENTS, 1)
    assert shuffle(EVENTS, 1) != shuffle(EVENTS, 2)


def test_counts_say_what_a_stream_consists_of() -> None:
    """Corrections, deletions and broken records, as they were sent."""
    found = counts(EVENTS)
    assert len(EVENTS) == found.events
    assert 3 == found.broken
    assert 1 == found.deleted
    assert 2 == found.entered_in_error
    assert found.amended == sum(b'"status":"amended"' in (event.value or b"") for event in EVENTS)
