"""Instants as the tables hold them: microseconds since the epoch, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@overload
def micros(instant: datetime) -> int: ...
@overload
def micros(instant: None) -> None: ...
def micros(instant: datetime | None) -> int | None:
    """Return an aware datetime as microseconds since the epoch; None stays None."""
    return None if instant is None else (instant - _EPOCH) // _MICROSECOND


@overload
def instant(value: int) -> datetime: ...
@overload
def instant(value: None) -> None: ...
def instant(value: int | None) -> datetime | None:
    """Return the datetime in UTC that `micros` made a number of; None stays None."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)
