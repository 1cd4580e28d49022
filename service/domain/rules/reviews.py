"""Reviews of progress: a look early on, a review when little has changed for long."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from service.domain.rules.case import Raised, rests_on, short
from service.domain.rules.change import moved
from service.domain.spans import FOREVER, Span, both, without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from service.domain.mappings import Mappings
    from service.domain.progress import Series
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case
    from service.domain.sourced import Threshold
    from service.domain.spans import Spans


_WEEK = 7
"""Days, for how a review says when it came."""


class _Point(NamedTuple):
    """When a review is due: by the sessions held, or by the time since the first, whichever comes first."""

    on: date
    by: str
    sessions: int
    """How many sessions were held by then."""


class _Review(NamedTuple):
    """What a review asks for, from its point on until another takes its place."""

    rule: str
    point: _Point
    until: date
    threshold: float
    """Improvement in percent."""


def _reviews(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Little change by session or week 4 asks for a look, by 8 for a review (ICSI 2016; PMC6428692)."""
    series = _reviewed(case, protocol)
    plan = protocol.reviews
    soft = _point(case, plan.soft_after, plan.soft_after_days)
    if series is None or soft is None:
        return
    firm = _point(case, plan.firm_after, plan.firm_after_days)
    ended = case.ended or FOREVER
    asked = plan.soft_improvement
    threshold = asked.value if asked else mappings.threshold("review.soft", "improvement")
    look = _Review("review.soft", soft, min(firm.on, ended) if firm else ended, threshold)
    start = [Span(series.days[0])]
    # One early look is enough: a total that wavers about the threshold asks for no other.
    yield from islice(_asked(look, case, series, without(start, series.improved(threshold))), 1)
    if firm is not None:
        threshold = mappings.threshold("review.firm", "improvement")
        enough = series.improved(threshold)
        if series.instrument.reliable_change is not None:
            enough = both(enough, series.better)
        slow = without(start, enough)
        for raised in _asked(_Review("review.firm", firm, ended, threshold), case, series, slow):
            yield raised._replace(due=raised.on + plan.firm_due.days)


def _asked(review: _Review, case: Case, series: Series, slow: Spans) -> Iterator[Raised]:
    point = review.point
    if point.on >= review.until:
        return
    for span in both(slow, [Span(point.on, review.until)]):
        values = moved(series, span) | {"by": point.by, "threshold": short(review.threshold)}
        facts = (*rests_on(case.held[: point.sessions]), *series.evidence(span))
        yield Raised(review.rule, span.since, values, facts, key=span.since.isoformat(), closed=span.closed)


def _point(case: Case, sessions: Threshold, days: Threshold | None) -> _Point | None:
    """Return when a review is due; None if that is still ahead, or if no session was held yet."""
    held = case.held
    if not held:
        return None
    number = sessions.count
    by_count = None
    if len(held) >= number:
        by_count = _Point(held[number - 1].start.date(), f"session {number}", number)
    if days is None or case.as_of < (instant := held[0].start + days.days):
        return by_count
    on = instant.date()
    if by_count is not None and by_count.on <= on:
        return by_count
    held_by_then = sum([session.start <= instant for session in held[:number]])
    return _Point(on, f"week {days.count // _WEEK}", held_by_then)


def _reviewed(case: Case, protocol: Protocol) -> Series | None:
    """The measures that progress is judged by: the protocol's first that were a case at the start."""
    for name in protocol.reviews.measures:
        series = case.series.get(name)
        if series is not None and series.began_as_case:
            return series
    return None


RULES = (_reviews,)
