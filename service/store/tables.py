"""The tables. Instants are microseconds since the epoch, UTC; ids sort as Python sorts them, on both databases."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql

metadata = MetaData()

# Order keys are compared in the database: its language must not decide which digest is the greater.
_Id = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_Instant = BigInteger
_Number = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself in an INTEGER key only

fact = Table(
    "fact",
    metadata,
    Column("source", _Id, primary_key=True),
    Column("resource_type", _Id, primary_key=True),
    Column("resource_id", _Id, primary_key=True),
    Column("patient_id", _Id),
    Column("last_updated", _Instant, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("digest", _Id, nullable=False),
    Column("body", Text),  # the reading, as codec.py writes it; null in a marker
    Column("labels", Text),  # security labels; null for none
    Column("moved_from", _Id),  # the patient that the row had before its last change
)
Index("fact_of_patient", fact.c.source, fact.c.patient_id)
Index(
    "fact_marker",
    fact.c.last_updated,
    sqlite_where=fact.c.body.is_(None),
    postgresql_where=fact.c.body.is_(None),
)

patient = Table(
    "patient",
    metadata,
    Column("source", _Id, primary_key=True),
    Column("patient_id", _Id, primary_key=True),
    Column("next_due", _Instant),  # when its courses would next change with no new fact; null for never
    Column("projected_as_of", _Instant),  # null if its facts have changed since, or there are none
    Column("mappings", _Id, comment="digest of the mappings that its courses were last projected with"),
    Column("version", BigInteger, nullable=False, server_default="0"),  # how often it has been projected
    Column("merged", _Id),  # the same for all who are, or ever were, merged with each other; null for most
)
Index(
    "patient_merged",
    patient.c.source,
    patient.c.merged,
    sqlite_where=patient.c.merged.is_not(None),
    postgresql_where=patient.c.merged.is_not(None),
)
Index("patient_due", patient.c.next_due)
Index(
    "patient_put_off",
    patient.c.next_due,
    sqlite_where=patient.c.projected_as_of.is_(None),
    postgresql_where=patient.c.projected_as_of.is_(None),
)

course = Table(
    "course",
    metadata,
    Column("course_id", _Id, primary_key=True),
    Column("source", _Id, nullable=False),
    Column("patient_id", _Id, nullable=False),
    Column("anchor", _Id, nullable=False),
    Column("phase", _Id, nullable=False),
    Column("revision", _Id, nullable=False),
    Column("counter", BigInteger, nullable=False),  # how many revisions the course has had
    Column("state", Text, nullable=False),  # JSON of the course; the last one, if it is gone
    Column("gone", Boolean, nullable=False),
    Column("superseded_by", _Id),  # the course that took its place, if it is gone and one did
    ForeignKeyConstraint(["source", "patient_id"], ["patient.source", "patient.patient_id"]),
)
Index("course_of_patient", course.c.source, course.c.patient_id)

history = Table(
    "history",
    metadata,
    Column("course_id", _Id, ForeignKey("course.course_id"), primary_key=True),
    Column("counter", BigInteger, primary_key=True),
    Column("revision", _Id, nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("as_of", _Instant, nullable=False),
    Column("recorded_at", _Instant, nullable=False),
    Column("cause", Text, nullable=False),  # JSON list: references of the facts that caused it
    Column("findings", Text, nullable=False),  # JSON: ids of the findings that it opened, and closed
    Column("phase", Text),  # null in rows from before it was kept, and of a course that is gone
    Column("reason", Text),  # why the phase went back; null if it did not
)

delivery = Table(
    "delivery",
    metadata,
    Column("course_id", _Id, ForeignKey("course.course_id"), primary_key=True),
    Column("destination", _Id, primary_key=True),
    Column("wanted", _Id, nullable=False),
    Column("wanted_counter", BigInteger, nullable=False),
    Column("wanted_at", _Instant, nullable=False),
    Column("seen", _Id),  # the revision that the destination last acknowledged
    Column("seen_counter", BigInteger),
    Column("seen_at", _Instant),
    Column("behind_since", _Instant),  # since when it lacks what is wanted; null while it does not
    Column("attempts", Integer, nullable=False),  # since the last success
    Column("next_attempt", _Instant),  # null if there is nothing to do, or a person must act
    Column("leased_until", _Instant),  # until when one worker has it to itself
    Column("route", Text),
    Column("remote", Text),  # JSON: role to id, version and hash of the resource at the destination
    Column("outcome", Text),  # reason code of the last attempt, if it failed
    Column("handed_to", _Id),  # the course that its remote resources went to
)
Index("delivery_due", delivery.c.destination, delivery.c.next_attempt)
Index(
    "delivery_behind",
    delivery.c.destination,
    delivery.c.behind_since,
    sqlite_where=delivery.c.behind_since.is_not(None),
    postgresql_where=delivery.c.behind_since.is_not(None),
)

pause = Table(  # destinations to which nothing is delivered until a person resumes it
    "pause",
    metadata,
    Column("destination", _Id, primary_key=True),
    Column("since", _Instant, nullable=False),
)

audit = Table(  # appended to, never changed
    "audit",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("at", _Instant, nullable=False),
    Column("agent", Text, nullable=False),  # name and version of what wrote
    Column("course_id", _Id, ForeignKey("course.course_id"), nullable=False),
    Column("destination", _Id, nullable=False),
    Column("revision", _Id, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("route", Text),
    Column("outcome", Text, nullable=False),  # `success`, or what the write failed with, or why the plan was refused
    Column("action", Text),  # create, update or delete; null where nothing was written
    Column("resource_type", Text),
    Column("resource_id", _Id),  # at the destination
    Column("version", Text),
)
Index("audit_of_course", audit.c.course_id, audit.c.id)
Index("audit_of_destination", audit.c.destination, audit.c.id)

audit_mark = Table(
    "audit_mark",
    metadata,
    Column("destination", _Id, primary_key=True),
    Column("told", BigInteger, nullable=False),  # the last row of `audit` that it has been told of
    Column("leased_until", _Instant),  # until when one worker tells it, or nobody does
)

parked_record = Table(
    "parked_record",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("topic", _Id, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("record_offset", BigInteger, nullable=False),
    Column("sent_at", _Instant, nullable=False),  # the timestamp
    Column("key", LargeBinary),
    Column("headers", Text, nullable=False),  # JSON: pairs of name and base64 value
    Column("value", LargeBinary),
    UniqueConstraint("topic", "partition", "record_offset"),
)

parked = Table(
    "parked",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("kind", _Id, nullable=False),
    Column("source", _Id, nullable=False),
    Column("reason", _Id, nullable=False),
    Column("path", Text),  # where in the resource, or hashes of two contents in conflict; never a value
    Column("record_id", _Number, ForeignKey("parked_record.id")),
    Column("entry", Integer, nullable=False),  # index of the entry of a Bundle; -1 for the whole record
    Column("course_id", _Id, ForeignKey("course.course_id")),
    Column("destination", _Id),
    Column("state", _Id, nullable=False),
    Column("parked_at", _Instant, nullable=False),
    Column("changed_at", _Instant, nullable=False),  # when the state last changed
    Column("note", Text),  # why a person discarded it
    # Null is equal to nothing: each of the two binds only the kind of row that it is for.
    UniqueConstraint("record_id", "entry"),
    UniqueConstraint("course_id", "destination"),
)
Index("parked_in_state", parked.c.state, parked.c.id)

backfill = Table(
    "backfill",
    metadata,
    Column("job", _Id, primary_key=True),  # digest of what is read: the same command finds the same row
    Column("source", _Id, nullable=False),
    Column("kind", _Id, nullable=False),
    Column("position", Text, nullable=False),  # JSON: where to go on; addresses of pages may name a patient
    Column("counts", Text, nullable=False),  # JSON: name to number, up to the position
    Column("started_at", _Instant, nullable=False),
    Column("changed_at", _Instant, nullable=False),
    Column("done", Boolean, nullable=False),
)

feed_count = Table(
    "feed_count",
    metadata,
    Column("source", _Id, primary_key=True),
    Column("kind", _Id, primary_key=True),  # resource type, or `other`, or `unknown`
    Column("outcome", _Id, primary_key=True),
    Column("hour", BigInteger, primary_key=True),  # in which it was counted, since the epoch; 0 for all of them
    Column("shard", Integer, primary_key=True),  # of the worker that counts, so that workers don't wait for each other
    Column("count", BigInteger, nullable=False),
    Column("latest", _Instant, nullable=False),  # timestamp of the last record
)

subscription = Table(
    "subscription",
    metadata,
    Column("source", _Id, primary_key=True),
    Column("reference", _Id, primary_key=True),
    Column("begun", _Instant),  # time of the event with which its numbers began anew; null in its first life
    Column("stretches", Text, nullable=False),  # JSON: lists of first, last, noticed, since, until
)

event_gap = Table(
    "event_gap",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("source", _Id, nullable=False),
    Column("reference", _Id, nullable=False),
    Column("begun", _Instant),  # which life of the subscription
    Column("first_number", BigInteger, nullable=False),
    Column("last_number", BigInteger, nullable=False),
    Column("after", _Instant, nullable=False),  # times of the events around it
    Column("before", _Instant, nullable=False),
    Column("noticed_at", _Instant, nullable=False),
    Column("next_attempt", _Instant, nullable=False),  # when its events may be searched for; a lease while they are
    Column("attempts", Integer, nullable=False),
    Column("closed_at", _Instant),  # null while it is open
    Column("closed_by", _Id),  # how: arrived, searched, settled
)
Index(
    "event_gap_open",
    event_gap.c.source,
    event_gap.c.next_attempt,
    sqlite_where=event_gap.c.closed_at.is_(None),
    postgresql_where=event_gap.c.closed_at.is_(None),
)

deviation = Table(
    "deviation",
    metadata,
    Column("source", _Id, primary_key=True),
    Column("path", _Id, primary_key=True),  # of an element, without indices; never a value
    Column("count", BigInteger, nullable=False),
    Column("last_seen", _Instant, nullable=False),
)

awaited = Table(
    "awaited",
    metadata,
    Column("source", _Id, primary_key=True),
    Column("resource_type", _Id, primary_key=True),
    Column("resource_id", _Id, primary_key=True),
    Column("subject", Text),  # identifier of the patient to search for; null: the resource itself is to be fetched
    Column("version", Text),  # of the resource, as the newest change that names it says
    Column("last_updated", _Instant, nullable=False),  # of that change
    Column("record_id", _Number, ForeignKey("parked_record.id"), nullable=False),  # the record that holds it
    Column("entry", Integer, nullable=False),  # index of the change in its record
    Column("asked", BigInteger, nullable=False),  # how many changes have named it since it waits
    Column("since", _Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", _Instant, nullable=False),
    Column("leased_until", _Instant),  # until when one worker has it to itself
    Column("outcome", Text),  # reason code of the last attempt, if it failed
)
Index("awaited_due", awaited.c.source, awaited.c.next_attempt)
Index("awaited_record", awaited.c.record_id)
