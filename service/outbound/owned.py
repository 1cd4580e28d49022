"""Which elements and list entries of a plan's resources are ours, and by what an entry is known again."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from service.domain.forms import FHIR_BASE
from service.outbound.elements import AUTHOR, COURSE_IDENTIFIER
from service.outbound.wording import own

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.outbound.elements import Element


VALUES = {
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
"""Top-level elements that are ours, by resource type; a list among them is ours as a whole."""
LISTS = {
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
"""Lists in which entries that others added stay beside ours, by resource type."""
_BY_ID = frozenset({"contained", "activity"})
STATE = {
    "contained": frozenset(
        {
            "resourceType",
            "id",
            "extension",
            "identifier",
            "lifecycleStatus",
            "achievementStatus",
            "subject",
            "statusDate",
            "target",
        }
    ),
    "activity": frozenset({"id", "extension", "outcomeReference", "progress", "reference"}),
    "target": frozenset({"measure", "dueDate"}),
}
"""Lists whose entries say more than what they are known by, and what in them is ours whatever a clinician makes of the
rest, there or not: how things stand, and when."""
_STATE_OF_DETAIL = frozenset(
    {
        "extension",
        "kind",
        "code",
        "goal",
        "status",
        "statusReason",
        "doNotPerform",
        "scheduledTiming",
        "scheduledPeriod",
        "scheduledString",
    }
)
"""The same of an activity's `detail`."""


def entries(ours: Element) -> tuple[str, ...]:
    """Return the keys of our entries in lists where only remembering tells ours from a clinician's."""
    return tuple(
        f"{name}:{key(entry)}"
        for name in LISTS[ours["resourceType"]]
        if name not in MARKED
        for entry in ours.get(name, [])
    )


def part(name: str, entry: object) -> str:
    """Return the short name by which an entry of the list `name` is known again: `activity/1f0c5d2a`.

    Of activities and contained resources it goes by their ids, which are ours.
    """
    named = entry.get("id") if name in _BY_ID and isinstance(entry, dict) else key(entry)
    return f"{name}/{blake2b(str(named).encode(), digest_size=4).hexdigest()}"


def words(name: str, entry: Element) -> Element:
    """Return what a clinician may make theirs in an entry of a list in `STATE`: its words, and what they add to it."""
    said = {inner: value for inner, value in entry.items() if inner not in STATE[name]}
    if isinstance(detail := said.get("detail"), dict):
        said["detail"] = {inner: value for inner, value in detail.items() if inner not in _STATE_OF_DETAIL}
    return said


def with_words(name: str, ours: Element, theirs: Element) -> Element:
    """Return our entry of such a list with the words that are a clinician's."""
    said = words(name, theirs)
    if name == "activity":
        told = {inner: value for inner, value in ours["detail"].items() if inner in _STATE_OF_DETAIL}
        detail = said.get("detail")
        said["detail"] = {**detail, **told} if isinstance(detail, dict) else told
    return said | {inner: value for inner, value in ours.items() if inner in STATE[name]}


def is_our_note(note: object) -> bool:
    """Return whether we wrote an annotation."""
    return isinstance(note, dict) and note.get("authorString") == AUTHOR


def items(value: object) -> list[Any]:
    """Return what should be a list as one: nothing for anything else."""
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
    return any(_is_our_identifier(each) for each in items(entry.get("identifier")) if isinstance(each, dict))


def _systems(concept: object) -> Iterable[object]:
    codings = concept.get("coding") if isinstance(concept, dict) else None
    return [coding.get("system") for coding in items(codings) if isinstance(coding, dict)]


def key(entry: object) -> str:
    """Return what names a list entry: what it refers to, else its codes, else its content; of a target its measure."""
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
    # A target is the same one whenever it is due.
    content = entry["measure"] if "measure" in entry else {k: each for k, each in entry.items() if k != "dueDate"}
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode() if content else ""


MARKED = {
    "contained": _is_our_contained,
    "extension": _is_our_extension,
    "identifier": _is_our_identifier,
    "activity": _is_our_activity,
}
"""Lists whose entries say themselves whether they are ours."""
