"""What can go wrong with the database, and whether waiting helps."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTING = "IPT_STORE__URL or [store] url"
_DATA_CLASSES = ("22", "23", "54")
"""SQLSTATE classes that a row itself causes: data exception, integrity violation, program limit exceeded."""
_HINTS = {
    "28": f"Check user and password in {SETTING}.",
    "3D": f"Create the database, or name another in {SETTING}.",
    "42": "Run `ipt-bridge migrate` with a user that owns the tables, and grant them to the service's user.",
    "53": "Give the database server more room: disk, memory or connections.",
}


class StoreError(Exception):
    """The database did not do what was asked. The message holds no value of a row and no password.

    `transient` is False if the data itself is what the database can't take: then trying again is
    in vain. Everything else can be set right from outside, and is worth another try.
    """

    def __init__(self, text: str, *, transient: bool) -> None:
        super().__init__(text)
        self.transient = transient


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed later: connection lost, deadlock, locked, disk full."""
    if isinstance(error, StoreError):
        return error.transient
    return isinstance(error, OSError)


DATABASE_ERRORS = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error, OSError)
"""Everything that the drivers raise; OSError includes timeouts and refused connections."""


def translate(error: BaseException) -> StoreError:
    """Return what to tell of a driver's error: its kind and code, never its text, which may quote rows."""
    cause = next(_causes(error))
    kind = type(cause).__name__
    if isinstance(cause, OSError):
        return StoreError(f"The store can't be reached ({kind}). Check the database and {SETTING}.", transient=True)
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(cause, kind)
    code = getattr(cause, "sqlstate", None)
    if code:
        transient = not code.startswith(_DATA_CLASSES)
        hint = _HINTS.get(code[:2], f"Check the database that {SETTING} names.")
        return StoreError(f"The store refused (PostgreSQL {code}, {kind}). {hint}", transient=transient)
    if isinstance(cause, (asyncpg.exceptions.DataError, OverflowError, UnicodeError)):
        return StoreError(f"The store can't hold a value ({kind}). Park the record it came from.", transient=False)
    return StoreError(f"The store failed ({kind}). Check the database that {SETTING} names.", transient=True)


def _of_sqlite(cause: sqlite3.Error, kind: str) -> StoreError:
    code = getattr(cause, "sqlite_errorname", None) or kind
    if isinstance(cause, (sqlite3.IntegrityError, sqlite3.DataError)):
        return StoreError(
            f"The store can't hold a value (SQLite {code}). Park the record it came from.", transient=False
        )
    hint = f"Check the file that {SETTING} names, its folder and the free space."
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        hint = f"Another process holds it; for several busy workers name a PostgreSQL in {SETTING}."
    elif code == "SQLITE_ERROR":
        hint = "Run `ipt-bridge migrate`."
    return StoreError(f"The store failed (SQLite {code}). {hint}", transient=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the driver's own error first: SQLAlchemy wraps it, and its dialects wrap it again."""
    inner = error.orig if isinstance(error, DBAPIError) else None
    for cause in (inner and inner.__cause__, inner, error):
        if cause is not None:
            yield cause
