"""How PostgreSQL compresses the long texts that change with every event: by lz4, where it was built with that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

# In the order in which the intake comes to the tables, so that neither waits for the other for ever.
_LONG = (("fact", "body"), ("course", "state"), ("delivery", "remote"))
# Of a server of before PostgreSQL 14, which knows one way only, no row.
_KNOWS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"


def upgrade() -> None:
    """Let what is stored from now on be compressed so; what is stored already is read as before."""
    _compress("lz4")


def downgrade() -> None:
    """Let the server choose again."""
    _compress("default")


def _compress(way: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and connection.execute(sa.text(_KNOWS_LZ4)).scalar():
        for table, column in _LONG:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION {way}")
