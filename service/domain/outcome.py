"""How a course turns out: what remains of its planned sessions, and how its measures class it before the ending."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.domain.course import Classification, Decision, Outcome
from service.domain.spans import FOREVER, Span, both, either, without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from service.domain.progress import Series
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case
    from service.domain.sourced import Threshold
    from service.domain.spans import Spans

PROPOSALS = {
    Classification.REMISSION: Decision.END,
    Classification.RESPONSE: Decision.MAINTENANCE,
    Classification.PARTIAL_RESPONSE: Decision.CONTINUE,
    Classification.NON_RESPONSE: Decision.END,
}
"""What each outcome proposes to the clinician, who decides.

Symptoms that remain after a response make a relapse likelier, hence maintenance; after a partial response comes
a new, explicit agreement on further sessions; after none, the end, with other treatment offered.
"""
_CHANGING = 2
"""Measures that it takes to speak of a change."""


class Remaining(NamedTuple):
    """While so many sessions were planned and the ending was due, or while none of them was left."""

    span: Span
    planned: int


class Judged(NamedTuple):
    """An outcome, and while it was the one that the measures gave."""

    span: Span
    outcome: Outcome
    series: Series


class Turnout(NamedTuple):
    """What is left of a course as it goes on, and how it turns out."""

    ending_due: list[Remaining]
    """While no more sessions remained than the ending takes."""
    used_up: list[Remaining]
    """While no session remained."""
    outcomes: list[Judged]
    """By the first measure of the protocol that was a case at the start and has published outcomes; none before
    the ending is due, or without two measures. Source: ICSI 2016."""

    @property
    def outcome(self) -> Outcome | None:
        """How the course stands before its ending, or turned out; None before the ending is due."""
        last = self.outcomes[-1] if self.outcomes else None
        return None if last is None or last.span.closed else last.outcome


NONE = Turnout([], [], [])
"""Of a course that is far from its ending."""


def turnout(case: Case, protocol: Protocol) -> Turnout:
    """Return what was left of a course at each time, and how its measures classed it then."""
    plans = [(plan.since, plan.sessions) for plan in case.plans]
    most = protocol.ending.count
    if case.ended is None and len(case.held) < min([planned for _, planned in plans]) - most:
        return NONE
    due = list(_joined(_remaining(case, plans, most, 0)))
    over = list(_joined(_remaining(case, plans, 0, None)))
    # What was the outcome when the course ended still is.
    after = [] if case.ended is None else [Span(case.ended)]
    within = either([each.span for each in due], [each.span for each in over], after)
    return Turnout(due, over, _judged(_judging(case, protocol), within))


def _remaining(case: Case, plans: list[tuple[date, int]], most: int, fewer: int | None) -> Iterator[Remaining]:
    """While at most `most` sessions remained, and more than `fewer`, under each number that was planned in turn."""
    held = case.held
    ended = case.ended or FOREVER
    for place, (since, planned) in enumerate(plans):
        begins = max(planned - most, 1)
        if begins > len(held):
            continue
        until = min(plans[place + 1][0] if place + 1 < len(plans) else FOREVER, ended)
        over = len(held) if fewer is None else planned - fewer - 1
        reached = held[begins - 1].start.date()
        passed = held[over].start.date() if over < len(held) else FOREVER
        yield from (Remaining(span, planned) for span in both([Span(reached, passed)], [Span(since, until)]))


def _joined(found: Iterator[Remaining]) -> Iterator[Remaining]:
    """The same, with what goes on under a new number as one."""
    last: Remaining | None = None
    for each in found:
        if last is not None and each.span.since <= last.span.until:
            last = Remaining(Span(last.span.since, each.span.until), each.planned)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


def _judged(series: Series | None, within: Spans) -> list[Judged]:
    if series is None:
        return []
    within = both(within, [Span(series.days[1])])
    if not within:
        return []
    found = [
        Judged(span, _outcome(classification, series, span), series)
        for classification, classed in _classed(series)
        for span in both(classed, within)
    ]
    return sorted(found, key=lambda each: each.span)


def _classed(series: Series) -> Iterator[tuple[Classification, Spans]]:
    """When the totals amounted to which outcome: each to the best that it reaches."""
    instrument = series.instrument
    remaining: Spans = [Span(series.days[0])]
    for classification, reached in (
        (Classification.REMISSION, series.below(_value(instrument.remission_below))),
        (Classification.RESPONSE, series.improved(_value(instrument.response))),
        (Classification.PARTIAL_RESPONSE, series.improved(_value(instrument.partial_response))),
    ):
        yield classification, both(remaining, reached)
        remaining = without(remaining, reached)
    yield Classification.NON_RESPONSE, remaining


def _value(threshold: Threshold | None) -> float:
    return threshold.value if threshold else 0


def _outcome(classification: Classification, series: Series, span: Span) -> Outcome:
    return Outcome(
        on=span.since,
        classification=classification,
        proposal=PROPOSALS[classification],
        instrument=series.instrument.id,
        facts=series.evidence(span),
    )


def _judging(case: Case, protocol: Protocol) -> Series | None:
    for name in protocol.reviews.measures:
        series = case.series.get(name)
        if series is not None and len(series.totals) >= _CHANGING and series.began_as_case:
            instrument = series.instrument
            if None not in {instrument.remission_below, instrument.response, instrument.partial_response}:
                return series
    return None
