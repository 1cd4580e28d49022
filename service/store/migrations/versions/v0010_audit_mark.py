"""How far each destination has been told of the audit trail, where it takes AuditEvents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

_ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the marks; a release that doesn't know them tells nobody."""
    op.create_table(
        "audit_mark",
        sa.Column("destination", _ID, primary_key=True),
        sa.Column("told", sa.BigInteger, nullable=False),
        sa.Column("leased_until", sa.BigInteger),
    )
    op.create_index("audit_of_destination", "audit", ["destination", "id"])


def downgrade() -> None:
    """Take them away."""
    op.drop_index("audit_of_destination", "audit")
    op.drop_table("audit_mark")
