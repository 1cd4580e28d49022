"""What a Task of one of our plans says: whether a clinician has dealt with the finding that it asks about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.domain.facts import TaskReading
from service.domain.forms import COURSES
from service.inbound.codings import read_with_labels
from service.inbound.elements import many, one, text
from service.inbound.records import Reason, Unreadable
from service.inbound.references import target
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from service.domain.facts import Code
    from service.inbound.elements import Element

STATUSES = frozenset(
    {
        "draft",
        "requested",
        "received",
        "accepted",
        "rejected",
        "ready",
        "cancelled",
        "in-progress",
        "on-hold",
        "failed",
        "completed",
        "entered-in-error",
    }
)
"""Source: value set task-status of R4 and of R5."""


def is_ours(task: Element) -> bool:
    """Return whether a Task is of one of our plans: by the system of a business identifier. On raw JSON."""
    identifiers = task.get("identifier")
    return isinstance(identifiers, list) and any(
        isinstance(each, dict) and isinstance(system := each.get("system"), str) and system.strip() == COURSES
        for each in identifiers
    )


def read_task(
    resource: Mapping[str, Any], local: Mapping[str, str], zone: ZoneInfo, path: str
) -> tuple[TaskReading, tuple[Code, ...]]:
    """Return the reading of a Task and its security labels.

    Raises Unreadable: wrong-type, bad-status, bad-time.
    """
    reading, labels = read_with_labels(_reading, resource, local, zone, path)
    if reading.status not in STATUSES:
        raise Unreadable(Reason.BAD_STATUS, f"{path}.status")
    if reading.modified is None and resource.get("lastModified"):
        raise Unreadable(Reason.BAD_TIME, f"{path}.lastModified")
    return reading, labels


def _reading(task: Element, local: Mapping[str, str], zone: ZoneInfo) -> TaskReading:
    ours = (text(each, "value") for each in many(task, "identifier") if text(each, "system") == COURSES)
    owner = target(one(task, "owner"), local)
    return TaskReading(
        status=text(task, "status"),
        identifier=next(ours, ""),
        modified=parse_time(task.get("lastModified"), zone),
        owner=owner.relative if owner else None,
    )
