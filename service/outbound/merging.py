"""How a resource of ours and what a clinician made of it in the EHR become one. Raw JSON, never a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from service.domain.forms import FHIR_BASE
from service.outbound.careplan import WITHDRAWN_TEXT
from service.outbound.elements import AUTHOR, COURSE_IDENTIFIER
from service.outbound.wording import own

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

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

# Top-level elements that are ours. In lists, entries that others added stay.
_VALUES = {
    "CarePlan": ("text", "intent", "title", "description", "subject", "period", "created"),
    "Goal": ("text", "achievementStatus", "description", "subject", "startDate", "statusDate", "expressedBy"),
    "Task": (
        "text",
        "intent",
        "priority",
        "code",
        "description",
        "focus",
        "for",
        "authoredOn",
        "reasonCode",
        "restriction",
    ),
    "Flag": ("text", "code", "subject", "period"),
    "Provenance": ("target", "recorded", "policy", "agent", "entity"),  # nobody else's: policies are bare strings
    "Communication": ("text", "priority", "subject", "sent", "payload"),
    "DocumentReference": ("type", "subject", "date", "author", "description", "content"),
    "Observation": ("code", "subject", "effectiveDateTime", "valueQuantity", "interpretation"),
}
_LISTS = {
    "CarePlan": (
        "contained",
        "extension",
        "identifier",
        "category",
        "addresses",
        "goal",
        "activity",
        "contributor",
        "replaces",
    ),
    "Goal": ("extension", "identifier", "category", "addresses", "target"),
    "Task": ("extension", "identifier", "basedOn"),
    "Flag": ("extension", "identifier", "category"),
    "Provenance": (),
    "Communication": ("identifier", "basedOn", "category", "about", "recipient", "reasonCode"),
    "DocumentReference": ("identifier", "category", "securityLabel", "relatesTo"),
    "Observation": ("identifier", "category", "derivedFrom"),
}
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


def merge(ours: Element, remote: Element, *, sent: Collection[str], asked: str | None, theirs: str = "") -> Merged:
    """Return what the server should hold: our elements as they are, everything else as it stands there.

    `sent` are the keys of the list entries that we sent before, `asked` the status that we asked for
    before; None if nothing is known of it. `theirs` is the status that a clinician had set by then: it stays theirs
    when ours became the same.
    """
    kind = ours["resourceType"]
    resource = dict(remote)
    for name in _VALUES[kind]:
        if name in ours:
            resource[name] = ours[name]
        else:
            resource.pop(name, None)
    mine = {*sent, *entries(ours)}
    for name in _LISTS[kind]:
        combined = _combined(name, ours.get(name, []), _list(remote.get(name)), mine)
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


def entries(ours: Element) -> tuple[str, ...]:
    """Return the keys of our entries in lists where only remembering tells ours from a clinician's."""
    return tuple(
        f"{name}:{_key(entry)}"
        for name in _LISTS[ours["resourceType"]]
        if name not in _MARKED
        for entry in ours.get(name, [])
    )


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


def _combined(name: str, ours: list[Element], remote: list[Any], mine: Collection[str]) -> list[Any]:
    marked = _MARKED.get(name)

    def is_ours(entry: Element) -> bool:
        return marked(entry) if marked else f"{name}:{_key(entry)}" in mine

    others = [entry for entry in remote if not (isinstance(entry, dict) and is_ours(entry))]
    if name == "activity":
        return [*_with_notes(ours, remote), *others]
    return [*ours, *others]


def _with_notes(ours: list[Element], remote: list[Any]) -> list[Element]:
    """Return our activities with the progress notes that others put on them."""
    notes = {
        entry["id"]: [note for note in _list(entry.get("progress")) if not _is_our_note(note)]
        for entry in remote
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    }
    noted = []
    for entry in ours:
        foreign = notes.get(entry["id"], [])
        noted.append({**entry, "progress": [*entry.get("progress", []), *foreign]} if foreign else entry)
    return noted


def _is_our_note(note: object) -> bool:
    return isinstance(note, dict) and note.get("authorString") == AUTHOR


def _meta(ours: Element, remote: object) -> Element:
    """Return our meta with the labels and tags that others set; versions are the server's to say."""
    meta = (
        {name: value for name, value in remote.items() if name not in _SERVERS_OWN} if isinstance(remote, dict) else {}
    )
    if "source" in ours:
        meta["source"] = ours["source"]
    for name in _META_LISTS:
        own_entries = ours.get(name, [])
        keys = {_key(entry) for entry in own_entries}
        combined = [*own_entries, *(entry for entry in _list(meta.get(name)) if _key(entry) not in keys)]
        if combined:
            meta[name] = combined
    return meta


def _says(remote: object, ours: Element) -> bool:
    """Whether the server's meta has our labels, tags and source; it may have more, and profiles are its own affair."""
    meta = remote if isinstance(remote, dict) else {}
    for name in _LABELS:
        held = {_key(entry) for entry in _list(meta.get(name))}
        if any(_key(entry) not in held for entry in ours.get(name, [])):
            return False
    # HAPI puts `#` and the request's id after the source that it was told.
    return "source" not in ours or str(meta.get("source")).partition("#")[0] == ours["source"].partition("#")[0]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_our_extension(entry: Element) -> bool:
    return str(entry.get("url", "")).startswith(f"{FHIR_BASE}/StructureDefinition/")


def _is_our_identifier(entry: Element) -> bool:
    return entry.get("system") == COURSE_IDENTIFIER


def _is_our_activity(entry: Element) -> bool:
    detail = entry.get("detail")
    systems = list(_systems(detail.get("code"))) if isinstance(detail, dict) else []
    return own("session-kind") in systems or own("plan-part") in systems


def _is_our_contained(entry: Element) -> bool:
    return any(_is_our_identifier(each) for each in _list(entry.get("identifier")) if isinstance(each, dict))


_MARKED = {
    "contained": _is_our_contained,
    "extension": _is_our_extension,
    "identifier": _is_our_identifier,
    "activity": _is_our_activity,
}
"""Lists whose entries say themselves whether they are ours."""


def _systems(concept: object) -> Iterable[object]:
    codings = concept.get("coding") if isinstance(concept, dict) else None
    return [coding.get("system") for coding in _list(codings) if isinstance(coding, dict)]


def _key(entry: object) -> str:
    """Return what names a list entry: what it refers to, else its codes, else its whole content."""
    if not isinstance(entry, dict):
        return str(entry)
    reference = entry.get("reference")
    if isinstance(reference, str):
        # Some servers answer with absolute references where relative ones were sent.
        return "/".join(reference.split("/")[-2:])
    identifier = entry.get("identifier")
    if isinstance(identifier, dict):
        return str(identifier.get("value"))
    coded = entry.get("measure", entry)
    codings = coded.get("coding") if isinstance(coded, dict) else None
    if isinstance(codings, list):
        return "+".join(sorted(f"{c.get('system')}|{c.get('code')}" for c in codings if isinstance(c, dict)))
    if "system" in entry or "code" in entry:
        return f"{entry.get('system')}|{entry.get('code')}"
    return "" if set(entry) == {"dueDate"} else orjson.dumps(entry, option=orjson.OPT_SORT_KEYS).decode()
