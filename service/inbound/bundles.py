"""Bundles: every entry on its own, so that one bad entry never harms another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.inbound.changes import Change, Operation
from service.inbound.records import Limits, Reason, SourceContext, Unreadable
from service.inbound.references import Target, named, resource_id
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

NOTIFICATION_STATUSES = frozenset({"SubscriptionStatus", "AidboxSubscriptionStatus", "Parameters"})
"""Resource types that, first in a Bundle, make it a subscription notification."""

_OPERATIONS = {"POST": Operation.CREATE, "DELETE": Operation.DELETE}
_NO_CHANGE = frozenset({"GET", "HEAD"})
_FAILURES = frozenset({"4", "5"})
"""First digits of the HTTP statuses with which a server refuses an entry."""


def is_notification(bundle: Mapping[str, Any]) -> bool:
    """Return whether a Bundle is a subscription notification, in R5's, R4B's or R4's form."""
    if bundle.get("type") == "subscription-notification":
        return True
    entries = bundle.get("entry")
    if bundle.get("type") != "history" or not isinstance(entries, list) or not entries:
        return False
    first = _object(entries[0])
    if _object(first.get("request")).get("method") == "PATCH":
        return False
    return _text(_object(first.get("resource")).get("resourceType")) in NOTIFICATION_STATUSES


def open_bundle(
    bundle: Mapping[str, Any], source: SourceContext, limits: Limits, path: str = "Bundle"
) -> Iterator[Change | Unreadable]:
    """Yield what each entry of a Bundle says happened, Bundles within it opened too.

    Raises Unreadable if the Bundle as a whole can't be opened: wrong-type, too-many-entries.
    """
    entries = bundle.get("entry") or []
    if not isinstance(entries, list):
        raise Unreadable(Reason.WRONG_TYPE, f"{path}.entry")
    if len(entries) > limits.entries:
        raise Unreadable(Reason.TOO_MANY_ENTRIES, f"{path}.entry")
    assembled = parse_time(bundle.get("timestamp") or _object(bundle.get("meta")).get("lastUpdated"), source.time_zone)
    local = _local(entries)
    undone = _undone(entries) if bundle.get("type") == "history" else ()
    for index, entry in enumerate(entries):
        if index in undone:
            continue
        where = f"{path}.entry[{index}]"
        if not isinstance(entry, dict):
            yield Unreadable(Reason.WRONG_TYPE, where)
            continue
        inner = entry.get("resource")
        if isinstance(inner, dict) and inner.get("resourceType") == "Bundle":
            try:
                yield from open_bundle(inner, source, limits, f"{where}.resource")
            except Unreadable as problem:
                yield problem
            continue
        change = open_entry(entry, where, source, assembled, local)
        if change is not None:
            yield change


def _undone(entries: list[Any]) -> frozenset[int]:
    """Return the places of a history's deletes that give no time, and that a later version of the resource undid.

    The time of the Bundle would make them the newest word on it. A history has the newest first; where both entries
    tell their version, that decides.
    """
    later: dict[tuple[str, str], int] = {}
    found = []
    for index, entry in enumerate(entries):
        whole = _object(entry)
        request, response = _object(whole.get("request")), _object(whole.get("response"))
        place = _place(whole, request, response, None)
        if place is None:
            continue
        key = place.resource_type, place.resource_id
        version = _number(_version(response.get("etag")) or place.version_id)
        if request.get("method") != "DELETE":
            later[key] = max(version, later.get(key, version))
        elif not response.get("lastModified"):
            found.append((index, key, version, key in later))
    return frozenset(
        index
        for index, key, version, follows in found
        if (later.get(key, 0) > version if version and later.get(key) else follows)
    )


def _number(version: str | None) -> int:
    return int(version) if version is not None and version.isdecimal() else 0


def open_entry(
    entry: Mapping[str, Any],
    path: str,
    source: SourceContext,
    assembled: datetime | None = None,
    local: Mapping[str, str] | None = None,
) -> Change | Unreadable | None:
    """Return what one entry says happened; None if it asks (GET), or its server refused it: nothing happened.

    `path` is the entry's own; `assembled` stands in where the entry gives no time.
    """
    request, response = _object(entry.get("request")), _object(entry.get("response"))
    method = _text(request.get("method"))
    failed = _text(response.get("status"))[:1] in _FAILURES and "resource" not in entry
    if method in _NO_CHANGE or failed:
        return None
    operation = _OPERATIONS.get(method, Operation.UPDATE)
    resource = entry.get("resource") if operation is not Operation.DELETE and method != "PATCH" else None
    path = f"{path}.resource"
    if resource is not None and not isinstance(resource, dict):
        return Unreadable(Reason.WRONG_TYPE, path)
    if resource is not None and not isinstance(resource.get("resourceType"), str):
        return Unreadable(Reason.NOT_FHIR, path)
    place = _place(entry, request, response, None if resource is None else resource["resourceType"])
    if place is None and resource is None:
        return Unreadable(Reason.NO_ID, path)
    identity = resource_id(resource.get("id")) if resource is not None else ""
    return Change(
        resource_type=resource["resourceType"] if resource is not None else place.resource_type if place else "",
        resource_id=identity or (place.resource_id if place else ""),
        operation=operation,
        resource=resource,
        path=path,
        version_id=_version(response.get("etag")) or (place.version_id if place else None),
        last_updated=parse_time(response.get("lastModified"), source.time_zone) or assembled,
        local=local or {},
    )


def _place(
    entry: Mapping[str, Any], request: Mapping[str, Any], response: Mapping[str, Any], resource_type: str | None
) -> Target | None:
    """Return what the first URL of the entry that names a resource of this type names."""
    for url in (response.get("location"), request.get("url"), entry.get("fullUrl")):
        found = named(url)
        if found is not None and resource_type in {None, found.resource_type}:
            return found
    return None


def _version(etag: object) -> str | None:
    return etag.strip().removeprefix("W/").strip('"') if isinstance(etag, str) else None


def _local(entries: list[Any]) -> dict[str, str]:
    local = {}
    for entry in entries:
        full_url, resource = _object(entry).get("fullUrl"), _object(_object(entry).get("resource"))
        if isinstance(full_url, str) and full_url.startswith("urn:"):
            identity = resource_id(resource.get("id"))
            if identity and isinstance(resource.get("resourceType"), str):
                local[full_url] = f"{resource['resourceType']}/{identity}"
    return local


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
