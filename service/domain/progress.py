"""Progress: how an instrument's totals move over a course, and whether the change is reliable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.domain.course import Measure
    from service.domain.instruments import Instrument
    from service.domain.mappings import Mappings


def changes(measures: Iterable[Measure], mappings: Mappings) -> tuple[Change, ...]:
    """Return first and latest total of each instrument, in the mappings' order; only complete measures count."""
    by_instrument: dict[str, list[Measure]] = {}
    for measure in measures:
        if measure.total is not None:
            by_instrument.setdefault(measure.instrument, []).append(measure)
    found = []
    for instrument in mappings.instruments.values():
        scored = by_instrument.get(instrument.id)
        if scored:
            found.append(_change(scored[0], scored[-1], instrument))
    return tuple(found)


def _change(first: Measure, latest: Measure, instrument: Instrument) -> Change:
    start, end = first.total or 0, latest.total or 0
    return Change(
        instrument=instrument.id,
        first=start,
        latest=end,
        first_on=first.taken.date(),
        latest_on=latest.taken.date(),
        reliable=_reliable(start, end, instrument),
        percent=percent_improved(start, end),
        first_fact=first.fact,
        latest_fact=latest.fact,
    )


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
