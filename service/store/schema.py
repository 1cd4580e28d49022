"""The tables' migrations: `migrations/` through alembic, with no file of its configuration."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from sqlalchemy import column, inspect, select, table, text

from service.store.migrations import versions
from service.store.values import SchemaState

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_APPLIED = table("alembic_version", column("version_num"))
_TURN = 0x69_70_74_62  # any number, so long as it stays the same: PostgreSQL's name for our lock


def head() -> str:
    """Return the number of the last migration: files are named `v0001_first`, in their order."""
    names = [module.name for module in pkgutil.iter_modules(versions.__path__)]
    return max(names)[1:].partition("_")[0]


def state(connection: Connection) -> SchemaState:
    """Return the migration that the tables have, and the one that they need."""
    current = None
    if inspect(connection).has_table(_APPLIED.name):
        current = connection.execute(select(_APPLIED.c.version_num)).scalar()
    return SchemaState(current, head())


def migrate(connection: Connection) -> SchemaState:
    """Bring the tables to the head, in the connection's transaction; return the state that was found.

    Of several migrators at once one does it, and the others wait and find it done: on SQLite the
    transaction has the one write lock from its beginning.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
    found = state(connection)
    if not found.at_head:
        # Ten megabytes that a worker has no other use for.
        from alembic import command  # noqa: PLC0415 - as the line above says

        command.upgrade(config_on(connection), "head")
    return found


def config_on(connection: Connection) -> Config:
    """Return what alembic needs to know to change the tables in a connection's transaction."""
    from alembic.config import Config  # noqa: PLC0415 - as in `migrate`

    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
