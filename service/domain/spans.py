"""Spans of days during which something holds, and what two of them have in common."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

FOREVER = date.max
"""End of what still holds."""


class Span(NamedTuple):
    """From a day on, until the first day on which it holds no longer."""

    since: date
    until: date = FOREVER

    @property
    def closed(self) -> date | None:
        """The first day on which it holds no longer; None while it does."""
        return None if self.until == FOREVER else self.until


Spans = list[Span]
"""By beginning, none of them empty, with days between them."""


def runs(days: Sequence[date], holds: bytes) -> Spans:
    """Return when something held that was seen (1) or not (0) on each of these days; of a day the last sight counts."""
    found: Spans = []
    end = 0
    while end >= 0 and (begin := holds.find(1, end)) >= 0:
        end = holds.find(0, begin)
        since, until = days[begin], FOREVER if end < 0 else days[end]
        if found and since <= found[-1].until:
            since = found.pop().since
        if since < until:
            found.append(Span(since, until))
    return found


def either(*several: Spans) -> Spans:
    """Return when at least one of them holds."""
    some = [spans for spans in several if spans]
    if len(some) <= 1:
        return some[0] if some else []
    found: Spans = []
    for span in sorted([span for spans in some for span in spans]):
        if found and span.since <= found[-1].until:
            found[-1] = Span(found[-1].since, max(found[-1].until, span.until))
        else:
            found.append(span)
    return found


def both(some: Spans, others: Spans) -> Spans:
    """Return when both hold."""
    found: Spans = []
    for since, until in some:
        for other_since, other_until in others:
            begin = max(since, other_since)
            end = min(until, other_until)
            if begin < end:
                found.append(Span(begin, end))
    return found


def without(some: Spans, others: Spans) -> Spans:
    """Return when the former hold and none of the latter."""
    if not others or not some:
        return some
    between: Spans = []
    since = date.min
    for span in others:
        if since < span.since:
            between.append(Span(since, span.since))
        since = span.until
    if since < FOREVER:
        between.append(Span(since))
    return both(some, between)
