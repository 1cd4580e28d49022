"""What a recogniser is given, and what it gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from service.inbound.changes import Change, Operation
    from service.inbound.records import Limits, Record, SourceContext, Unreadable
    from service.inbound.references import Target


class Document(NamedTuple):
    """A JSON object: a record's value, or one of several in it."""

    content: Mapping[str, Any]
    record: Record
    source: SourceContext
    limits: Limits
    headers: Mapping[str, str]
    """The record's, by name in lower case; those that are text."""
    path: str = ""
    """Where the object stands in its record, with a dot behind it: `[3].`."""


class Notice(NamedTuple):
    """What a notification says of its subscription."""

    subscription: str
    """Reference as written."""
    kind: str
    """FHIR's code: handshake, heartbeat, event-notification, query-status, query-event."""
    status: str
    """FHIR's code: requested, active, error, off, entered-in-error."""
    form: str
    """Whose form of a notification it is: R5, R4B backport, R4 backport, Aidbox."""
    numbers: tuple[int, ...] = ()
    """Of the events in it, as their sender counts them."""
    total: int | None = None
    """Of all events since the subscription began, as its sender says."""
    happened: datetime | None = None
    """When the first of its events happened, as its sender says."""
    contexts: tuple[str, ...] = ()
    """References to what its events are to be seen with, sorted."""


class Opened(NamedTuple):
    """What a record says happened, in its order. A tuple, since one is made of every record."""

    dialect: str
    """Name of the dialect; empty where none knows the record."""
    changes: Sequence[Change | Unreadable]
    notices: tuple[Notice, ...] = ()


Found: TypeAlias = "Sequence[Change | Unreadable] | Opened"
"""What a recogniser gives back: the changes, or all of it where a notification says more."""


class Event(NamedTuple):
    """What an envelope says happened, before what it holds is looked at."""

    operation: Operation
    place: Target | None
    """The resource that it names."""
    time: datetime | None = None
    version_id: str | None = None


def text_of(value: object) -> str:
    """Return a string, trimmed, or "" for anything else."""
    return value.strip() if isinstance(value, str) else ""


def object_of(value: object) -> Mapping[str, Any]:
    """Return an object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}
