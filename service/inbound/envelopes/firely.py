"""Firely Server: its resource change events. Source: Firely Server, "PubSub: ResourcesChangedEvent"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inbound.envelopes.document import Event, object_of, text_of
from service.inbound.envelopes.held import changes, changes_of, operation
from service.inbound.records import Reason, Unreadable
from service.inbound.references import Target, resource_id
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from service.inbound.changes import Change
    from service.inbound.envelopes.document import Document


def event(document: Document) -> list[Change | Unreadable] | None:
    """Open `{"changes": [{"reference", "resource", "changeType"}]}`, alone or as MassTransit wraps it.

    The light event holds no resource.
    """
    sent, where = document.content, document.path
    if "messageType" in sent and isinstance(sent.get("message"), dict):
        sent, where = sent["message"], f"{where}message."
    time = parse_time(document.content.get("sentTime"), document.source.time_zone)
    listed = sent.get("changes")
    if not isinstance(listed, list) or not all(isinstance(each, dict) and "changeType" in each for each in listed):
        return None
    if len(listed) > document.limits.entries:
        raise Unreadable(Reason.TOO_MANY_ENTRIES, f"{where}changes")
    found: list[Change | Unreadable] = []
    for index, each in enumerate(listed):
        path = f"{where}changes[{index}]"
        reference = object_of(each.get("reference"))
        resource_type, identity = text_of(reference.get("resourceType")), resource_id(reference.get("resourceId"))
        version = text_of(reference.get("version")) or None
        place = Target(resource_type, identity, version) if resource_type and identity else None
        try:
            happened = Event(operation(each["changeType"], f"{path}.changeType"), place, time)
            found += changes_of(changes(happened, each.get("resource"), document, f"{path}.resource"))
        except Unreadable as problem:
            found.append(problem)
    return found
