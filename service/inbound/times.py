"""Times as EHRs write them: without zone, without seconds, dates alone, nine fractional digits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_COMPLETE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_PARTIAL = re.compile(
    r"(\d{4})(?:(-\d\d)(?:(-\d\d)(?:[T ](\d\d:\d\d)(?:(:\d\d)(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?)?", re.ASCII
)
_LEAP_SECOND = ":60"
_YEARS = range(1900, 2200)
"""Years that a course can be in. `0001-01-01` and `9999-12-31` are how databases write that there is no time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_time(text: object, zone: ZoneInfo) -> datetime | None:
    """Return the instant that a FHIR date, dateTime or instant names, or None if it names none.

    Keeps the offset that the sender wrote; a time without one is in `zone`. A date alone begins at
    midnight, a leap second ends a second early, digits beyond microseconds are cut. A year that no
    course can be in stands for no time.
    """
    if not isinstance(text, str):
        return None
    text = text.strip()
    try:
        time = datetime.fromisoformat(text) if _COMPLETE.fullmatch(text) else _completed(text, zone)
    except ValueError:
        return None
    return time if time is not None and time.year in _YEARS else None


def _completed(text: str, zone: ZoneInfo) -> datetime | None:
    match = _PARTIAL.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, second, fraction, offset = match.groups(default="")
    second = ":59" if second == _LEAP_SECOND else second or ":00"
    time = datetime.fromisoformat(f"{year}{month or '-01'}{day or '-01'}T{hour or '00:00'}{second}{fraction}{offset}")
    if offset:
        return time
    # A fixed offset, so that sums with it come out the same before and after it was stored.
    return time.replace(tzinfo=timezone(time.replace(tzinfo=zone).utcoffset() or timedelta(0)))


def microseconds(time: datetime) -> int:
    """Return the microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND
