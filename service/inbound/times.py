"""Times as EHRs write them: without zone, without seconds, dates alone, nine fractional digits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,32}))?)?(?:(Z)|([+-])(\d\d):?(\d\d))?)?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_SECOND = 59


def parse_time(text: object, zone: ZoneInfo) -> datetime | None:
    """Return the instant that a FHIR date, dateTime or instant names, or None if it names none.

    Keeps the offset that the sender wrote; a time without one is in `zone`. A date alone begins at
    midnight, a leap second ends a second early, digits beyond microseconds are cut.
    """
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, utc, sign, offset_hours, offset_minutes = match.groups()
    try:
        naive = datetime(  # noqa: DTZ001 - the zone follows
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            min(int(second or 0), _LAST_SECOND) if second == "60" else int(second or 0),
            int(fraction[:6].ljust(6, "0")) if fraction else 0,
        )
        if utc:
            return naive.replace(tzinfo=UTC)
        if sign:
            offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
            return naive.replace(tzinfo=timezone(-offset if sign == "-" else offset))
        # Fixed, so that sums with it come out the same before and after it was stored.
        return naive.replace(tzinfo=timezone(naive.replace(tzinfo=zone).utcoffset() or timedelta(0)))
    except (ValueError, OverflowError):
        return None


def microseconds(time: datetime) -> int:
    """Return the microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND
