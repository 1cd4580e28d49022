"""How a resource of ours and what a clinician made of it in the EHR become one. Raw JSON, never a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from service.outbound.careplan import WITHDRAWN_TEXT
from service.outbound.elements import every_reference
from service.outbound.owned import (
    LISTS,
    MARKED,
    STATE,
    VALUES,
    entries,
    is_our_note,
    items,
    key,
    part,
    with_words,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.outbound.elements import Element

STATUS = {
    "CarePlan": "status",
    "Goal": "lifecycleStatus",
    "Task": "status",
    "Flag": "status",
    "Communication": "status",
    "DocumentReference": "status",
    "Observation": "status",
}
"""The element that says whether a resource still stands, by type; a Provenance has none."""
RETIRED = {
    "CarePlan": "revoked",  # a note has taken its place; FHIR has no status for that
    "Goal": "cancelled",
    "Task": "cancelled",
    "Flag": "inactive",
    "DocumentReference": "superseded",
    "Observation": "entered-in-error",  # its response was withdrawn, or says something else
}
"""Status of a resource that the plan no longer has: it was meant, and is no longer."""

_SAYING = {"Goal": "description", "Task": "code", "Flag": "code"}
"""The element that has to say something, of resources that tell what was found."""
_NAMING = ("resourceType", "id", "identifier", "category", "basedOn", "intent", "focus", "for", "subject", "startDate")
"""Elements that name a resource, and nothing that was found."""

_META_LISTS = ("profile", "security", "tag")
_LABELS = ("security", "tag")
_SERVERS_OWN = ("versionId", "lastUpdated")

_ENTERED_IN_ERROR = "entered-in-error"
_FINAL = frozenset({"completed", "revoked", "cancelled", "rejected", "failed", "superseded", _ENTERED_IN_ERROR})
_PAUSED = "on-hold"
# Statuses by which somebody has taken up a Task that we ask for, or has ended a Flag that we hold active.
_TAKEN_UP = {
    ("Task", "requested"): frozenset({"received", "accepted", "ready", "in-progress"}),
    ("Flag", "active"): frozenset({"inactive"}),
}


@dataclass(frozen=True, slots=True)
class Merged:
    """One resource out of two."""

    resource: Element
    foreign: bool
    """Whether it holds anything that is not ours."""
    respected: str | None
    """The status that a clinician set and that stays."""
    theirs: str
    """The status that a clinician set, though ours may be the same since; empty if it is ours."""
    tells_more: bool
    """Whether the server has yet to be told it: content, labels, tags or source that it does not hold."""


def merge(  # noqa: PLR0913 - the last four are what is remembered, each by its name
    ours: Element,
    remote: Element,
    *,
    sent: Collection[str],
    asked: str | None,
    theirs: str = "",
    kept: Collection[str] = (),
) -> Merged:
    """Return what the server should hold: our elements as they are, everything else as it stands there.

    `sent` are the keys or parts of the list entries that we sent before, `asked` the status that we asked for
    before; None if nothing is known of it. `theirs` is the status that a clinician had set by then: it stays theirs
    when ours became the same. `kept` are parts of ours (`edits.py`) that stay as they stand there, but for what
    `owned.STATE` names.
    """
    kind = ours["resourceType"]
    resource = dict(remote)
    for name in VALUES[kind]:
        if name in kept:
            continue
        if name in ours:
            resource[name] = ours[name]
        else:
            resource.pop(name, None)
    # What the plan names of ours within it is ours, whatever its id: some servers number what is contained anew.
    within = [each for each in items(remote.get("contained")) if isinstance(each, dict) and MARKED["contained"](each)]
    mine = {*sent, *entries(ours), *(f"goal:#{each.get('id')}" for each in within)}
    lists = {name: _combined(name, ours.get(name, []), items(remote.get(name)), mine, kept) for name in LISTS[kind]}
    if "contained" in lists:
        withdrawn = ours["status"] == _ENTERED_IN_ERROR
        lists["contained"] = _referred_to(resource | lists, within, withdrawn=withdrawn)
    for name, combined in lists.items():
        if combined:
            resource[name] = combined
        else:
            resource.pop(name, None)
    resource["meta"] = _meta(ours["meta"], remote.get("meta"))
    respected, wanted, there = None, None, None
    if (status_element := STATUS.get(kind)) is not None:
        wanted, there = ours[status_element], remote.get(status_element)
        # That we came to ask for the same as they had set before is no reason to think that we may take it back.
        before = None if there == theirs else asked
        resource[status_element], respected = _status(kind, wanted, there, before)
    tells_more = canonical(resource) != canonical(remote) or not _says(remote.get("meta"), ours["meta"])
    # Where all is as ours but in the ledger, an answer was lost: then it was us.
    is_theirs = there == wanted and (there == theirs or (asked not in {None, there} and tells_more))
    set_by_them = respected or (str(there) if there is not None and is_theirs else "")
    # What a clinician ended is read again before each update, even where all of it is as ours.
    foreign = canonical(resource) != canonical(ours) or bool(set_by_them)
    return Merged(resource, foreign, respected, set_by_them, tells_more)


def retired(remote: Element, status: str, sent: Collection[str] = ()) -> Element | None:
    """Return a resource that the plan no longer has, with its new status; None if it is at an end already.

    Entered in error, a Goal, Task or Flag says nothing of what we told in it; what a clinician added stays. `sent` as
    for `merge`.
    """
    element = STATUS[remote["resourceType"]]
    if status == _ENTERED_IN_ERROR:
        resource = _blank(remote, sent)
    elif remote.get(element) in _FINAL:
        return None
    else:
        resource = {**remote, "meta": _meta({}, remote.get("meta"))}
    resource[element] = status
    return None if canonical(resource) == canonical(remote) else resource


def _blank(remote: Element, sent: Collection[str]) -> Element:
    kind = remote["resourceType"]
    if kind not in _SAYING:
        return {**remote, "meta": _meta({}, remote.get("meta"))}
    kept = {name: remote[name] for name in _NAMING if name in remote}
    blank = kept | {"meta": {}, "text": WITHDRAWN_TEXT, _SAYING[kind]: {"text": "Entered in error"}}
    return merge(blank | {STATUS[kind]: _ENTERED_IN_ERROR}, remote, sent=sent, asked=None).resource


def canonical(resource: Element) -> bytes:
    """Return a resource's content without its meta, so that equal content gives equal bytes."""
    content = {name: value for name, value in resource.items() if name != "meta"}
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def _status(kind: str, wanted: str, remote: object, asked: str | None) -> tuple[str, str | None]:
    """Return the status that the resource should have, and it again if it is a clinician's that stays."""
    if not isinstance(remote, str) or remote in {wanted, asked} or wanted == _ENTERED_IN_ERROR:
        return wanted, None
    if remote in _FINAL or remote in _TAKEN_UP.get((kind, wanted), ()):
        return remote, remote
    if remote == _PAUSED and wanted not in _FINAL:
        return remote, remote
    return wanted, None


def _combined(
    name: str, ours: list[Element], remote: list[Any], mine: Collection[str], kept: Collection[str]
) -> list[Any]:
    """Return our entries, then those of others; of ours that are kept, the words that stand there, or none."""
    marked, own = MARKED.get(name), {part(name, entry) for entry in ours}
    there: dict[str, Element] = {}
    others = []
    for entry in remote:
        named = part(name, entry)
        if not isinstance(entry, dict):
            others.append(entry)
        elif named in own:
            there.setdefault(named, entry)
        elif named not in mine and not (marked(entry) if marked else f"{name}:{key(entry)}" in mine):
            others.append(entry)
    combined: list[Any] = []
    for entry in _with_notes(ours, remote) if name == "activity" else ours:
        named = part(name, entry)
        if named not in kept:
            combined.append(entry)
        elif name in STATE:
            combined.append(with_words(name, entry, there.get(named, entry)))
    return combined + others


def _referred_to(resource: Element, within: list[Element], *, withdrawn: bool) -> list[Any]:
    """Return what a resource is to contain: of our Goals those that it refers to; FHIR has it so.

    `within` are those that stand there. One that the plan no longer has stays while something of others refers to it,
    with a status that says so.
    """
    is_ours, held = MARKED["contained"], items(resource.get("contained"))
    others = [each for each in held if not (isinstance(each, dict) and is_ours(each))]
    referred = set(every_reference({**resource, "contained": others}))
    current = [each for each in held if each in others or f"#{each.get('id')}" in referred]
    there = {each.get("id") for each in held if isinstance(each, dict)}
    before = [_no_longer(each, withdrawn=withdrawn) for each in within if each.get("id") not in there]
    return [*current, *(each for each in before if f"#{each.get('id')}" in referred)]


def _no_longer(goal: Element, *, withdrawn: bool) -> Element:
    if not withdrawn:
        return goal | {STATUS["Goal"]: RETIRED["Goal"]}
    named = {name: goal[name] for name in _NAMING if name in goal}
    return named | {STATUS["Goal"]: _ENTERED_IN_ERROR, _SAYING["Goal"]: {"text": "Entered in error"}}


def _with_notes(ours: list[Element], remote: list[Any]) -> list[Element]:
    """Return our activities with the progress notes that others put on them."""
    notes = {
        entry["id"]: [note for note in items(entry.get("progress")) if not is_our_note(note)]
        for entry in remote
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    }
    noted = []
    for entry in ours:
        foreign = notes.get(entry["id"], [])
        noted.append({**entry, "progress": [*entry.get("progress", []), *foreign]} if foreign else entry)
    return noted


def _meta(ours: Element, remote: object) -> Element:
    """Return our meta with the labels and tags that others set; versions are the server's to say."""
    meta = (
        {name: value for name, value in remote.items() if name not in _SERVERS_OWN} if isinstance(remote, dict) else {}
    )
    if "source" in ours:
        meta["source"] = ours["source"]
    for name in _META_LISTS:
        own_entries = ours.get(name, [])
        keys = {key(entry) for entry in own_entries}
        combined = [*own_entries, *(entry for entry in items(meta.get(name)) if key(entry) not in keys)]
        if combined:
            meta[name] = combined
    return meta


def _says(remote: object, ours: Element) -> bool:
    """Whether the server's meta has our labels, tags and source; it may have more, and profiles are its own affair."""
    meta = remote if isinstance(remote, dict) else {}
    for name in _LABELS:
        held = {key(entry) for entry in items(meta.get(name))}
        if any(key(entry) not in held for entry in ours.get(name, [])):
            return False
    # HAPI puts `#` and the request's id after the source that it was told.
    return "source" not in ours or str(meta.get("source")).partition("#")[0] == ours["source"].partition("#")[0]
