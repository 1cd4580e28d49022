"""What a clinician did to a resource of a plan at a FHIR server, as a fact of the course that the plan is of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

from service.domain.evidence import GOAL_ROLE, PLAN_ROLE
from service.domain.facts import UNVERSIONED, ActReading, Fact, FactKey, OrderKey

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.outbound.elements import Element

_LONGEST_VERSION = 18
"""Digits that fit the database's 64-bit integers."""
_MICROSECOND = 1_000_000
"""A second has so many microseconds."""


@dataclass(frozen=True, slots=True)
class Act:
    """What a clinician set or changed, as the version says that was read before anything of ours was put there."""

    kind: str
    """FHIR's resource type."""
    id: str
    """At the server."""
    role: str
    status: str
    """Empty where the status is the plan's own again, and where it is edits that are told."""
    version: str
    """Empty where the server names none."""
    updated: str
    """`meta.lastUpdated`; empty where the server does not say."""
    edited: tuple[str, ...] | None = None
    """FHIR paths of the elements in which something of ours is left as they have it, sorted; None: it tells the
    status."""
    counter: int = 0
    """Place in the course's history of the revision at whose delivery it was seen."""

    @property
    def about(self) -> tuple[str, bool]:
        """What it is told of: a role, and whether of edits. Each is told by itself, as of when it came to be so."""
        return self.role, self.edited is not None


def is_told(role: str) -> bool:
    """Return whether the status of this resource is told: of Tasks, `completed.py` tells."""
    return role == PLAN_ROLE or role.startswith(f"{GOAL_ROLE}/")


def act_of(role: str, resource: Element, status: str, edited: tuple[str, ...] | None = None, counter: int = 0) -> Act:
    """Return an act, with what the resource, as it was read, says of its version: no note, no name, no content."""
    meta = resource.get("meta")
    said = meta if isinstance(meta, dict) else {}
    version, updated = said.get("versionId"), said.get("lastUpdated")
    return Act(
        resource["resourceType"],
        resource["id"],
        role,
        status,
        version if isinstance(version, str) else "",
        updated if isinstance(updated, str) else "",
        edited,
        counter,
    )


def fact_of(act: Act, course: Course, destination: str, seen: datetime) -> Fact:
    """Return an act as a fact of a course's patient; `seen` stands in for the time that a server does not give.

    The destination stands before the resource's id, so that it never passes for one of the source's own. Of what one
    version is said to hold, what a later revision's delivery saw is the newer: our wish may have come to equal theirs.
    """
    at = _instant(act.updated) or seen
    reading = ActReading(act.status, course.id, act.role, destination, at, act.version, act.edited or ())
    told = (course.patient_id, act.status, course.id, act.role, destination, at, act.version, act.edited)
    is_number = act.version.isascii() and act.version.isdigit() and len(act.version) <= _LONGEST_VERSION
    order = OrderKey(
        round(at.timestamp() * _MICROSECOND),
        int(act.version) if is_number else UNVERSIONED,
        deleted=False,
        digest=f"{act.counter:010}-{blake2b(orjson.dumps(told), digest_size=16).hexdigest()}",
    )
    # Its status is another fact of the same resource, and has its id; of a Task, that it was completed.
    apart = "" if act.edited is None else "edited."
    key = FactKey(course.source, act.kind, f"{destination}.{apart}{act.id}")
    return Fact(key, order, course.patient_id, reading)


def _instant(written: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
