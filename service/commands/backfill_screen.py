"""What `ipt-bridge backfill` prints: progress on standard error, what came of it on standard output."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console

    from service.backfill.loading import Told

LINE_S = 10.0
"""Without a terminal, progress is a line so often (seconds)."""
_MINUTE_S = 60


@contextmanager
def watching(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[Told], None]]:
    """Give what shows how a backfill stands: a bar with rate and time left on a terminal, else a line now and then."""
    if not console.is_terminal:
        yield _Lines(console, clock).tell
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = clock()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None, rate="")

        def tell(told: Told) -> None:
            rate = _rate(told, clock() - started)
            bar.update(task, completed=told.done, total=told.total, description=told.stage or "reading", rate=rate)

        yield tell


class _Lines:
    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._started = self._written = clock()
        self._done_at_start: int | None = None

    def tell(self, told: Told) -> None:
        if self._done_at_start is None:
            self._done_at_start = told.done
        now = self._clock()
        if now - self._written < LINE_S:
            return
        self._written = now
        parts = [told.stage or "reading"]
        if told.total:
            parts.append(f"{100 * told.done // told.total} %")
        parts.append(_rate(told, now - self._started))
        came = told.done - self._done_at_start
        if told.total and came > 0:
            parts.append(_left((told.total - told.done) * (now - self._started) / came))
        self._console.print(", ".join(parts), markup=False, highlight=False, soft_wrap=True)


def _rate(told: Told, seconds: float) -> str:
    return f"{told.records:,} records, {told.records / max(seconds, 1.0):,.0f} a second"


def _left(seconds: float) -> str:
    return "less than a minute left" if seconds < _MINUTE_S else f"{seconds / _MINUTE_S:,.0f} min left"


def result(console: Console, counts: Mapping[str, int]) -> None:
    """Print what a backfill came to."""
    read, ours, others = (counts.get(name, 0) for name in ("read", "relevant", "irrelevant"))
    waiting, courses, lacking = (counts.get(name, 0) for name in ("parked", "courses", "lacking"))
    lines = [f"{read:,} records read: {ours:,} relevant, {others:,} not ours, {waiting:,} parked."]
    lines.append(f"{courses:,} courses changed.")
    if lacking:
        lines.append(f"{lacking:,} resources are lacking: the source has them, or says so, and did not give them.")
    if awaited := counts.get("awaited", 0):
        lines.append(f"{awaited:,} name something that the FHIR server has to be asked for: a running service does it.")
    if waiting:
        lines.append("What is parked waits for a person: ipt-bridge parked list")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def as_json(counts: Mapping[str, int]) -> dict[str, int]:
    """Return what a backfill came to as JSON values."""
    return {
        "read": counts.get("read", 0),
        "relevant": counts.get("relevant", 0),
        "irrelevant": counts.get("irrelevant", 0),
        "awaited": counts.get("awaited", 0),
        "parked": counts.get("parked", 0),
        "coursesChanged": counts.get("courses", 0),
        "lacking": counts.get("lacking", 0),
    }
