"""Facts, patients, courses with their history, deliveries, and what is parked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables in an empty database."""
    op.create_table(
        "fact",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("resource_type", _ID, primary_key=True),
        sa.Column("resource_id", _ID, primary_key=True),
        sa.Column("patient_id", _ID),
        sa.Column("last_updated", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("digest", _ID, nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("labels", sa.Text),
        sa.Column("moved_from", _ID),
    )
    op.create_index("fact_of_patient", "fact", ["source", "patient_id"])
    marker = sa.text("body IS NULL")
    op.create_index("fact_marker", "fact", ["last_updated"], sqlite_where=marker, postgresql_where=marker)
    op.create_table(
        "patient",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("patient_id", _ID, primary_key=True),
        sa.Column("next_due", sa.BigInteger),
        sa.Column("projected_as_of", sa.BigInteger),
        sa.Column("mappings", _ID, comment="digest of the mappings that its courses were last projected with"),
    )
    op.create_index("patient_due", "patient", ["next_due"])
    op.create_table(
        "course",
        sa.Column("course_id", _ID, primary_key=True),
        sa.Column("source", _ID, nullable=False),
        sa.Column("patient_id", _ID, nullable=False),
        sa.Column("anchor", _ID, nullable=False),
        sa.Column("phase", _ID, nullable=False),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("counter", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Column("superseded_by", _ID),
        sa.ForeignKeyConstraint(["source", "patient_id"], ["patient.source", "patient.patient_id"]),
    )
    op.create_index("course_of_patient", "course", ["source", "patient_id"])
    op.create_table(
        "history",
        sa.Column("course_id", _ID, sa.ForeignKey("course.course_id"), primary_key=True),
        sa.Column("counter", sa.BigInteger, primary_key=True),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("findings", sa.Text, nullable=False),
    )
    _create_deliveries()
    _create_parked()


def _create_deliveries() -> None:
    op.create_table(
        "delivery",
        sa.Column("course_id", _ID, sa.ForeignKey("course.course_id"), primary_key=True),
        sa.Column("destination", _ID, primary_key=True),
        sa.Column("wanted", _ID, nullable=False),
        sa.Column("wanted_counter", sa.BigInteger, nullable=False),
        sa.Column("wanted_at", sa.BigInteger, nullable=False),
        sa.Column("seen", _ID),
        sa.Column("seen_counter", sa.BigInteger),
        sa.Column("seen_at", sa.BigInteger),
        sa.Column("behind_since", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt", sa.BigInteger),
        sa.Column("leased_until", sa.BigInteger),
        sa.Column("route", sa.Text),
        sa.Column("remote", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("handed_to", _ID),
    )
    op.create_index("delivery_due", "delivery", ["destination", "next_attempt"])
    behind = sa.text("behind_since IS NOT NULL")
    op.create_index(
        "delivery_behind", "delivery", ["destination", "behind_since"], sqlite_where=behind, postgresql_where=behind
    )


def _create_parked() -> None:
    op.create_table(
        "parked_record",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("topic", _ID, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("record_offset", sa.BigInteger, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("key", sa.LargeBinary),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary),
        sa.UniqueConstraint("topic", "partition", "record_offset"),
    )
    op.create_table(
        "parked",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("kind", _ID, nullable=False),
        sa.Column("source", _ID, nullable=False),
        sa.Column("reason", _ID, nullable=False),
        sa.Column("path", sa.Text),
        sa.Column("record_id", _NUMBER, sa.ForeignKey("parked_record.id")),
        sa.Column("entry", sa.Integer, nullable=False),
        sa.Column("course_id", _ID, sa.ForeignKey("course.course_id")),
        sa.Column("destination", _ID),
        sa.Column("state", _ID, nullable=False),
        sa.Column("parked_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text),
        sa.UniqueConstraint("record_id", "entry"),
        sa.UniqueConstraint("course_id", "destination"),
    )
    op.create_index("parked_in_state", "parked", ["state", "id"])
