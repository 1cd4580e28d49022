"""The bars: rates and times of one run, each on a log scale, with the yardsticks in grey and targets as ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from tests.bench import figures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from tests.bench.report import Line

YARDSTICKS = (figures.FLOOR, figures.NAIVE)
SERVICE, YARDSTICK, TICK = "#2a6f97", "#9aa5ad", "#c1440e"
TEXT = "#33383d"
ROW_IN = 0.3
"""Height of one bar with its gap (inches)."""


def draw(lines: Sequence[Line], bounds: dict[str, float], title: str, path: Path) -> None:
    """Write the picture as PNG; `bounds` are the targets in the figures' own units."""
    panels = [
        (
            "Records, plans or courses per second: longer is better",
            [each for each in lines if each.unit == figures.RATE],
        ),
        ("Milliseconds: shorter is better", [each for each in lines if each.unit == figures.MS]),
    ]
    panels = [panel for panel in panels if panel[1]]
    heights = [len(shown) for _, shown in panels]
    sheet = Sheet(figsize=(9, ROW_IN * sum(heights) + 1.1 * len(panels) + 0.9), layout="constrained")
    FigureCanvasAgg(sheet)
    sheet.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=TEXT)
    places = sheet.add_gridspec(max(1, len(panels)), 1, height_ratios=heights or [1])
    for number, (heading, shown) in enumerate(panels):
        _bars(sheet.add_subplot(places[number, 0]), heading, shown, bounds)
    key = [
        Patch(color=SERVICE, label="IPT Bridge"),
        Patch(color=YARDSTICK, label="yardstick"),
        Line2D([], [], color=TICK, linewidth=2, label="target"),
    ]
    sheet.legend(handles=key, loc="outside lower right", ncols=3, frameon=False, fontsize=9, labelcolor=TEXT)
    sheet.savefig(path, format="png", dpi=150, facecolor="white")


def _bars(axes: Axes, heading: str, shown: Sequence[Line], bounds: dict[str, float]) -> None:
    values = [line.value for line in shown]
    colours = [YARDSTICK if line.what in YARDSTICKS else SERVICE for line in shown]
    axes.barh(range(len(shown)), values, height=0.66, color=colours)
    axes.set_xscale("log")
    most = max([*values, *(bounds[line.what] for line in shown if line.what in bounds)])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlim(min(values) / 3, most * 4)
    for place, line in enumerate(shown):
        axes.annotate(
            f"{line.value:,.0f}" if line.value >= 100 else f"{line.value:.3g}",
            (line.value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=TEXT,
            bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"},
            zorder=3,
        )
        if line.what in bounds:
            axes.plot([bounds[line.what]] * 2, [place - 0.42, place + 0.42], color=TICK, linewidth=2)
    axes.set_yticks(range(len(shown)), [line.what for line in shown], fontsize=9, color=TEXT)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_title(heading, loc="left", fontsize=9.5, color=TEXT)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8.5, colors=TEXT)
    axes.grid(axis="x", which="major", color="#e3e6e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#c9ced2")
