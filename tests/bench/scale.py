"""How much each row does: enough for figures that hold, for a look, or for a test of the bench itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of one run."""

    name: str
    repetitions: int
    """Times that every row is run; what is shown are medians."""
    patients: int
    """Of the shuffled stream, with `each` events each."""
    close_patients: int
    """Of the stream in the shape of a backfill, with `close_each` events each."""
    sparse: int
    """Records of the stream that is mostly not ours (records)."""
    naive: int
    """Records for the handler of single records: a prefix of the shuffled stream, since it is slow (records)."""
    plans: int
    """Courses whose plans are rendered and sent."""
    latency_s: float
    """How long events are sent at each rate (seconds)."""
    sizes: tuple[int, ...]
    """Courses in the store before the intake of `size_events` more; smallest first."""
    size_events: int
    """Half of them for known patients, half for new ones (records)."""
    templates: int
    """Patients that are read by the service, and then multiplied to fill a store."""
    lengths: tuple[int, ...]
    """Facts that a patient has before one more event; smallest first."""
    long_patients: int
    """Patients of each length."""
    due: int
    """Patients that have fallen due when the sweeper looks."""
    each: int = 8
    close_each: int = 40
    rates: tuple[int, ...] = (50, 200)
    """At which latency is measured (events per second)."""


FULL = Scale(
    name="full",
    repetitions=3,
    patients=5_000,
    close_patients=1_000,
    sparse=200_000,
    naive=2_000,
    plans=5_000,
    latency_s=20,
    sizes=(1_000, 100_000, 1_000_000),
    size_events=20_000,
    templates=1_000,
    lengths=(20, 200, 2_000),
    long_patients=20,
    due=200,
)
QUICK = Scale(
    name="quick",
    repetitions=1,
    patients=625,
    close_patients=125,
    sparse=25_000,
    naive=300,
    plans=625,
    latency_s=5,
    sizes=(1_000, 20_000),
    size_events=4_000,
    templates=250,
    lengths=(20, 200, 2_000),
    long_patients=4,
    due=200,
)
TOY = Scale(
    name="toy",
    repetitions=1,
    patients=20,
    close_patients=4,
    sparse=320,
    naive=24,
    plans=20,
    latency_s=1,
    sizes=(20, 60),
    size_events=64,
    templates=10,
    lengths=(4, 12),
    long_patients=2,
    due=5,
)
