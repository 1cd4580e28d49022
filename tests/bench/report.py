"""What a run has shown: medians, ratios and targets, as a table, as Markdown, as JSON and as a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

import orjson
from rich.table import Table

from tests.bench import figures
from tests.bench.picture import draw
from tests.bench.targets import Target, targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from tests.bench.figures import Figure
    from tests.bench.scale import Scale

HEADINGS = ("row", "figure", "median", "CPU s / 1,000", "× floor", "target", "reached", "")


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and how it came out."""

    target: str
    value: float
    """The figure, or the median of the ratios of the repetitions."""
    met: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over all repetitions."""

    row: int
    what: str
    unit: str
    value: float
    """The median."""
    cpu: float | None
    to_floor: float | None
    """Median of the ratios to the floor of the same repetition; None where that says nothing."""
    judged: tuple[Judged, ...]


class Report:
    """The figures of all repetitions, and what they come to."""

    def __init__(
        self, scale: Scale, repetitions: Sequence[Sequence[Figure]], *, courses: int, machine: Mapping[str, str]
    ) -> None:
        """`courses` is how many were held against their events; `machine` what all was measured on."""
        self.scale = scale
        self.machine = machine
        self.courses = courses
        self.figures = repetitions
        self._values = [{each.what: each.value for each in repetition} for repetition in repetitions]
        names = sorted({each.what: each.row for each in repetitions[0]}.items(), key=lambda item: item[1])
        self.lines = [self._line(what) for what, _ in names]

    @property
    def missed(self) -> bool:
        """Whether a target is not reached."""
        return any(not each.met for line in self.lines for each in line.judged)

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(*HEADINGS, title=f"IPT Bridge, {self.scale.name}, {len(self.figures)} repetitions")
        for column in table.columns[2:5]:
            column.justify = "right"
        for cells in self._cells():
            table.add_row(*cells)
        console.print(table)
        console.print(f"{self.courses:,} courses were equal to an independent recomputation from their events.")

    def markdown(self) -> str:
        """Return the table, and what it was measured on."""
        lines = [HEADINGS, ("---",) * len(HEADINGS), *self._cells()]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        on = ", ".join(f"{what} {value}" for what, value in self.machine.items())
        equal = f"{self.courses:,} courses were equal to an independent recomputation from their events."
        return f"{table}\n\nScale {self.scale.name}, medians of {len(self.figures)}. {equal} Machine: {on}.\n"

    def json(self) -> bytes:
        """Return every figure of every repetition, what they come to, and what they were measured on."""
        content = {
            "machine": self.machine,
            "scale": asdict(self.scale),
            "courses_equal": self.courses,
            "missed": self.missed,
            "lines": [asdict(line) for line in self.lines],
            "repetitions": [[asdict(each) for each in repetition] for repetition in self.figures],
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def draw(self, path: Path) -> None:
        """Write the bars as PNG."""
        medians = {line.what: line.value for line in self.lines}
        bounds: dict[str, float] = {}
        for target in targets(self.scale):
            base = 1.0 if target.against is None else medians.get(target.against)
            if base is not None and target.what in medians:
                bound = target.bound * base
                stricter = min if target.most else max
                bounds[target.what] = stricter(bound, bounds.get(target.what, bound))
        title = f"IPT Bridge on {self.machine['cores']} cores, medians of {len(self.figures)} ({self.scale.name})"
        draw(self.lines, bounds, title, path)

    def _line(self, what: str) -> Line:
        found = [each for repetition in self.figures for each in repetition if each.what == what]
        cpu = [each.cpu for each in found if each.cpu is not None]
        judged = [self._judged(target) for target in targets(self.scale) if target.what == what]
        return Line(
            found[0].row,
            what,
            found[0].unit,
            median(each.value for each in found),
            median(cpu) if cpu else None,
            self._ratio(what, figures.FLOOR) if found[0].unit == figures.RATE else None,
            tuple(each for each in judged if each is not None),
        )

    def _judged(self, target: Target) -> Judged | None:
        value = self._reached(target)
        if value is None:
            return None
        met = target.met(value)
        if target.instead is not None and not met:
            other = self._reached(target.instead)
            met = other is not None and target.instead.met(other)
        return Judged(str(target), value, met)

    def _reached(self, target: Target) -> float | None:
        if target.against is not None:
            return self._ratio(target.what, target.against)
        return median(values[target.what] for values in self._values)

    def _ratio(self, what: str, to: str) -> float | None:
        """The median of the ratios within each repetition; None if the other was not measured."""
        ratios = [values[what] / values[to] for values in self._values if values.get(to)]
        return median(ratios) if ratios else None

    def _cells(self) -> Iterator[tuple[str, ...]]:
        for line in self.lines:
            told = [(each.target, _number(each.value), "ok" if each.met else "missed") for each in line.judged] or [
                ("", "", "")
            ]
            yield (
                str(line.row),
                line.what,
                f"{_number(line.value)} {line.unit}",
                "" if line.cpu is None else f"{line.cpu:.3f}",
                "" if line.to_floor is None else f"{line.to_floor:.2f}",
                *told[0],
            )
            yield from (("", "", "", "", "", *rest) for rest in told[1:])


def _number(value: float) -> str:
    """Return a number with three digits that say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
