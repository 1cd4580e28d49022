"""How a backfill's progress and result look, on a terminal and without one."""

from __future__ import annotations

import io

from rich.console import Console

from service.backfill.loading import Told
from service.commands.backfill_screen import LINE_S, as_json, result, watching

STAGES = [Told(0, 2000, 0, ""), Told(500, 2000, 1_000, ""), Told(1500, 2000, 3_000, "file 2 of 3")]


def shown(*, terminal: bool, step_s: float) -> str:
    """Return what is shown of the stages, each so many seconds after the one before."""
    written = io.StringIO()
    now = [0.0]
    console = Console(file=written, force_terminal=terminal, width=120, color_system=None)
    with watching(console, lambda: now[0]) as tell:
        for told in STAGES:
            tell(told)
            now[0] += step_s
        tell(STAGES[-1])
    return written.getvalue()


def test_without_a_terminal_a_line_is_written_now_and_then() -> None:
    """With what is done, the rate, and the time that is left."""
    lines = shown(terminal=False, step_s=2 * LINE_S).splitlines()
    assert [
        "reading, 25 %, 1,000 records, 50 a second, 1 min left",
        "file 2 of 3, 75 %, 3,000 records, 75 a second, less than a minute left",
        "file 2 of 3, 75 %, 3,000 records, 50 a second, less than a minute left",
    ] == lines


def test_quick_backfill_writes_no_line() -> None:
    """There is nothing to wait for."""
    assert "" == shown(terminal=False, step_s=LINE_S / 10)


def test_terminal_shows_a_bar_with_rate_and_time_left() -> None:
    """And what is under way."""
    text = shown(terminal=True, step_s=2 * LINE_S)
    assert all(part in text for part in ("file 2 of 3", "75%", "3,000 records, 50 a second", "0:00"))


def test_result_tells_what_waits_and_what_is_lacking_only_where_something_is() -> None:
    """In words and as JSON."""
    written = io.StringIO()
    console = Console(file=written, width=200)
    result(console, {"read": 1_234, "relevant": 1_000, "irrelevant": 234, "courses": 56})
    assert ["1,234 records read: 1,000 relevant, 234 not ours, 0 parked.", "56 courses changed."] == (
        written.getvalue().splitlines()
    )
    result(console, {"parked": 1, "lacking": 2, "awaited": 3})
    assert all(part in written.getvalue() for part in ("2 resources are lacking", "3 name something", "parked list"))
    assert {
        "read": 7,
        "relevant": 0,
        "irrelevant": 0,
        "awaited": 0,
        "parked": 0,
        "coursesChanged": 5,
        "lacking": 0,
    } == (as_json({"read": 7, "courses": 5}))
