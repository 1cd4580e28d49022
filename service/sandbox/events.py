"""Events of a synthetic EHR: new versions of resources, in the order in which they are written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson

CLINIC = ZoneInfo("America/New_York")
"""Time zone of the synthetic clinic."""

Resource = dict[str, Any]
"""A FHIR R4 resource as JSON."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record that the synthetic EHR sends."""

    kind: str
    """Which stream it belongs to: `Encounter` or `QuestionnaireResponse`."""
    key: str
    """Key of the record: the resource's relative reference, `Encounter/P-0007-e3`."""
    resource: Resource | None = field(repr=False)
    """None for a tombstone, or where `broken` stands in its place."""
    time: datetime
    """When it was written; a record's timestamp, for a tombstone has no other time."""
    broken: bytes | None = field(default=None, repr=False)
    """What is sent instead of a resource that can be read."""

    @property
    def value(self) -> bytes | None:
        """Value of the record; None is a tombstone."""
        if self.broken is not None:
            return self.broken
        return None if self.resource is None else orjson.dumps(self.resource)


@dataclass(slots=True)
class Chart:
    """What the synthetic EHR writes of one patient, version by version."""

    events: list[Event] = field(default_factory=list)
    labels: tuple[Resource, ...] = ()
    """Codings of the security labels that every resource carries."""
    _versions: Counter[str] = field(default_factory=Counter)

    def write(self, resource: Resource, at: datetime, *, kind: str | None = None) -> None:
        """Add the next version of a resource, with its version and time in `meta`."""
        key = f"{resource['resourceType']}/{resource['id']}"
        self._versions[key] += 1
        meta: Resource = {"versionId": str(self._versions[key]), "lastUpdated": instant(at)}
        if self.labels:
            meta["security"] = list(self.labels)
        stamped = {"resourceType": resource["resourceType"], "id": resource["id"], "meta": meta}
        self.events.append(Event(kind or resource["resourceType"], key, stamped | resource, at))

    def delete(self, resource_type: str, resource_id: str, at: datetime) -> None:
        """Add the tombstone of a resource."""
        self.events.append(Event(resource_type, f"{resource_type}/{resource_id}", None, at))


def at_clinic(day: date, clock: time, minutes: float = 0) -> datetime:
    """Return the instant at which the clinic's clock shows a time, or so many minutes after it."""
    return datetime.combine(day, clock, CLINIC) + timedelta(minutes=minutes)


def instant(moment: datetime) -> str:
    """Return a moment as a FHIR instant in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(moment: datetime) -> str:
    """Return a moment as a FHIR dateTime in the clinic's own offset, to the second."""
    return moment.isoformat(timespec="seconds")
