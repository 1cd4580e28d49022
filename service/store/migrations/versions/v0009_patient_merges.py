"""Which patients are, or were, merged with each other: their courses are projected together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add column and index; a release that doesn't know them goes on working, and leaves patients apart."""
    op.add_column("patient", sa.Column("merged", sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")))
    merged = sa.text("merged IS NOT NULL")
    op.create_index("patient_merged", "patient", ["source", "merged"], sqlite_where=merged, postgresql_where=merged)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("patient_merged", "patient")
    op.drop_column("patient", "merged")
