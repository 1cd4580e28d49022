"""What is told of each source: counts by the hour, event numbers and their gaps, deviations from FHIR."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

_ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables; a release that doesn't know them goes on working."""
    op.create_table(
        "feed_count",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("kind", _ID, primary_key=True),
        sa.Column("outcome", _ID, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("latest", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "subscription",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("reference", _ID, primary_key=True),
        sa.Column("begun", sa.BigInteger),
        sa.Column("stretches", sa.Text, nullable=False),
    )
    op.create_table(
        "event_gap",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("source", _ID, nullable=False),
        sa.Column("reference", _ID, nullable=False),
        sa.Column("begun", sa.BigInteger),
        sa.Column("first_number", sa.BigInteger, nullable=False),
        sa.Column("last_number", sa.BigInteger, nullable=False),
        sa.Column("after", sa.BigInteger, nullable=False),
        sa.Column("before", sa.BigInteger, nullable=False),
        sa.Column("noticed_at", sa.BigInteger, nullable=False),
        sa.Column("next_attempt", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("closed_by", _ID),
    )
    still_open = sa.text("closed_at IS NULL")
    op.create_index(
        "event_gap_open",
        "event_gap",
        ["source", "next_attempt"],
        sqlite_where=still_open,
        postgresql_where=still_open,
    )
    op.create_table(
        "deviation",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("path", _ID, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("last_seen", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("deviation")
    op.drop_index("event_gap_open", "event_gap")
    op.drop_table("event_gap")
    op.drop_table("subscription")
    op.drop_table("feed_count")
