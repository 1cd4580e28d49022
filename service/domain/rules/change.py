"""Reliable change of a measure over the course."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.rules.case import Raised, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.course import Change
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values


def _reliable_change(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Improved if one measure is reliably better and none reliably worse (NHS Talking Therapies)."""
    del protocol
    worse = [change for change in case.changes if change.reliable > 0]
    better = [change for change in case.changes if change.reliable < 0 and not worse]
    for rule, found in (("change.deterioration", worse), ("change.improvement", better)):
        for change in found:
            instrument = mappings.instruments[change.instrument]
            threshold = instrument.reliable_change
            values = moved(change, mappings) | {"threshold": short(threshold.value) if threshold else 0}
            facts = (change.first_fact, change.latest_fact)
            yield Raised(rule, change.latest_on, values, facts, key=change.instrument)


def moved(change: Change, mappings: Mappings) -> Values:
    """Return the values that tell of a change."""
    title = mappings.instruments[change.instrument].title
    return {"instrument": title, "first": change.first, "latest": change.latest, "percent": change.percent}


RULES = (_reliable_change,)
