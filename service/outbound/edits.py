"""What a clinician made of parts of ours in the EHR: put back once; made again, left as they have it, and told.

A part is an element of ours, or one entry of ours in a list (`owned.part`). An edit is told from the plan's own
progress, and from a server that reshapes what it is given, by short hashes of what was sent. Pure.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

from service.outbound.careplan import WITHDRAWN
from service.outbound.merging import STATUS
from service.outbound.owned import LISTS, MARKED, STATE, VALUES, items, key, part, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.outbound.elements import Element
    from service.outbound.ledger import Remote

_KINDS = frozenset({"CarePlan", "Goal", "Task", "Flag"})
_ALWAYS_OURS = frozenset({"text", "intent", "subject", "for", "focus", "basedOn", "identifier", "extension"})
"""Put back whatever happens: the narrative tells all that was found, these say whose and what a resource is, and no
clinician is shown our extensions."""
_DATED = {"achievementStatus": "statusDate"}
"""Elements that a date belongs to: it is edited, left and put back with them, for neither is true with another's."""
_HASH_BYTES = 6


class Mark(StrEnum):
    """What is known of a part that is not, or was not, as it was sent."""

    PUT_BACK = "put-back"
    """It was edited once, and is ours again."""
    LEFT = "left"
    """It was edited once more: it is a clinician's, until it says what ours says."""
    RESHAPED = "reshaped"
    """The server does not give it back as it was sent: whether it was edited, nobody can tell. Until it does."""


def sent(ours: Element) -> tuple[str, ...]:
    """Return what to remember of a resource that is sent: `part=hash` for each part that can be edited."""
    return tuple(f"{each}={digest}" for each, digest in _hashes(ours).items())


def either(before: tuple[str, ...], ours: Element) -> tuple[str, ...]:
    """Return what to remember while nobody knows which of two is there: what was sent before, or `ours`.

    Empty where nothing is known of what was there before.
    """
    if not before:
        return ()
    now = sent(ours)
    only_in_one = {_part_of(each) for each in before} ^ {_part_of(each) for each in now}
    return tuple(dict.fromkeys((*before, *now, *(f"{each}=" for each in sorted(only_in_one)))))


def remembered(ours: Element, known: Remote | None, marks: Mapping[str, Mark]) -> tuple[str, ...]:
    """Return what to remember of a resource once it is written: of a part that is left, what was sent of it last."""
    before = [each for each in (known.hashes if known else ()) if marks.get(_part_of(each)) is Mark.LEFT]
    named = {_part_of(each) for each in before}
    return (*(each for each in sent(ours) if _part_of(each) not in named), *before)


def judged(ours: Element, remote: Element, known: Remote | None, *, is_our_version: bool) -> dict[str, Mark]:
    """Return the marks of a resource's parts, by part, from what the server holds and what is known of it.

    `is_our_version`: nobody has written since we did, so that what differs is the server's doing. Where it is not known
    what was sent, what differs may be ours: it is put back, and not counted.
    """
    kind = ours["resourceType"]
    if known is None or kind not in _KINDS:
        return {}
    if ours.get(STATUS[kind]) == WITHDRAWN:
        return {each: mark for each, mark in known.marks.items() if mark is Mark.RESHAPED}
    wanted, held, before = _hashes(ours), _hashes(remote), _by_part(known.hashes)
    nothing = {""} if before else set[str]()
    told_apart = not _lacks_ids(remote)
    marks: dict[str, Mark | None] = {}
    for each in _parts(ours, wanted):
        there, name = held.get(each, ""), each.partition("/")[0]
        is_ours = there == wanted.get(each, "") or there in before.get(each, nothing)
        if name in STATE:  # an entry that says how things stand is put back whenever it is missing
            is_ours = is_ours or not there or (name == "activity" and not told_apart)
        mark = known.marks.get(each)
        # Of two that may be there, what the server made of the other was never seen.
        is_sure = mark is not Mark.PUT_BACK or len(before.get(each, nothing)) == 1
        counts = bool(before) and is_sure
        marks[each] = _mark(mark, is_ours=is_ours, is_our_version=is_our_version, counts=counts)
    return {each: mark for each, mark in sorted(marks.items()) if mark is not None}


def settled(ours: Element, again: Element, marks: Mapping[str, Mark], *, is_our_version: bool) -> dict[str, Mark]:
    """Return the marks once it has been seen what the server makes of ours: what still differs is its own doing.

    Where somebody may have written since, nobody can tell, and what differs counts for nothing.
    """
    wanted, held = _hashes(ours), _hashes(again)
    differing = {each for each in _parts(ours, wanted) if held.get(each, "") != wanted.get(each, "")} - kept(marks)
    if is_our_version:
        return dict(sorted({**marks, **dict.fromkeys(differing, Mark.RESHAPED)}.items()))
    return {each: mark for each, mark in marks.items() if mark is not Mark.PUT_BACK or each not in differing}


def is_unseen(ours: Element, known: Remote, marks: Mapping[str, Mark]) -> bool:
    """Return whether a part is put back of which it was never seen what the server makes of it as it is sent."""
    wanted, before = _hashes(ours), _by_part(known.hashes)
    return any(
        known.marks.get(each) is not Mark.PUT_BACK or before.get(each, {""}) != {wanted.get(each, "")}
        for each, mark in marks.items()
        if mark is Mark.PUT_BACK
    )


def once_ours(known: Remote) -> tuple[str, ...]:
    """Return the keys and parts of the list entries that we sent before."""
    return (*known.entries, *map(_part_of, known.hashes))


def kept(marks: Mapping[str, Mark]) -> frozenset[str]:
    """Return the parts that stay as the server has them."""
    left = [each for each, mark in marks.items() if mark is Mark.LEFT]
    return frozenset((*left, *(_DATED[each] for each in left if each in _DATED)))


def edited(kind: str, marks: Mapping[str, Mark]) -> tuple[str, ...]:
    """Return the FHIR paths of the elements in which something is left as a clinician has it, sorted."""
    return tuple(sorted({f"{kind}.{each.partition('/')[0]}" for each, mark in marks.items() if mark is Mark.LEFT}))


def _mark(before: Mark | None, *, is_ours: bool, is_our_version: bool, counts: bool) -> Mark | None:
    if is_ours:
        return before if before is Mark.PUT_BACK else None
    if before in {Mark.LEFT, Mark.RESHAPED} or not counts:
        return before
    if is_our_version:
        return Mark.RESHAPED
    return Mark.LEFT if before is Mark.PUT_BACK else Mark.PUT_BACK


def _parts(ours: Element, wanted: Iterable[str]) -> dict[str, None]:
    """Return the parts that can be edited: every element that is ours, there or not, and each entry that we want."""
    return dict.fromkeys((*_values(ours["resourceType"]), *wanted))


def _values(kind: str) -> Iterable[str]:
    return (name for name in VALUES[kind] if name not in _ALWAYS_OURS and name not in _DATED.values())


def _hashes(resource: Element) -> dict[str, str]:
    """Return the hash of each part that can be edited and is there; entries of others in our lists among them."""
    kind = resource["resourceType"]
    if kind not in _KINDS:
        return {}
    found = {name: _hash(_value(name, resource)) for name in _values(kind) if name in resource}
    for name in LISTS[kind]:
        if name not in _ALWAYS_OURS:
            for entry in items(resource.get(name)):
                found.setdefault(part(name, entry), _hash(_content(name, entry)))
    return found


def _value(name: str, resource: Element) -> object:
    return [resource[name], resource.get(_DATED[name])] if name in _DATED else resource[name]


def _content(name: str, entry: object) -> object:
    return words(name, entry) if name in STATE and isinstance(entry, dict) else key(entry)


def _hash(value: object) -> str:
    return blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=_HASH_BYTES).hexdigest()


def _lacks_ids(remote: Element) -> bool:
    """Whether an activity of ours has lost its id: some clients drop ids when they save. Then none is told apart."""
    return any(
        isinstance(entry, dict) and MARKED["activity"](entry) and not isinstance(entry.get("id"), str)
        for entry in items(remote.get("activity"))
    )


def _part_of(remembered: str) -> str:
    return remembered.partition("=")[0]


def _by_part(hashes: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in hashes:
        name, _, digest = each.partition("=")
        found.setdefault(name, set()).add(digest)
    return found
