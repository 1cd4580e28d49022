"""What was written at which destination, and by which route: appended to, never changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

_ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; a release that doesn't know it writes on."""
    op.create_table(
        "audit",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("course_id", _ID, sa.ForeignKey("course.course_id"), nullable=False),
        sa.Column("destination", _ID, nullable=False),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("counter", sa.BigInteger, nullable=False),
        sa.Column("route", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("action", sa.Text),
        sa.Column("resource_type", sa.Text),
        sa.Column("resource_id", _ID),
        sa.Column("version", sa.Text),
    )
    op.create_index("audit_of_course", "audit", ["course_id", "id"])


def downgrade() -> None:
    """Take it away."""
    op.drop_index("audit_of_course", "audit")
    op.drop_table("audit")
