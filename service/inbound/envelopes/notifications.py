"""FHIR Subscription notifications: R5's own, and the backports to R4B and to R4.

Sources: FHIR R5, SubscriptionStatus; HL7 Subscriptions R5 Backport 1.1, "Notifications".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from service.inbound.bundles import is_notification, open_bundle
from service.inbound.changes import Change, Operation
from service.inbound.envelopes.document import Notice, Opened, object_of, text_of
from service.inbound.records import Reason, Unreadable
from service.inbound.references import target
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from service.inbound.envelopes.document import Document
    from service.inbound.records import SourceContext

_EVENTS = frozenset({"event-notification", "query-event"})
_NO_EVENT = frozenset({"handshake", "heartbeat", "query-status"})
_R5 = "subscription-notification"
_FORMS = {"Parameters": "R4 backport", "AidboxSubscriptionStatus": "Aidbox"}
_TYPED_TOPIC = re.compile(r".*[/#|]([A-Z][A-Za-z]+)[.-][A-Za-z-]+")
"""A topic that names a resource type and an event, as `…/SubscriptionTopic/Appointment.create`."""
_DIGITS = 18


def notification(document: Document) -> Opened | None:
    """Open a Bundle whose first entry says what happened, and whose others hold or name what it happened to."""
    content = document.content
    if content.get("resourceType") != "Bundle" or not is_notification(content):
        return None
    path = f"{document.path}Bundle"
    entries = content.get("entry")
    first = entries[0] if isinstance(entries, list) and entries else None
    status_path = f"{path}.entry[0].resource"
    written = object_of(object_of(first).get("resource"))
    status = _from_parameters(written) if written.get("resourceType") == "Parameters" else written
    kind = text_of(status.get("type"))
    if kind not in _EVENTS | _NO_EVENT:
        raise Unreadable(Reason.UNKNOWN_ENVELOPE, f"{status_path}.type")
    events = status.get("notificationEvent")
    events = [each for each in events if isinstance(each, dict)] if isinstance(events, list) else []
    notice = Notice(
        subscription=text_of(object_of(status.get("subscription")).get("reference")),
        kind=kind,
        status=text_of(status.get("status")),
        form=_FORMS.get(text_of(written.get("resourceType")), "R5" if content.get("type") == _R5 else "R4B backport"),
        numbers=tuple(number for event in events if (number := _number(event.get("eventNumber"))) is not None),
        happened=_happened(events, document.source),
        total=_number(status.get("eventsSinceSubscriptionStart", status.get("events-since-subscription-start"))),
        contexts=tuple(sorted(_contexts(events))),
    )
    if kind in _NO_EVENT:
        return Opened("", [], (notice,))
    found = list(_changes(document, status, events, path))
    return Opened("", found, (notice,))


def _changes(
    document: Document, status: Mapping[str, Any], events: Sequence[Mapping[str, Any]], path: str
) -> Iterator[Change | Unreadable]:
    """Yield what the entries hold, then what is in focus and in no entry."""
    foci = {named.relative for event in events if (named := target(event.get("focus"), {})) is not None}
    only_context = _contexts(events) - foci
    told: set[str] = set()
    for change in open_bundle(document.content, document.source, document.limits, path):
        if isinstance(change, Unreadable):
            # The entry of an event may name nothing: then its focus does.
            if change.reason is not Reason.NO_ID or not events:
                yield change
            continue
        if change.path == f"{path}.entry[0].resource":
            continue
        name = f"{change.resource_type}/{change.resource_id}"
        told.add(name)
        if change.resource is not None or change.operation is Operation.DELETE or name not in only_context:
            # Else it is named only as what an event is to be seen with: nothing happened to it.
            yield change
    if not events and not told:
        yield Unreadable(Reason.NO_FOCUS, f"{path}.entry[0].resource.notificationEvent")
    for index, event in enumerate(events):
        change = _in_focus(event, status, document, f"{path}.entry[0].resource.notificationEvent[{index}]")
        if not _is_told(change, told):
            yield change


def _is_told(change: Change | Unreadable, told: set[str]) -> bool:
    """Return whether the entries have told what a focus says: its resource, or any where it is left out."""
    if isinstance(change, Unreadable):
        return change.reason is Reason.NO_FOCUS and bool(told)
    return f"{change.resource_type}/{change.resource_id}" in told


def _contexts(events: Sequence[Mapping[str, Any]]) -> set[str]:
    listed = [each for event in events for each in _listed(event.get("additionalContext"))]
    return {named.relative for each in listed if (named := target(each, {})) is not None}


def _in_focus(
    event: Mapping[str, Any], status: Mapping[str, Any], document: Document, path: str
) -> Change | Unreadable:
    """Return what happened to the focus of an event: named, and not held."""
    if not event.get("focus"):
        return Unreadable(Reason.NO_FOCUS, path)
    named = target(event["focus"], {})
    if named is not None:
        when = parse_time(event.get("timestamp") or document.content.get("timestamp"), document.source.time_zone)
        return Change(
            named.resource_type, named.resource_id, Operation.UPDATE, None, f"{path}.focus", named.version_id, when
        )
    resource_type = _focus_type(event["focus"], status)
    if not resource_type:  # it may be ours, and is not to be passed over
        return Unreadable(Reason.NO_ID, f"{path}.focus")
    return Change(resource_type, "", Operation.UPDATE, None, f"{path}.focus")


def _focus_type(focus: object, status: Mapping[str, Any]) -> str:
    """Return the resource type of a focus without id, by the focus or by the topic; "" if neither tells."""
    if typed := text_of(object_of(focus).get("type")):
        return typed
    topic = _TYPED_TOPIC.fullmatch(text_of(status.get("topic")).split("|", 1)[0])
    return "" if topic is None else topic[1]


def _happened(events: Sequence[Mapping[str, Any]], source: SourceContext) -> datetime | None:
    times = (parse_time(event.get("timestamp"), source.time_zone) for event in events)
    return min((time for time in times if time is not None), default=None)


def _number(written: object) -> int | None:
    """Return a count, which R5 writes as a string and R4 as a number."""
    text = str(written).strip() if isinstance(written, str | int) and not isinstance(written, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def _from_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a SubscriptionStatus with what R4's Parameters say."""
    status: dict[str, Any] = {"notificationEvent": []}
    for name, value in _named(parameters.get("parameter")):
        if name == "notification-event":
            event: dict[str, Any] = {"additionalContext": []}
            for part, inner in _named(value):
                if part == "additional-context":
                    event["additionalContext"].append(inner)
                elif part == "event-number":
                    event["eventNumber"] = inner
                else:
                    event[part] = inner
            status["notificationEvent"].append(event)
        else:
            status[name] = value
    return status


def _named(parameters: object) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each parameter; its parts, where it has some."""
    for each in _listed(parameters):
        value = each.get("part")
        if value is None:
            value = next((inner for name, inner in each.items() if name.startswith(("value", "resource"))), None)
        yield text_of(each.get("name")), value


def _listed(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
