"""A patient's version, so that a worker knows when what it remembers of the patient still holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; a release that doesn't know it goes on working."""
    op.add_column("patient", sa.Column("version", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Take the column away."""
    op.drop_column("patient", "version")
