"""What a FHIR server is known to hold of a course: which resource plays which role, at which version."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from service.outbound.acts import Act
from service.outbound.edits import Mark
from service.outbound.elements import every_reference, source_uri

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from service.outbound.elements import Element

_TYPES = {
    "careplan": "CarePlan",
    "goal": "Goal",
    "task": "Task",
    "flag": "Flag",
    "provenance": "Provenance",
    "note": "DocumentReference",
    "score": "Observation",
    "message": "Communication",
}
"""Resource type by the first part of a role."""
_RELATIVE = re.compile(r"[A-Z][A-Za-z]+/[^/?#\s]+")


@dataclass(frozen=True, slots=True)
class Remote:
    """One resource of ours at the server, as it was last acknowledged."""

    id: str
    version: str | None
    """None: the server names no versions, or did not say; re-read before the next update."""
    digest: str
    """Hash of our resource as it was sent, without what others added."""
    status: str
    """The status that our resource asked for; another one at the server is a clinician's."""
    foreign: bool
    """Whether the resource holds more than ours: then an update starts from what the server holds."""
    entries: tuple[str, ...] = ()
    """Keys of our entries in lists that a clinician may add to; see `merging.py`."""
    theirs: str = ""
    """The status at the server, where a clinician set it, whether or not ours came to be the same; else empty."""
    sure: bool = True
    """Whether the server has acknowledged it; else an attempt whose answer was lost may have written it."""
    hashes: tuple[str, ...] = ()
    """What was sent of each part that a clinician may edit, `part=hash`; empty where that is not known."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """What became of such parts at the server, by part; see `edits.py`."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one destination is known to hold of one course."""

    remotes: Mapping[str, Remote] = field(default_factory=dict)
    """By role; goals that the plan no longer has stay here."""
    unresolved: tuple[str, ...] = ()
    """Relative references that the server does not know; they are sent as identifiers."""
    acts: tuple[Act, ...] = ()
    """What clinicians did there and nobody was told of yet: the delivery that saw it failed."""
    terms: str = ""
    """Digest of what the server took when it last acknowledged the plan (`terms.digest_of`); empty where not known."""


def type_of(role: str) -> str:
    """Return the type of the resource that plays a role."""
    return _TYPES[role.partition("/")[0]]


def dump(ledger: Ledger) -> dict[str, Any]:
    """Return the ledger as JSON values."""
    found: dict[str, Any] = {
        "remotes": {role: asdict(remote) for role, remote in sorted(ledger.remotes.items())},
        "unresolved": list(ledger.unresolved),
    }
    if ledger.acts:
        found["acts"] = [asdict(act) for act in ledger.acts]
    return found | ({"terms": ledger.terms} if ledger.terms else {})


def load(value: Mapping[str, Any]) -> Ledger:
    """Return the ledger that `dump` wrote; an empty one for an empty object."""
    remotes = {
        role: Remote(
            **{
                **remote,
                "entries": tuple(remote["entries"]),
                "hashes": tuple(remote.get("hashes", ())),
                "marks": {part: Mark(mark) for part, mark in remote.get("marks", {}).items()},
            }
        )
        for role, remote in value.get("remotes", {}).items()
    }
    acts = tuple(Act(**{**act, "edited": _edited(act.get("edited"))}) for act in value.get("acts", ()))
    return Ledger(remotes, tuple(value.get("unresolved", ())), acts, value.get("terms", ""))


def _edited(paths: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if paths is None else tuple(paths)


def digest(resource: Element) -> str:
    """Return a hash of a resource's content."""
    return hashlib.blake2b(orjson.dumps(resource, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def names(
    resources: Collection[tuple[str, Element]], remotes: Mapping[str, Remote], unresolved: Iterable[str], source: str
) -> dict[str, Element]:
    """Return what a server has to be told in place of each relative reference that means nothing to it.

    A resource that it knows under another id, because the course had another one then or the server chose it, is
    named by that id. What it can't resolve becomes an identifier, so that one missing practitioner does not keep a
    plan out of the chart.
    """
    found = {reference: _by_identifier(reference, source) for reference in unresolved}
    for role, resource in resources:
        kind, known = resource["resourceType"], remotes.get(role)
        if known is not None and known.id != resource["id"]:
            found[f"{kind}/{resource['id']}"] = {"reference": f"{kind}/{known.id}"}
    return found


def localised(resource: Element, named: Mapping[str, Element], known: Remote | None) -> Element:
    """Return a resource as the server has to be told it: with its names, under the id that it knows."""
    body: Element = rewritten(resource, named)
    return body if known is None or known.id == resource["id"] else {**body, "id": known.id}


def references(value: object) -> Iterator[str]:
    """Yield every relative reference in a resource, in order."""
    return filter(_RELATIVE.fullmatch, every_reference(value))


def _by_identifier(reference: str, source: str) -> Element:
    return {
        "type": reference.partition("/")[0],
        "identifier": {"system": source_uri(source), "value": reference},
    }


def rewritten(value: Any, replaced: Mapping[str, Element]) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value in which each Reference whose `reference` is among `replaced` has what stands there."""
    if not replaced:
        return value
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and reference in replaced:
            return {**{name: inner for name, inner in value.items() if name != "reference"}, **replaced[reference]}
        return {name: rewritten(inner, replaced) for name, inner in value.items()}
    if isinstance(value, list):
        return [rewritten(inner, replaced) for inner in value]
    return value
