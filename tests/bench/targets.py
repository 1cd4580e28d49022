"""What is to be reached: ratios within one run, where not said otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench import figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.scale import Scale


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of one figure, or of its ratio to another of the same repetition."""

    what: str
    bound: float
    against: str | None = None
    most: bool = False
    """Whether the bound is the most, not the least."""
    unit: str = ""
    instead: Target | None = None
    """Another target that will do as well."""

    def met(self, value: float) -> bool:
        """Return whether the figure, or the ratio, is within the bound."""
        return value <= self.bound if self.most else value >= self.bound

    def __str__(self) -> str:
        sign = "≤" if self.most else "≥"
        bound = f"{self.bound:,g}"
        text = f"{sign} {bound} × {self.against}" if self.against else f"{sign} {bound} {self.unit}".rstrip()
        return f"{text}, or {self.instead}" if self.instead else text


def targets(scale: Scale) -> Sequence[Target]:
    """Return every target; those of sizes and lengths compare the greatest with the smallest of the scale."""
    few, many = scale.sizes[0], scale.sizes[-1]
    short, long = scale.lengths[0], scale.lengths[-1]
    fast = scale.rates[-1]
    return (
        Target(figures.POSTGRESQL, 1.5, figures.FLOOR),
        Target(figures.POSTGRESQL, 35, figures.NAIVE),
        Target(figures.SQLITE, 1.5, figures.FLOOR),
        Target(figures.SPARSE, 15, figures.FLOOR),
        Target(figures.BACKFILL, 2.5, figures.FLOOR),
        Target(figures.PLANS, 1200, unit="/s", instead=Target(figures.PLANS, 0.33, figures.FLOOR)),
        Target(figures.latency(fast, "PostgreSQL", 50), 25, most=True, unit="ms"),
        Target(figures.latency(fast, "PostgreSQL", 99), 150, most=True, unit="ms"),
        Target(figures.TWO, 1.8, figures.ONE),
        Target(figures.size(many), 0.85, figures.size(few)),
        Target(figures.looked_at(many), 2 * scale.due, most=True, unit="rows"),
        Target(figures.one_more(long), 8, figures.one_more(short), most=True),
        *(Target(figures.memory_in(what), 200, most=True, unit="MB") for what in _LOADED),
        *(Target(figures.memory_in(figures.size(size)), 200, most=True, unit="MB") for size in scale.sizes),
        Target(figures.START, 3, most=True, unit="s"),
        Target(figures.DRAIN, 1.0, figures.FLOOR),
        Target(figures.DRAIN_BACKFILL, 1.3, figures.FLOOR),
    )


_LOADED = (figures.POSTGRESQL, figures.SQLITE, figures.SPARSE, figures.DRAIN, figures.DRAIN_BACKFILL)
