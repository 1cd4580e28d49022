"""Where SQLite and PostgreSQL differ: how they connect, begin, and take many rows at once."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import ARRAY, Text, bindparam, column, event, func, literal_column, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.store.errors import SETTING, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import URL, Column, Connection, FromClause, Table
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

READ_ONLY = "ipt_read_only"
"""Execution option of a connection that will not write."""

CONNECT_S = 10
STATEMENT_S = 60  # a batch takes a tenth of a second; a statement that takes longer has met something broken
LOCK_S = 30
_POSTGRESQL_SETTINGS = {
    "application_name": "ipt-bridge",
    # The generic plan of a statement over arrays is made for arrays of ten: 3 to 4 times as slow.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",  # compiling takes longer than any of these statements
    "statement_timeout": f"{STATEMENT_S}s",
    "lock_timeout": f"{LOCK_S}s",
    # A worker that was paused in a transaction must not hold its patients for ever.
    "idle_in_transaction_session_timeout": f"{STATEMENT_S}s",
}
_SQLITE_AT_LEAST = (3, 35, 0)  # RETURNING
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}

Insert = postgresql.Insert | sqlite.Insert


def create_engine(url: str, pool_size: int, *, unlimited: bool = False) -> AsyncEngine:
    """Return an engine for `sqlite:///path` or `postgresql://user@host/name`, with or without a driver.

    Raises StoreError if the URL is none of these.
    """
    parsed = _parsed(url)
    # hide_parameters: they are patient data, and SQLAlchemy would quote them in its errors.
    if parsed.drivername == _DRIVERS["sqlite"]:
        engine = create_async_engine(
            parsed,
            hide_parameters=True,
            pool_size=pool_size,
            pool_use_lifo=True,  # each connection has a cache of its own: the same few are used
            max_overflow=0,
            # isolation_level None: the driver begins no transaction of its own; `_begin_sqlite` does.
            connect_args={"timeout": LOCK_S, "isolation_level": None},
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    engine = create_async_engine(
        parsed,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={
            "timeout": CONNECT_S,
            # The server's own limit comes first; this one is for a connection that no longer answers.
            "command_timeout": None if unlimited else STATEMENT_S + CONNECT_S,
            "server_settings": _POSTGRESQL_SETTINGS,
        },
    )
    event.listen(engine.sync_engine, "begin", _begin_postgresql)
    event.listen(engine.sync_engine, "checkout", _refuse_unusable)
    return engine


class Incoming:
    """Rows that come to a statement as its parameters: a table to select from, and how to bind them."""

    def __init__(self, dialect: str, *columns: Column[Any]) -> None:
        self._names = [f"incoming_{column.name}" for column in columns] if dialect == "postgresql" else []
        self.rows = _unnest(self._names, columns) if self._names else _json_each(columns)

    def bind(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
        """Return the statement's parameters for these rows; there is at least one, of plain values."""
        if self._names:
            return dict(zip(self._names, map(list, zip(*rows, strict=True)), strict=True))
        try:
            return {"incoming": orjson.dumps(rows).decode()}
        except orjson.JSONEncodeError:
            text = "The store can't hold a value (too large a number, or no text). Park the record it came from."
            raise StoreError(text, transient=False) from None


def insert(dialect: str, table: Table) -> Insert:
    """Return an INSERT that can have an ON CONFLICT."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _unnest(names: list[str], columns: Sequence[Column[Any]]) -> FromClause:
    # Without the collation, which is the table's and no part of an array's type.
    types = [type(each.type)() for each in columns]
    arrays = [bindparam(name, type_=ARRAY(each)) for name, each in zip(names, types, strict=True)]
    typed = [column(each.name, each.type) for each in columns]
    return func.unnest(*arrays).table_valued(*typed, name="incoming").render_derived()


def _json_each(columns: Sequence[Column[Any]]) -> FromClause:
    each = func.json_each(bindparam("incoming", type_=Text)).table_valued("value", name="each")
    elements = [
        literal_column(f"json_extract(each.value, '$[{place}]')", one.type).label(one.name)
        for place, one in enumerate(columns)
    ]
    return select(*elements).select_from(each).subquery("incoming")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DRIVERS[parsed.get_backend_name()])
    except (ArgumentError, ValueError, KeyError):
        # Not chained: the URL may hold a password.
        text = f"The store's URL names no database. Set {SETTING} to sqlite:///path or postgresql://user@host/name."
        raise StoreError(text, transient=False) from None
    if parsed.drivername == _DRIVERS["sqlite"]:
        if sqlite3.sqlite_version_info < _SQLITE_AT_LEAST:
            text = f"SQLite {sqlite3.sqlite_version} is too old: the store needs 3.35. Use a newer Python."
            raise StoreError(text, transient=False)
        if parsed.database in {None, "", ":memory:"}:
            text = f"The store needs SQLite in a file. Set {SETTING} to sqlite:///path."
            raise StoreError(text, transient=False)
    return parsed


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",  # readers and the one writer don't wait for each other
        "synchronous = FULL",  # what is committed outlives a power cut: the offsets are committed next
        "foreign_keys = ON",
        "cache_size = -4096",  # KiB; what does not fit stays in the system's own cache
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later could not wait for another writer: take the lock at once.
    reads_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    # SQLAlchemy leaves it to its first statement; those that go straight to the driver need it before.
    adapted: Any = connection.connection.dbapi_connection
    adapted.run_async(lambda _: adapted._start_transaction())  # noqa: SLF001 - it begins in no public way


def _refuse_unusable(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    # The pool learns of lost connections from errors that pass through SQLAlchemy, and not all of them do. Nor does it
    # learn of a transaction that whoever began it was cancelled in: the next one would only be a part of that, and
    # what it commits would not be committed.
    adapted: Any = connection
    if adapted.driver_connection.is_closed() or adapted.driver_connection.is_in_transaction():
        raise DisconnectionError
