"""What a row says: figures, each measured once in every repetition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.worker import Usage

FLOOR = "floor"
NAIVE = "naive"
POSTGRESQL = "intake, PostgreSQL"
SQLITE = "intake, SQLite"
SPARSE = "sparse"
BACKFILL = "backfill shape"
PLANS = "plans"
ONE = "one process"
TWO = "two processes"
DRAIN = "drain, shuffled"
DRAIN_BACKFILL = "drain, backfill shape"
START = "start to first record"
IMPORT = "import time"
VERIFY = "verify"

RATE = "/s"
MS = "ms"
MB = "MB"
SECONDS = "s"
ROWS_READ = "rows"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement."""

    row: int
    """Number of the row that it belongs to."""
    what: str
    value: float
    unit: str
    cpu: float | None = None
    """CPU seconds for 1,000 records, plans or courses; None where that says nothing."""


def rate(row: int, what: str, count: int, usage: Usage) -> Figure:
    """Return how many were done in a second."""
    return Figure(row, what, count / usage.seconds, RATE, 1000 * usage.cpu_s / count)


def latency(events_s: int, store: str, percentile: int) -> str:
    """Return the name of a percentile of the time from event to plan."""
    return f"latency at {events_s}/s, {store}, p{percentile}"


def size(courses: int) -> str:
    """Return the name of the intake's rate with so many courses in the store."""
    return f"intake, {courses:,} courses"


def sweep(courses: int) -> str:
    """Return the name of the time of one sweep with so many courses in the store."""
    return f"sweep, {courses:,} courses"


def looked_at(courses: int) -> str:
    """Return the name of how many patients' rows a sweep reads to find those that are due."""
    return f"sweep's look, {courses:,} courses"


def one_more(facts: int, *, cold: bool = False) -> str:
    """Return the name of the cost of one more event when a patient has so many facts."""
    return f"one event more at {facts:,} facts" + (", the first" if cold else "")


def memory_in(what: str) -> str:
    """Return the name of the peak memory in a row."""
    return f"memory, {what}"


def memory(what: str, usage: Usage) -> Figure:
    """Return the most memory that a worker had in a row."""
    return Figure(11, memory_in(what), usage.peak_mb, MB)
