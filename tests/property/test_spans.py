"""Spans against sets of days: the same answers, worked out day by day."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from service.domain.spans import FOREVER, Span, both, either, runs, without

if TYPE_CHECKING:
    from service.domain.spans import Spans

FIRST = date(2026, 1, 1)
MOST = 30
DAYS = [FIRST + timedelta(days=number) for number in range(MOST)]


@st.composite
def spans(draw: st.DrawFn) -> Spans:
    """Draw spans: by beginning, with days between them."""
    edges = sorted(draw(st.sets(st.integers(0, MOST - 1), max_size=9)))
    ends = [DAYS[edge] for edge in edges[1::2]] + [FOREVER] * (len(edges) % 2)
    return [Span(DAYS[begin], end) for begin, end in zip(edges[::2], ends, strict=True)]


def on(found: Spans) -> set[date]:
    """Return the days on which something holds, of those looked at."""
    return {day for day in DAYS if any(span.since <= day < span.until for span in found)}


def is_in_order(found: Spans) -> bool:
    """Return whether spans are as spans are to be."""
    return all(span.since < span.until for span in found) and all(
        one.until < other.since for one, other in pairwise(found)
    )


@given(spans(), spans(), spans())
def test_what_holds_together_alone_and_at_all(some: Spans, others: Spans, more: Spans) -> None:
    """Both, either and without are those of sets."""
    assert on(both(some, others)) == on(some) & on(others)
    assert on(either(some, others, more)) == on(some) | on(others) | on(more)
    assert on(without(some, others)) == on(some) - on(others)
    for found in (both(some, others), either(some, others, more), without(some, others)):
        assert is_in_order(found)


@given(st.lists(st.tuples(st.integers(0, MOST - 1), st.booleans()), max_size=25))
def test_a_state_lasts_until_it_is_seen_to_have_changed(seen: list[tuple[int, bool]]) -> None:
    """Of several sights of a day the last counts."""
    seen.sort(key=lambda sight: sight[0])
    days = [DAYS[number] for number, _ in seen]
    last = {DAYS[number]: holds for number, holds in seen}
    state, expected = False, set()
    for day in DAYS:
        state = last.get(day, state)
        if state:
            expected.add(day)
    found = runs(days, bytes([holds for _, holds in seen]))
    assert expected == on(found)
    assert is_in_order(found)
