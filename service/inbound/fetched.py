"""What an EHR answers about a change that only named its resource, or its patient: from bytes to the change it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec.structs import replace

from service.inbound.changes import Change, Operation
from service.inbound.documents import parse
from service.inbound.envelopes import open_record
from service.inbound.patients import is_replaced
from service.inbound.reading import RecordReading, read_change
from service.inbound.records import Reason, Unreadable
from service.inbound.references import resource_id
from service.inbound.repeats import without_repeats

if TYPE_CHECKING:
    from datetime import datetime

    from service.domain.facts import FactKey
    from service.inbound.records import Limits, Record, SourceContext
    from service.inbound.relevance import Relevance

MOST_FOUND = 20
"""Patients to ask for: one, and those who were merged into that one; so many or more are too many to tell."""


def path_of(key: FactKey) -> str | None:
    """Return the path of a resource below a FHIR base; None for an id that can be no part of one."""
    if not key.resource_id.strip("."):
        return None  # a step up the path: whatever else answers there
    return f"{key.resource_type}/{quote(key.resource_id, safe='')}"


def fetched(
    key: FactKey, body: bytes, version: str | None, last_updated: datetime, limits: Limits
) -> Change | Unreadable:
    """Return what a server's answer to a read says happened.

    Version and time are those of the change that named the resource; they stand in where the resource has none.
    """
    change = Change(*key[1:], Operation.UPDATE, None, key.resource_type, version, last_updated)
    try:
        resource = parse(body, limits)
    except Unreadable as problem:
        return problem
    if not isinstance(resource, dict):
        return Unreadable(Reason.FETCHED_OTHER)
    if (resource.get("resourceType"), resource_id(resource.get("id"))) != key[1:]:
        return Unreadable(Reason.FETCHED_OTHER, key.resource_type)
    (told,) = without_repeats([replace(change, resource=resource)], body, limits)
    return told


def absent(key: FactKey, version: str | None, last_updated: datetime, *, is_said: bool) -> Change:
    """Return what it says that a server has no such resource; `is_said`: it says that it had one (410).

    Version and time are those of the change that named the resource.
    """
    operation = Operation.DELETE if is_said else Operation.MISSING
    return Change(*key[1:], operation, None, key.resource_type, version, last_updated)


def kept(record: Record, place: int, source: SourceContext, limits: Limits) -> Change | Unreadable:
    """Return the change at a place of a record that was kept."""
    changes = open_record(record, source, limits).changes
    return changes[place] if place < len(changes) else Unreadable(Reason.UNKNOWN_ENVELOPE)


def looked_at(
    change: Change, record_time: datetime, source: SourceContext, relevance: Relevance, limits: Limits
) -> RecordReading:
    """Return what a change amounts to as it is; in `subjects`, the search that its patient needs first."""
    reading = RecordReading()
    read_change(change, 0, record_time, source, relevance, limits, reading)
    return reading


def search_of(token: str) -> dict[str, str]:
    """Return the parameters of the search for the patients with an identifier."""
    return {"identifier": token, "_elements": "id,link", "_count": str(MOST_FOUND)}


def about(change: Change, body: bytes, limits: Limits) -> Change | Unreadable:
    """Return a change as one about the only patient that a search has found; who was merged into that one is left out.

    Unreadable: subject-not-found, subject-ambiguous, fetched-other.
    """
    name = "for" if change.resource_type == "Task" else "subject"
    try:
        found, is_whole = _patients(parse(body, limits))
    except Unreadable as problem:
        return problem
    if len(found) != 1 or not is_whole:
        reason = Reason.SUBJECT_AMBIGUOUS if found or not is_whole else Reason.SUBJECT_NOT_FOUND
        return Unreadable(reason, f"{change.path}.{name}")
    patient = {"reference": f"Patient/{found.pop()}"}
    return replace(change, resource={**(change.resource or {}), name: patient})


def _patients(bundle: Any) -> tuple[set[str], bool]:  # noqa: ANN401 - JSON of any shape
    """Return the ids of the patients in a searchset, and whether there are no more than these.

    Its outcomes and included resources are left out, and those who were replaced where anybody is left then.
    """
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise Unreadable(Reason.FETCHED_OTHER)
    entries = bundle.get("entry")
    found: dict[str, bool] = {}
    for entry in entries if isinstance(entries, list) else []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == "Patient":
            found[resource_id(resource.get("id"))] = is_replaced(resource)
    found.pop("", None)
    current = {each for each, replaced in found.items() if not replaced}
    links = bundle.get("link")
    pages = [each.get("relation") for each in links if isinstance(each, dict)] if isinstance(links, list) else []
    return current or set(found), len(found) < MOST_FOUND and "next" not in pages
