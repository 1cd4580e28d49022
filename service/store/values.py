"""What goes into the store and comes out of it, besides the domain's own values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from service.store.instants import micros

if TYPE_CHECKING:
    from datetime import datetime

    from service.domain.facts import Fact, FactKey, PatientKey

Ledger: TypeAlias = Mapping[str, Any]
"""What a destination said that it holds of a course, as JSON values; `ledgers.py` says what of it the store reads."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The tables' migration, and the one that this release needs."""

    current: str | None
    """None in an empty database."""
    head: str

    @property
    def at_head(self) -> bool:
        """Whether the tables are those that this release needs."""
        return self.current == self.head


class Edition(NamedTuple):
    """Which state of a patient's facts and courses is stored. Whoever knows it knows them, and need not read them."""

    version: int
    """How often courses were projected, or projecting them was put off."""
    projected_as_of: int | None
    """Microseconds since the epoch; None while projecting is put off. A restored backup changes this at the least."""
    merged: str | None = None
    """What is the same for all patients who are, or ever were, merged with this one; None for most."""

    @property
    def is_put_off(self) -> bool:
        """Whether facts are stored that no projection has seen."""
        return self.version > 0 and self.projected_as_of is None

    def after(self, as_of: datetime) -> Edition:
        """Return the edition that projecting the patient as of an instant makes of this one."""
        return self._replace(version=self.version + 1, projected_as_of=micros(as_of))


NOTHING_STORED = Edition(0, None)
"""Of a patient who has no facts and no courses."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A fact that was not known before, or that replaced an older reading of its resource."""

    key: FactKey
    patient: PatientKey | None
    moved_from: PatientKey | None
    """The patient that lost the fact: another one than `patient`; None if nobody did."""


@dataclass(frozen=True, slots=True)
class StoredCourse:
    """A course as it stands in the store."""

    course_id: str
    patient: PatientKey
    anchor: str
    phase: str
    revision: str
    counter: int
    state: bytes
    """JSON of the course; the last one, if it is gone."""
    gone: bool
    superseded_by: str | None = None


@dataclass(frozen=True, slots=True)
class CourseUpdate:
    """A course as just projected. Nothing is written if the stored revision is the same."""

    course_id: str
    anchor: str
    phase: str
    revision: str
    state: bytes
    cause: tuple[str, ...] = ()
    """References of the facts that caused the change; empty if time alone did."""
    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    """Ids of the findings that it raised, and of those that it no longer has."""
    reason: str | None = None
    """Why the phase went back; None if it did not."""


@dataclass(frozen=True, slots=True)
class GoneCourse:
    """A stored course that is no longer projected."""

    course_id: str
    revision: str
    """Of its retraction: another one than any state of it has."""
    superseded_by: str | None = None
    """The course that takes its place, and its resources where a destination keeps them.

    Of the same patient, or of one that the patient was merged with.
    """
    cause: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientUpdate:
    """The whole result of projecting one patient."""

    patient: PatientKey
    next_due: datetime | None
    as_of: datetime
    courses: tuple[CourseUpdate, ...] = ()
    gone: tuple[GoneCourse, ...] = ()
    mappings: str = ""
    """Digest of the mappings that it was projected with."""


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """What the store has of one patient at one instant."""

    facts: list[Fact]
    courses: list[StoredCourse]
    projected_as_of: datetime | None
    """Of the last projection; None before the first, and while projecting the patient is put off."""

    @property
    def put_off(self) -> bool:
        """Whether facts have changed since the courses were last projected: a worker catches up with a backlog."""
        return self.projected_as_of is None and bool(self.facts or self.courses)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where plans go, as far as the store must know."""

    name: str
    takes_over: bool = False
    """Whether it keeps resources with ids of their own, so that one course can go on with another's."""
    sources: frozenset[str] | None = None
    """Ids of the sources whose courses it is to have; None: of all."""

    def takes(self, source: str) -> bool:
        """Return whether courses of a source go there."""
        return self.sources is None or source in self.sources


@dataclass(frozen=True, slots=True)
class Written:
    """What a write changed."""

    changed: tuple[str, ...]
    gone: tuple[str, ...]
    """Ids of courses."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One revision that a course has had."""

    counter: int
    revision: str
    gone: bool
    as_of: datetime
    recorded_at: datetime
    cause: tuple[str, ...]
    opened: tuple[str, ...]
    closed: tuple[str, ...]
    phase: str | None = None
    """None in a revision from before phases were kept, and of a course that is gone."""
    reason: str | None = None
    """Why the phase went back; None if it did not."""


WITHHELD = "withheld"
"""Route of a delivery that a label of its course keeps from the destination."""
OTHER_SOURCE = "other-source"
"""Route of a course whose source the destination does not take, once it has nothing of the course."""
PATIENT_MISSING = "patient-missing"
"""Outcome of a delivery to a destination that does not know the patient yet: all of a patient's have it together."""


class Lease(NamedTuple):
    """What a worker shows to prove that a delivery is still its own: what stood in the row when it was claimed."""

    until: datetime
    """When the lease ends: another time in the row says that somebody else has the delivery, or had it since."""
    due: datetime
    """For when it was due: another time says that it was asked for once more meanwhile."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is this worker's until its lease ends."""

    course_id: str
    destination: str
    patient: PatientKey
    revision: str
    counter: int
    state: bytes
    gone: bool
    """Whether the plan is to be retracted."""
    attempts: int
    """Since the last success, this one included."""
    seen: str | None
    route: str | None
    remote: Ledger
    """Doubted (`ledgers.py`) where `unheard`."""
    lease: Lease
    unheard: bool
    """Whether the attempt before was never heard of: its lease ran out, and what it wrote nobody remembers."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A course whose plan at a destination asks clinicians for something."""

    course_id: str
    patient: PatientKey
    remote: Ledger


class Write(NamedTuple):
    """One resource that a delivery wrote at its destination, or failed to."""

    action: str
    """`create`, `update` or `delete`."""
    resource_type: str
    resource_id: str | None
    """None where the destination chooses ids and did not answer with one."""
    version: str | None
    outcome: str = "success"
    """Or the reason code of what the write failed with."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit trail."""

    row: int
    """Its number in this database, the later the greater."""
    at: datetime
    agent: str
    """Name and version of what wrote."""
    course_id: str
    destination: str
    revision: str
    counter: int
    route: str | None
    outcome: str
    """`success`, or what the write failed with; without a write, why the destination refused the plan."""
    write: Write | None
    """None where nothing was written."""


@dataclass(frozen=True, slots=True)
class Untold:
    """A write that its destination has not been told of."""

    entry: AuditEntry
    """With its write."""
    patient: PatientKey
    """Whose course it was."""


@dataclass(frozen=True, slots=True)
class ClaimedAudit:
    """What one worker tells a destination."""

    destination: str
    until: int
    """When the lease ends (microseconds since the epoch); whoever has a later one is another worker."""
    rows: tuple[Untold, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A destination has acknowledged a plan."""

    course_id: str
    destination: str
    revision: str
    counter: int
    """`Claimed.counter`: what was sent, whatever is wanted by then."""
    route: str | None = None
    remote: Ledger | None = None
    """None leaves what is known."""
    writes: tuple[Write, ...] = ()
    """For the audit trail."""
    lease: Lease = field(kw_only=True)
    """`Claimed.lease`."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """An attempt failed; there is to be another."""

    course_id: str
    destination: str
    next_attempt: datetime
    outcome: str
    """Reason code."""
    remote: Ledger | None = None
    """What was already made at the destination; None leaves what is known."""
    revision: str = ""
    """What was sent, for the audit trail, and its counter."""
    counter: int = 0
    route: str | None = None
    writes: tuple[Write, ...] = ()
    """What it wrote before it failed, for the audit trail."""
    lease: Lease = field(kw_only=True)
    """`Claimed.lease`."""


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """How one course stands at one destination."""

    course_id: str
    destination: str
    wanted: str
    wanted_counter: int
    wanted_at: datetime
    seen: str | None
    seen_counter: int | None
    seen_at: datetime | None
    behind_since: datetime | None
    """None if it is up to date."""
    attempts: int
    next_attempt: datetime | None
    """None if nothing is to be done, or a person must act."""
    route: str | None
    remote: Ledger
    outcome: str | None
    handed_to: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a destination stands, all courses together."""

    destination: str
    courses: int
    """That it has, or shall have."""
    behind: int
    oldest: datetime | None
    """Since when the one that has waited longest is behind."""
    stopped: int
    """Of those behind, how many wait for a person."""
    paused_since: datetime | None
    """None while it is delivered to."""


@dataclass(frozen=True, slots=True)
class Pending:
    """How far a destination is behind."""

    count: int
    oldest: datetime | None
    """Since when the course that has waited longest differs from what is wanted."""


class ParkedKind(StrEnum):
    """What is parked."""

    RECORD = "record"
    CHANGE = "change"
    DELIVERY = "delivery"


class ParkedState(StrEnum):
    """What is to become of something parked."""

    OPEN = "open"
    RETRYING = "retrying"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A Kafka message, kept whole."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


WHOLE = -1
"""`Parked.entry` of a record that is parked as a whole."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A record, or one change in it, that can't go on without a person."""

    source: str
    reason: str
    path: str | None
    """Where in the resource; never a value."""
    record: KeptRecord
    entry: int = WHOLE
    """Index of the Bundle's entry."""


@dataclass(frozen=True, slots=True)
class ParkedItem:
    """Something parked, as an operator sees it in a list: without its content."""

    id: int
    kind: ParkedKind
    source: str
    reason: str
    path: str | None
    """Where in the resource; of a delivery in conflict, hashes of our content and the destination's."""
    topic: str | None
    partition: int | None
    offset: int | None
    entry: int
    course_id: str | None
    destination: str | None
    state: ParkedState
    parked_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True)
class Retry:
    """Something parked that is to be tried again. A delivery has no record: it is due again."""

    item: ParkedItem
    record: KeptRecord | None


class FeedCount(NamedTuple):
    """How many changes of a kind came to what, in one batch."""

    source: str
    kind: str
    """Resource type; `other` for those that are not read, `unknown` where the type can't be told."""
    outcome: str
    changes: int
    latest: datetime
    """Timestamp of the source's last record; the epoch where none is known."""


@dataclass(frozen=True, slots=True)
class FeedRate:
    """How many changes of a kind came to what."""

    kind: str
    outcome: str
    day: int
    """In the hour that is passing and the 23 before it."""
    total: int
    """Since the store was made."""


class GapClosed(StrEnum):
    """How a gap in a subscription's event numbers was closed."""

    ARRIVED = "arrived"
    SEARCHED = "searched-without-deletes"
    """At its EHR, which says nothing then of what was deleted."""
    SETTLED = "settled"
    """By a person."""


@dataclass(frozen=True, slots=True)
class EventGap:
    """Event numbers of a subscription that stayed missing."""

    id: int
    source: str
    subscription: str
    first: int
    last: int
    after: datetime
    before: datetime
    """Times of the events around it."""
    noticed_at: datetime
    attempts: int
    """Searches for its events that were begun."""

    @property
    def missing(self) -> int:
        """How many numbers it has."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class FeedOverview:
    """What the store knows of one source."""

    latest: datetime | None
    """Timestamp of the last record; None where there was none."""
    rates: tuple[FeedRate, ...]
    gaps: tuple[EventGap, ...]
    """Those that are open, oldest first."""
    gaps_closed: Mapping[str, int]
    """By how."""
    deviations: Mapping[str, int]
    """Of the resources that were held against the full FHIR model, by path, the most frequent first."""
    parked: Mapping[str, int]
    """Open ones, by reason, the most frequent first."""


@dataclass(frozen=True, slots=True)
class BackfillJob:
    """How far a backfill has come."""

    id: str
    source: str
    kind: str
    position: Mapping[str, Any]
    """Where to go on, in the words of its kind; empty before anything is stored."""
    counts: Mapping[str, int]
    """What was stored up to there."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """A change that waits for an answer of its EHR."""

    key: FactKey
    version: str | None
    """Of the resource, as the change says."""
    last_updated: datetime
    record: KeptRecord
    """The record that holds the change."""
    entry: int
    """Index of the change in its record."""
    subject: str | None = None
    """Identifier of the patient to search for, `system|value`; None: the resource itself is to be fetched."""


@dataclass(frozen=True, slots=True)
class ClaimedAwaited:
    """What one worker asks an EHR for until its lease ends."""

    awaited: Awaited
    asked: int
    """How many changes had named the resource when it was claimed."""
    attempts: int
    """That failed before."""
    outcome: str | None
    """Code of how the last of them ended."""
    known_version: int | None
    """Numeric version of the resource's fact, if there is one and it has one."""


@dataclass(frozen=True, slots=True)
class Later:
    """What was claimed is to be asked for again."""

    claimed: ClaimedAwaited
    at: datetime
    outcome: str | None
    """Reason code of the attempt that failed; None if there was none."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of everything there is, for metrics and for people."""

    courses: Mapping[str, int]
    """By phase; those that are gone not counted."""
    parked: Mapping[tuple[str, str], int]
    """Open ones, by kind and reason."""
    undelivered: Mapping[str, int]
    """By destination."""
    put_off: int
    """Patients not projected since their facts changed."""
