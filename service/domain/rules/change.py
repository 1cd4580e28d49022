"""Reliable change of a measure over the course, and recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.progress import percent_improved
from service.domain.rules.case import Raised, Values, short
from service.domain.spans import Span, both, either, without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.progress import Series
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case


def _reliable_change(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Improved if one measure is reliably better and none reliably worse (NHS Talking Therapies)."""
    del mappings, protocol
    worse = either(*(series.worse for series in case.series.values()))
    for series in case.series.values():
        threshold = series.instrument.reliable_change
        if threshold is None:
            continue
        for rule, spans in (
            ("change.deterioration", series.worse),
            ("change.improvement", without(series.better, worse)),
        ):
            for span in spans:
                yield Raised(
                    rule,
                    span.since,
                    moved(series, span) | {"threshold": short(threshold.value)},
                    series.evidence(span),
                    # A deterioration is for the same day, as a safety answer is.
                    due=span.since if spans is series.worse else None,
                    key=f"{series.instrument.id}/{span.since.isoformat()}",
                    closed=span.closed,
                )


def _recovery(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Recovered: a case at the start, and none now by any measure; reliably, if improved reliably too."""
    del mappings
    judged = [
        case.series[name]
        for name in protocol.reviews.measures
        if name in case.series and case.series[name].instrument.caseness is not None
    ]
    began = [series.days[0] for series in judged if series.began_as_case]
    if not began:
        return
    recovered = without([Span(min(began))], either(*[series.case for series in judged]))
    if not recovered:
        return
    worse = either(*(series.worse for series in case.series.values()))
    improved = without(either(*(series.better for series in case.series.values())), worse)
    for rule, spans in (
        ("change.recovery", without(recovered, improved)),
        ("change.reliable-recovery", both(recovered, improved)),
    ):
        for span in spans:
            measured = [series for series in judged if series.days[0] < span.until]
            facts = tuple([fact for series in measured for fact in series.evidence(span)])
            values: Values = {"totals": ", ".join([_below(series, span) for series in measured])}
            yield Raised(rule, span.since, values, facts, key=span.since.isoformat(), closed=span.closed)


def _below(series: Series, span: Span) -> str:
    caseness = series.instrument.caseness
    threshold = short(caseness.value) if caseness else 0
    return f"{series.instrument.title} {series.first} → {series.totals[series.last(span)]} (case from {threshold})"


def moved(series: Series, span: Span) -> Values:
    """Return the values that tell of a change as it was when a span ended, or is."""
    latest = series.totals[series.last(span)]
    percent = percent_improved(series.first, latest)
    return {"instrument": series.instrument.title, "first": series.first, "latest": latest, "percent": percent}


RULES = (_reliable_change, _recovery)
