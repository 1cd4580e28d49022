"""The demo's last word: one line for each course, for a person who looks at many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from service.domain.course import FindingState, Phase, Severity
from service.outbound.wording import day, display, inner, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.domain.course import Course, Finding
    from service.domain.mappings import Mappings

MOST_ROWS = 40
SCORES = ("phq-9", "gad-7")
"""Instruments that have a column."""
POINTS = 8
"""Most bars of a sparkline."""

_BARS = "▁▂▃▄▅▆▇█"
_ARROWS = {-1: ("↓", "green"), 0: ("–", ""), 1: ("↑", "bold red")}
_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow"}


def table(courses: Sequence[Course], mappings: Mappings) -> Table:
    """Return a line for each course, in the order given, at most MOST_ROWS of them."""
    made = Table(box=None, pad_edge=True, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("patient", "phase", "sessions"):
        made.add_column(heading, no_wrap=True)
    made.add_column("focus", min_width=16)
    for instrument in SCORES:
        made.add_column(title(mappings, instrument), no_wrap=True)
    made.add_column("attention", min_width=20)
    for course in courses[:MOST_ROWS]:
        made.add_row(
            course.patient_id,
            course.phase.value.replace("-", " "),
            f"{course.held} of {course.planned_sessions}",
            focus(course, mappings),
            *(scores(course, instrument, mappings) for instrument in SCORES),
            attention(course, mappings),
        )
    return made


def focus(course: Course, mappings: Mappings) -> str:
    """Return the primary focus area with the stage of a dispute, or that none is agreed yet."""
    primary = [area for area in course.focus_areas if area.primary]
    if not primary:
        return "–" if course.phase is Phase.CLOSED else "not agreed yet"
    known = mappings.focus_areas.get(primary[0].area)
    name = inner(known.title if known else primary[0].area)
    stage = primary[0].stage
    return f"{name} ({inner(display(mappings, 'dispute-stage', stage))})" if stage else name


def scores(course: Course, instrument: str, mappings: Mappings) -> Text:
    """Return `19 ▇▆▅▃ 9 ↓`: first total, all totals, the latest, and whether the change is reliable."""
    totals = [each.total for each in course.measures if each.instrument == instrument and each.total is not None]
    if len(totals) < 2:  # noqa: PLR2004 - a line needs two points
        return Text(str(totals[0]) if totals else "–")
    reliable = next((change.reliable for change in course.changes if change.instrument == instrument), 0)
    arrow, style = _ARROWS[reliable]
    line = sparkline(totals, mappings.instruments[instrument].maximum)
    return Text.assemble(f"{totals[0]:>2} {line:<{POINTS}} {totals[-1]:>2} ", (arrow, style))


def sparkline(totals: Sequence[int], maximum: int) -> str:
    """Return a bar for each total on the instrument's own scale; of many, evenly chosen ones, first and last kept."""
    if len(totals) > POINTS:
        step = (len(totals) - 1) / (POINTS - 1)
        totals = [totals[round(place * step)] for place in range(POINTS)]
    return "".join(_BARS[min(total * len(_BARS) // (maximum + 1), len(_BARS) - 1)] for total in totals)


def attention(course: Course, mappings: Mappings) -> Text:
    """Return the most urgent finding that needs a person, with its latest date, and how many others there are."""
    urgent = [
        finding
        for finding in course.findings
        if finding.severity is not Severity.INFO and finding.state is FindingState.OPEN
    ]
    if not urgent:
        return Text("–")
    first = max((each for each in urgent if each.rule == urgent[0].rule), key=lambda each: (each.raised, each.id))
    others = len({each.rule for each in urgent}) - 1
    mark = "! " if first.severity is Severity.CRITICAL else ""
    more = f" (+{others})" if others else ""
    return Text(f"{mark}{_short(first, mappings)}{more}", _STYLES[first.severity])


def _short(finding: Finding, mappings: Mappings) -> str:
    rule = mappings.rules.get(finding.rule)
    name = inner(rule.title) if rule else finding.rule
    on, _, _ = day(finding.due or finding.raised).rpartition(" ")
    return f"{name}, due {on}" if finding.due else f"{name}, {on}"
