"""A patient's version, so that a worker knows when what it remembers still holds; and whose projection is put off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add column and index; a release that doesn't know it goes on working."""
    op.add_column("patient", sa.Column("version", sa.BigInteger, nullable=False, server_default="0"))
    put_off = sa.text("projected_as_of IS NULL")
    op.create_index("patient_put_off", "patient", ["next_due"], sqlite_where=put_off, postgresql_where=put_off)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("patient_put_off", "patient")
    op.drop_column("patient", "version")
