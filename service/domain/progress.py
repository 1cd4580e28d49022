"""Progress: how an instrument's totals move over a course, and whether the change is reliable."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import repeat
from operator import ge, le, lt
from typing import TYPE_CHECKING

from service.domain.course import Caseness, Change
from service.domain.spans import FOREVER, Span, Spans, runs
from service.domain.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

    from service.domain.course import Measure, Sex
    from service.domain.instruments import Instrument
    from service.domain.mappings import Mappings


class Series(Value, frozen=True):
    """The complete measures of one instrument in a course, by time: at least one."""

    instrument: Instrument
    measures: list[Measure]
    totals: list[int]
    days: list[date]
    cut_off: tuple[float, float] | None
    """The lowest total that may be a case, and the lowest that is one; None if the instrument knows no cases."""
    case: Spans
    """While the total was in the clinical range for certain; never, where the instrument knows none."""
    better: Spans
    """While the total was reliably better than the first. Source: NHS Talking Therapies manual."""
    worse: Spans

    @property
    def first(self) -> int:
        """The total that the course began with."""
        return self.totals[0]

    @property
    def began_as_case(self) -> bool:
        """Whether the first total was in the clinical range."""
        return self.caseness(self.first) is Caseness.CASE

    def caseness(self, total: int) -> Caseness | None:
        """Return whether a total is a case; None if the instrument knows no cases."""
        if self.cut_off is None:
            return None
        maybe, certainly = self.cut_off
        if total >= certainly:
            return Caseness.CASE
        return Caseness.UNDETERMINED if total >= maybe else Caseness.NO_CASE

    def below(self, limit: float) -> Spans:
        """Return when the latest total was less than a limit."""
        return _when(lt, limit, self.totals, self.days)

    def improved(self, percent: float) -> Spans:
        """Return when the latest total was better than the first by so many percent or more."""
        return _when(le, self.first * (100 - percent) / 100, self.totals, self.days)

    def last(self, span: Span) -> int:
        """Return the place of the last measure that was taken before a span ended."""
        return max((len(self.days) if span.until == FOREVER else bisect_left(self.days, span.until)) - 1, 0)

    def evidence(self, span: Span) -> tuple[str, ...]:
        """Return the facts behind a span: the first measure, the one at its beginning, and its last."""
        begun = max(bisect_right(self.days, span.since) - 1, 0)
        return tuple(dict.fromkeys([self.measures[place].fact for place in (0, begun, self.last(span))]))


def series(measures: Iterable[Measure], mappings: Mappings, sex: Sex | None = None) -> dict[str, Series]:
    """Return the complete measures of each instrument that has any, in the mappings' order.

    Some cut-offs depend on the patient's sex.
    """
    by_instrument: dict[str, list[Measure]] = {}
    for measure in measures:
        if measure.total is not None:
            by_instrument.setdefault(measure.instrument, []).append(measure)
    return {
        name: _series(by_instrument[name], instrument, sex)
        for name, instrument in mappings.instruments.items()
        if name in by_instrument
    }


def _series(measures: list[Measure], instrument: Instrument, sex: Sex | None) -> Series:
    totals = [measure.total or 0 for measure in measures]
    days = [measure.taken.date() for measure in measures]
    case: Spans = []
    better: Spans = []
    worse: Spans = []
    cut_off = instrument.cut_off(None if sex is None else sex.value)
    if cut_off is not None:
        case = _when(ge, cut_off[1], totals, days)
    if instrument.reliable_change is not None:
        better = _when(le, totals[0] - instrument.reliable_change.value, totals, days)
        worse = _when(ge, totals[0] + instrument.reliable_change.value, totals, days)
    return Series(instrument, measures, totals, days, cut_off, case, better, worse)


def _when(compares: Callable[[float, float], bool], limit: float, totals: list[int], days: list[date]) -> Spans:
    """When the latest total compared so with a limit: it counts until the next."""
    return runs(days, bytes(map(compares, totals, repeat(limit))))


def changes(of_course: Mapping[str, Series]) -> tuple[Change, ...]:
    """Return first and latest total of each instrument, in the mappings' order."""
    return tuple([_change(each) for each in of_course.values()])


def _change(measured: Series) -> Change:
    first, latest = measured.measures[0], measured.measures[-1]
    start, end = measured.totals[0], measured.totals[-1]
    reliable = _reliable(start, end, measured.instrument)
    return Change(
        instrument=measured.instrument.id,
        first=start,
        latest=end,
        first_on=measured.days[0],
        latest_on=measured.days[-1],
        reliable=reliable,
        percent=percent_improved(start, end),
        first_fact=first.fact,
        latest_fact=latest.fact,
        first_case=measured.caseness(start),
        latest_case=measured.caseness(end),
        reliable_since=_since(measured.better if reliable < 0 else measured.worse) if reliable else None,
    )


def _since(spans: Spans) -> date | None:
    return spans[-1].since if spans else None


def _reliable(first: int, latest: int, instrument: Instrument) -> int:
    """Source: NHS Talking Therapies manual, reliable change."""
    if instrument.reliable_change is None:
        return 0
    if first - latest >= instrument.reliable_change.value:
        return -1
    return 1 if latest - first >= instrument.reliable_change.value else 0


def percent_improved(first: int, latest: int) -> int:
    """Return the improvement on the first total in whole percent, rounded down; negative if worse."""
    return (first - latest) * 100 // first if first else 0
