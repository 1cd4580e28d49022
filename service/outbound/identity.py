"""How a resource under a server's id is known again: by our identifier. Found, created once, duplicates repaired.

A conditional update is never used: of parallel ones several create. A conditional create does not race where a
server offers it; elsewhere what is there is searched before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.outbound.careplan import WITHDRAWN
from service.outbound.elements import COURSE_IDENTIFIER
from service.outbound.merging import STATUS, canonical, merge
from service.outbound.terms import Versions
from service.rest.client import Conflict, Created, Found
from service.rest.errors import Permanent

if TYPE_CHECKING:
    from service.outbound.elements import Element
    from service.outbound.recording import Recording
    from service.outbound.terms import Taken
    from service.rest.errors import Conflicting

NO_ID = "no-id"
"""Code of a create whose answer does not say under which id it is there."""
_OVER = frozenset({WITHDRAWN, "superseded"})
_SUBJECTS = ("subject", "for")
# A patient's resources of one type can be many: what narrows the search to ours, where the server knows it.
_NARROWED = {"DocumentReference": ("type", "type"), "Observation": ("code", "code")}
_SPECIAL = str.maketrans({each: f"\\{each}" for each in "\\|,$"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a resource is written, and how its type is taken there."""

    client: Recording
    taken: Taken
    request_id: str
    troubles: list[Conflicting | Permanent] = field(default_factory=list)
    """Gets what a person has to look at, though all can be written."""


async def establish(at: Place, ours: Element) -> Found | Created:
    """Return the one resource at the server that is ours: Found where it was there, Created where it is made.

    Of several the one is kept that others have written to, else the oldest; the rest is entered in error, unless it
    holds more than ours and than the one that is kept: then it is trouble. Raises Transient and Permanent; after
    either, doing it again finds what was created.
    """
    found = await find(at, ours)
    if not found:
        created = await _created(at, ours)
        if created is not None and not created.existed and at.taken.conditional and created.id is not None:
            return created
        # Another worker may have created one too; or the server told that one was there, or nothing at all.
        found = await find(at, ours)
        if created is not None and created.id is not None:
            others = [each for each in found if each.resource.get("id") != created.id]
            if not others and not created.existed:
                return created
            made = await at.client.read(ours["resourceType"], created.id)
            found = sorted([*others, *([made] if made else [])], key=lambda each: _rank(each, ours))
        if not found:
            message = "The FHIR server does not say under which id it holds what it took. Look at it there."
            raise Permanent(NO_ID, message)
    kept, *others = found
    for each in others:
        await _withdraw(at, each, kept, ours)
    return kept


async def find(at: Place, ours: Element) -> list[Found]:
    """Return what the server holds under the identifier of a resource, what should be kept first.

    Empty, too, where the server can't be searched for it.
    """
    params = query(at.taken, ours)
    if params is None:
        return []
    found = await at.client.search(ours["resourceType"], params)
    return sorted((each for each in found if _is_the_same(each.resource, ours)), key=lambda each: _rank(each, ours))


def query(taken: Taken, ours: Element) -> dict[str, str] | None:
    """Return the search that finds a resource of ours again; None where there is none."""
    kind, known = ours["resourceType"], taken.searched_by
    if kind == "Provenance":  # has no identifier
        return {"target": ours["target"][0]["reference"]} if "target" in known else None
    if "identifier" in known:
        return {"identifier": token(_identifier(ours))}
    patient = next((ours[name]["reference"] for name in _SUBJECTS if name in ours), None)
    if patient is None or known.isdisjoint({"patient", "subject"}):
        return None
    params = {"patient": patient.rpartition("/")[2]} if "patient" in known else {"subject": patient}
    element, name = _NARROWED.get(kind, ("", ""))
    if name in known:
        coding = ours[element]["coding"][0]
        params[name] = f"{coding['system']}|{coding['code']}"
    return params


def token(identifier: Element) -> str:
    """Return an identifier as the value of a search, `system|value`."""
    return f"{identifier['system']}|{identifier['value'].translate(_SPECIAL)}"


def without_id(resource: Element) -> Element:
    """Return a resource as it is created under an id of the server's."""
    return {name: value for name, value in resource.items() if name != "id"}


def _identifier(ours: Element) -> Element:
    found: Element = ours["identifier"][0]
    return found


async def _created(at: Place, ours: Element) -> Created | None:
    """Create a resource; return None where the server found several that it could be."""
    searched = at.taken.conditional and "identifier" in ours
    unless = f"identifier={token(_identifier(ours))}" if searched else None
    try:
        return await at.client.create(without_id(ours), unless=unless, request_id=at.request_id)
    except Conflict:
        return None


def _is_the_same(held: Element, ours: Element) -> bool:
    if ours["resourceType"] == "Provenance":
        meta = held.get("meta")
        tags = meta.get("tag") if isinstance(meta, dict) else None
        codes = [tag.get("code") for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
        return ours["meta"]["tag"][0]["code"] in codes
    identifiers = held.get("identifier")
    value = _identifier(ours)["value"]
    return isinstance(identifiers, list) and any(
        isinstance(each, dict) and (each.get("system"), each.get("value")) == (COURSE_IDENTIFIER, value)
        for each in identifiers
    )


def _rank(found: Found, ours: Element) -> tuple[bool, bool, str, str]:
    held = found.resource
    meta = held.get("meta")
    updated = str(meta.get("lastUpdated")) if isinstance(meta, dict) else ""
    over = held.get(STATUS.get(held["resourceType"], "status")) in _OVER
    return over, not _holds_more(found, ours), updated, str(held.get("id"))


def _holds_more(found: Found, ours: Element) -> bool:
    held = found.resource
    return merge(ours | {"id": held.get("id")}, held, sent=(), asked=None).foreign


def _with_theirs(found: Found, ours: Element) -> bytes:
    return canonical(without_id(merge(ours, found.resource, sent=(), asked=None).resource))


async def _withdraw(at: Place, found: Found, kept: Found, ours: Element) -> None:
    """Take a duplicate of ours back, unless somebody has added to it what the one that is kept does not have."""
    held, kind = found.resource, ours["resourceType"]
    status = STATUS.get(kind)
    if status is not None and held.get(status) in _OVER:
        return
    # What a server puts into each, an author for example, is in both.
    if _holds_more(found, ours) and _with_theirs(found, ours) != _with_theirs(kept, ours):
        message = (
            f"The FHIR server holds a {kind} of this plan more than once, and others have added to each. Keep one of "
            "them there, then retry."
        )
        at.troubles.append(Permanent("duplicate", message))
        return
    try:
        if status is not None and at.taken.update:
            version = None if at.taken.versions is Versions.NONE else found.version
            await at.client.put({**held, status: WITHDRAWN}, if_match=version, request_id=at.request_id)
        elif at.taken.delete:
            await at.client.delete(kind, held["id"], request_id=at.request_id)
    except Conflict:
        return  # another worker repairs it, or somebody has begun to use it
