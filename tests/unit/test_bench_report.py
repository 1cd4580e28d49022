"""What the bench makes of its figures: medians, ratios within a repetition, and whether a target is reached."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench import figures
from tests.bench.figures import Figure
from tests.bench.report import Judged, Report
from tests.bench.scale import TOY

MACHINE = {"cores": "2"}


def report(*repetitions: dict[str, float]) -> Report:
    """Return the report of rates by name."""
    found = [[Figure(1, what, value, figures.RATE, cpu=0.1) for what, value in each.items()] for each in repetitions]
    return Report(replace(TOY, repetitions=len(found)), found, courses=1, machine=MACHINE)


def test_ratio_is_that_of_one_repetition() -> None:
    """A machine that is slower for a while slows a row and its yardstick alike: the ratio stays."""
    told = report(
        {figures.FLOOR: 1000, figures.SQLITE: 2000},
        {figures.FLOOR: 100, figures.SQLITE: 200},
        {figures.FLOOR: 3000, figures.SQLITE: 9000},
    )
    line = next(line for line in told.lines if line.what == figures.SQLITE)
    assert (2000, 2.0, (Judged("≥ 1.5 × floor", 2.0, met=True),)) == (line.value, line.to_floor, line.judged)


@pytest.mark.parametrize(("rate", "missed"), [(1500, False), (1499, True)])
def test_target_is_missed_below_its_bound(rate: float, *, missed: bool) -> None:
    """1.5 times the floor is enough, and less is not."""
    assert missed == report({figures.FLOOR: 1000, figures.SQLITE: rate}).missed


def test_target_without_its_yardstick_is_not_judged() -> None:
    """Rows that were not chosen leave the targets against them open."""
    assert () == report({figures.SQLITE: 10}).lines[0].judged


@pytest.mark.parametrize(("plans", "floor", "missed"), [(1200, 9000, False), (400, 1200, False), (390, 1200, True)])
def test_either_of_two_targets_will_do(plans: float, floor: float, *, missed: bool) -> None:
    """Plans reach a rate, or a share of the floor on a machine that is slow altogether."""
    assert missed == report({figures.FLOOR: floor, figures.PLANS: plans}).missed
