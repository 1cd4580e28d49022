"""Times as EHRs write them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from service.inbound.times import parse_time

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-07-01T10:00:00Z", "2026-07-01T10:00:00+00:00"),
        ("2026-07-01T10:00:00.5+02:00", "2026-07-01T10:00:00.500000+02:00"),
        ("2026-07-01T10:00:00.123456789-04:56", "2026-07-01T10:00:00.123456-04:56"),
        ("2026-07-01T10:00:00+0100", "2026-07-01T10:00:00+01:00"),
        (" 2026-07-01T10:00:00Z\t", "2026-07-01T10:00:00+00:00"),
        ("2026-07-01T10:00Z", "2026-07-01T10:00:00+00:00"),
        ("2026-07-01T23:59:60Z", "2026-07-01T23:59:59+00:00"),
        ("2026-07-01T10:00:00", "2026-07-01T10:00:00-04:00"),
        ("2026-01-01 10:00", "2026-01-01T10:00:00-05:00"),
        ("2026-07-01", "2026-07-01T00:00:00-04:00"),
        ("2026-02", "2026-02-01T00:00:00-05:00"),
        ("2026", "2026-01-01T00:00:00-05:00"),
    ],
)
def test_time_keeps_its_offset_or_takes_the_clinics(written: str, read: str) -> None:
    """The calendar day of a session is the one that the clinic wrote."""
    time = parse_time(written, NEW_YORK)

    assert time is not None
    assert read == time.isoformat()


@pytest.mark.parametrize(
    "written",
    [
        None,
        20260701,
        "",
        "#NOW",
        "01.07.2026",
        "2026-13-01",
        "2026-02-30",
        "2026-W27-3T10:00:00Z",
        "2026-07-01T24:00:00Z",
        "2026-07-01T10:00:00+99:00",
        "٢٠٢٦-07-01",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_time_is_none(written: object) -> None:
    """Neither a placeholder nor a year in which no course can be is taken for a time."""
    assert parse_time(written, NEW_YORK) is None
