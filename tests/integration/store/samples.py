"""Facts and updates as short as a test can have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.domain.facts import EncounterReading, Fact, FactKey, OrderKey, PatientKey
from service.store import CourseUpdate, Delivered, Destination, GoneCourse, KeptRecord, Parked, PatientUpdate, Postponed

if TYPE_CHECKING:
    from service.store import Claimed, DeliveryState, Ledger, Store, Write

NOW = datetime(2026, 3, 4, 10, tzinfo=UTC)
LEASE = timedelta(minutes=2)
SOON, LATER = NOW + timedelta(seconds=30), NOW + timedelta(minutes=5)
ANNA = PatientKey("main", "anna")
BEN = PatientKey("main", "ben")
TOPIC = Destination("topic")
EHR = Destination("ehr", takes_over=True)
REMOTE = {"careplan": {"id": "cp-1", "version": "1", "hash": "h"}}


def key(name: str) -> FactKey:
    """The key of an Encounter."""
    return FactKey("main", "Encounter", name)


def fact(name: str, patient: PatientKey | None = ANNA, *, at: int = 1, version: int = 1, digest: str = "d") -> Fact:
    """An Encounter's fact whose status tells its instant and version apart."""
    reading = EncounterReading(f"status-{at}-{version}-{digest}") if patient else None
    return Fact(key(name), OrderKey(at, version, patient is None, digest), patient and patient.patient_id, reading)


def course(name: str, revision: str = "r1", **also: Any) -> CourseUpdate:  # noqa: ANN401 - any field of an update
    """A course's update; its state is its revision."""
    return CourseUpdate(name, f"Encounter/{name}", "middle", revision, f'"{revision}"'.encode(), **also)


def gone(name: str, by: str | None = None) -> GoneCourse:
    """A course that is no longer projected."""
    return GoneCourse(name, f"{name}-retracted", by)


def update(
    *courses: CourseUpdate, gone: tuple[GoneCourse, ...] = (), patient: PatientKey = ANNA, due: datetime | None = None
) -> PatientUpdate:
    """The projection of one patient."""
    return PatientUpdate(patient, due, NOW, courses, gone)


async def write(
    store: Store, *updates: PatientUpdate, to: tuple[Destination, ...] = (TOPIC,), now: datetime = NOW
) -> tuple[str, ...]:
    """Write in a transaction of its own; the ids of the courses that changed."""
    async with store.transaction() as transaction:
        await transaction.lock(each.patient for each in updates)
        written = await transaction.write(updates, to, now)
    return written.changed + written.gone


def record(offset: int = 7) -> KeptRecord:
    """A message that no text could hold: odd bytes everywhere, and null headers."""
    return KeptRecord("encounters", 0, offset, NOW, b"\x00\xff", b"\xfe{", (("a", None), ("b", b"\x80"), ("a", b"")))


def parked(reason: str = "not-json", offset: int = 7, entry: int = -1) -> Parked:
    """Something parked."""
    return Parked("main", reason, "Encounter.subject", record(offset), entry)


def done(claimed: Claimed, remote: Ledger | None = None, writes: tuple[Write, ...] = ()) -> Delivered:
    """The destination's word that it took what was claimed."""
    key = (claimed.course_id, claimed.destination)
    return Delivered(*key, claimed.revision, claimed.counter, "route", remote, writes, lease=claimed.lease)


def failed(claimed: Claimed, again: datetime, outcome: str = "unavailable", remote: Ledger | None = None) -> Postponed:
    """The word of an attempt that failed, and is made again then."""
    return Postponed(claimed.course_id, claimed.destination, again, outcome, remote, lease=claimed.lease)


async def deliver(
    store: Store,
    destination: str,
    remote: Ledger | None = None,
    *,
    only: str | None = None,
    now: datetime = NOW,
    writes: tuple[Write, ...] = (),
) -> list[Claimed]:
    """Deliver all that is due, or one course's alone; what was delivered."""
    claimed = await store.deliveries.claim(destination, now, 100, LEASE)
    sent = [each for each in claimed if only in {None, each.course_id}]
    await store.deliveries.acknowledge([done(each, remote, writes) for each in sent], now)
    return sent


async def delivery(store: Store, course_id: str, destination: str) -> DeliveryState:
    """How the course stands at the destination."""
    (found,) = [each for each in await store.operators.deliveries(course_id) if each.destination == destination]
    return found
