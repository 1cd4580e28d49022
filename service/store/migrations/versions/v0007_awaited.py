"""Changes that wait for an answer of their EHR: resources that were only named, subjects to be searched for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

_ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; a release that doesn't know it goes on working, and leaves what waits."""
    op.create_table(
        "awaited",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("resource_type", _ID, primary_key=True),
        sa.Column("resource_id", _ID, primary_key=True),
        sa.Column("subject", sa.Text),
        sa.Column("version", sa.Text),
        sa.Column("last_updated", sa.BigInteger, nullable=False),
        sa.Column("record_id", _NUMBER, sa.ForeignKey("parked_record.id"), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False),
        sa.Column("asked", sa.BigInteger, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt", sa.BigInteger, nullable=False),
        sa.Column("leased_until", sa.BigInteger),
        sa.Column("outcome", sa.Text),
    )
    op.create_index("awaited_due", "awaited", ["source", "next_attempt"])
    op.create_index("awaited_record", "awaited", ["record_id"])


def downgrade() -> None:
    """Take it away, and what waits with it."""
    op.drop_table("awaited")
