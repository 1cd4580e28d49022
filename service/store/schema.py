"""The tables' migrations: `migrations/` through alembic, with no file of its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from service.store.values import SchemaState

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TURN = 0x69_70_74_62  # any number, so long as it stays the same: PostgreSQL's name for our lock


def state(connection: Connection) -> SchemaState:
    """Return the migration that the tables have, and the one that they need."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return SchemaState(MigrationContext.configure(connection).get_current_revision(), str(head))


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
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    config.set_main_option("path_separator", "os")
    return config
