"""A fuzz target over the whole inbound path, guided by coverage: any bytes under any key and headers.

`python -m tests.property.fuzz_inbound FOLDER -runs=10000` keeps what leads further in a folder, and takes libFuzzer's
own options. What it finds wrong it leaves as a file `crash-…`; in place of the folder, that runs alone. It begins with
the specimens, which say what real feeds look like.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["service.inbound"]):
    from service.inbound.envelopes import open_record
    from service.inbound.records import Limits, Record
    from tests.property.records import A_CLINIC, read_record_of_a_clinic

SPECIMENS = Path(__file__).parents[1] / "specimens"
LIMITS = Limits(bytes=100_000, depth=32, items=200, entries=50)
"""Small, so that the caps are met."""
NAMES = ("content-type", "ce_type", "X-Medplum-Deleted-Resource", "action")
SEPARATOR = b"\n#"
"""Before what a record has beside its value: a key, then the values of these headers."""
OPTIONS = ("-max_len=20000", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1")
"""No hang and no hoard: libFuzzer ends with an error after so many seconds on one record, or at so much memory."""


def record_of(data: bytes) -> Record:
    """Return the record that a run's bytes stand for."""
    value, *beside = data.split(SEPARATOR)
    key = beside[0] if beside else None
    headers = tuple(zip(NAMES, beside[1:], strict=False))
    return Record("fhir", 0, 0, datetime(2026, 3, 2, tzinfo=UTC), key, value if value != b"null" else None, headers)


def check(data: bytes) -> None:
    """Read a record: no exception, and every change ends as a fact, as none of ours, waiting, or unreadable."""
    record = record_of(data)
    reading = read_record_of_a_clinic(record, LIMITS)
    changes = open_record(record, A_CLINIC, LIMITS).changes
    ends = (reading.facts, reading.irrelevant, reading.skipped, reading.unreadable, reading.fetch)
    if sum(len(each) for each in ends) != len(changes):
        raise AssertionError("a change is lost, or counted twice")


def main() -> None:
    """Run as libFuzzer does, from the specimens on."""
    specimens = [str(path) for path in sorted(SPECIMENS.iterdir()) if path.is_dir()]
    atheris.Setup([*sys.argv, *OPTIONS, *(specimens if Path(sys.argv[1]).is_dir() else ())], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
