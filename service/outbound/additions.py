"""What a server lets be added and never changed: editions of a note, messages, a Provenance of each write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import uuid5
from service.outbound.careplan import WITHDRAWN
from service.outbound.elements import COURSE_IDENTIFIER
from service.outbound.identity import establish, find, token, without_id
from service.rest.client import Conflict, Created
from service.rest.errors import CONFLICT, Transient

if TYPE_CHECKING:
    from service.outbound.elements import Element
    from service.outbound.identity import Place
    from service.outbound.ledger import Remote
    from service.rest.client import Found


async def add(at: Place, ours: Element, known: Remote | None, counter: int) -> Found | Created | None:
    """Return what stands for a resource at a server that lets it be created only; None where that is what is known.

    A note is a further edition that replaces the one before; a message is sent once; a Provenance is added for each
    change. `counter` tells editions apart.
    """
    kind = ours["resourceType"]
    if kind == "DocumentReference":
        return await _edition(at, ours, _seen(known, ours), counter)
    if kind == "Communication":
        return None if _seen(known, ours) is not None else await establish(at, ours)
    recorded = [each for each in await find(at, ours) if _records_the_same(each.resource, ours)]
    if recorded:
        return recorded[0]
    return await at.client.create(without_id(ours), unless=None, request_id=at.request_id)


async def _edition(at: Place, ours: Element, known: Remote | None, counter: int) -> Found | Created:
    """Return the note's edition of this counter: the one that a lost answer left, else another one."""
    of_note = ours["identifier"][0]["value"]
    own = {"system": COURSE_IDENTIFIER, "value": f"{of_note}/{counter}"}
    held = await find(at, ours)
    numbered = [each for each in held if each.resource.get("masterIdentifier") == own]
    for each in numbered:
        if _says_the_same(each.resource, ours):
            return each
    earlier = _latest([each.resource for each in held]) or ([known.id] if known is not None else [])
    edition = without_id(ours) | {"masterIdentifier": own}
    if edition["status"] == WITHDRAWN:
        # It has to be seen in place of the note that it replaces, and says that it was entered in error.
        edition["status"] = "current"
    if earlier:
        edition["relatesTo"] = [
            {"code": "replaces", "target": {"reference": f"DocumentReference/{each}"}} for each in earlier
        ]
    # One of that number that says something else is from a store that is no more: it is replaced, not taken for ours.
    unless = f"identifier={token(own)}" if at.taken.conditional and not numbered else None
    try:
        return await at.client.create(edition, unless=unless, request_id=at.request_id)
    except Conflict:
        message = "The FHIR server holds an edition of the note twice. It is tried again by itself."
        raise Transient(CONFLICT, message) from None


def _seen(known: Remote | None, ours: Element) -> Remote | None:
    """Return what is known of a resource; None where all that is known is that it was meant, under an id of ours."""
    if known is None or known.sure:
        return known
    course_id, _, role = ours["identifier"][0]["value"].partition("/")
    return None if known.id == uuid5(course_id, role) else known


def _latest(notes: list[Element]) -> list[str]:
    """Return the ids of the notes that no other one replaces: one, unless two workers wrote at once."""
    replaced = {
        str(target.get("reference")).rpartition("/")[2]
        for note in notes
        for relation in _list(note.get("relatesTo"))
        if isinstance(relation, dict) and isinstance(target := relation.get("target"), dict)
    }
    return [note["id"] for note in notes if note["id"] not in replaced and note.get("status") == "current"]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _says_the_same(held: Element, ours: Element) -> bool:
    try:
        return bool(held["content"][0]["attachment"]["data"] == ours["content"][0]["attachment"]["data"])
    except (LookupError, TypeError):
        return True  # some servers give a URL in place of the data; then the identifier has to do


def _records_the_same(held: Element, ours: Element) -> bool:
    return all(held.get(name) == ours.get(name) for name in ("recorded", "policy"))
