"""The phase of each revision, and why it went back where it did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; a release that doesn't know them goes on working."""
    op.add_column("history", sa.Column("phase", sa.Text))
    op.add_column("history", sa.Column("reason", sa.Text))


def downgrade() -> None:
    """Take them away."""
    op.drop_column("history", "reason")
    op.drop_column("history", "phase")
