"""What one FHIR server takes of a plan, and how: the value that deliveries to it follow. Made of a negotiation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from service.outbound.document import HTML
from service.outbound.negotiation import BY_ITSELF, Way, takes_our_ids
from service.outbound.pdf import PDF
from service.rest.capabilities import Stated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.domain.vendors import VendorProfile
    from service.outbound.negotiation import Negotiated

_RETIRED_FOR_A_NOTE = ("CarePlan", "Goal", "Task", "Flag")
COMPANIONS = ("Goal", "Task", "Flag", "Provenance")
"""What a plan consists of beside its CarePlan."""


class Versions(StrEnum):
    """What a server makes of versions."""

    NONE = "none"
    """It has none."""
    NAMED = "named"
    """It may name them, and does not say that it heeds If-Match: what is there is read before each update."""
    CHECKED = "checked"
    """It refuses an update of any version but the current one."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How one resource type is taken."""

    ours: bool
    """Whether under ids of our choosing; else the server chooses them."""
    update: bool
    """Whether what is there can be changed; else there is only adding."""
    versions: Versions
    conditional: bool = False
    """Whether a create can be made to depend on a search (If-None-Exist)."""
    searched_by: frozenset[str] = frozenset()
    """Search parameters by which one of ours may be found again."""
    delete: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What one server takes."""

    plan: Way
    """The CarePlan's route, which all others follow."""
    taken: Mapping[str, Taken]
    """By resource type: what is written as itself."""
    together: frozenset[str] = frozenset()
    """Types that are first created by one transaction."""
    contained_goals: bool = False
    """Whether goals stand within the CarePlan, because the server takes none by themselves."""
    headers: tuple[tuple[str, str], ...] = ()
    """What every request needs."""
    never_retried: frozenset[str] = frozenset()
    """Codes of an OperationOutcome after which nothing is tried again."""
    note_format: str = HTML
    """Media type of a note's page."""
    audit: Taken | None = field(default=None, compare=False)
    """How AuditEvents are taken; None if they are not. No part of any plan: plans stay as they are if it changes."""


_PLAIN = Taken(ours=True, update=True, versions=Versions.CHECKED)
EVERYTHING = Terms(
    plan=Way.TRANSACTION,
    taken=dict.fromkeys(("CarePlan", *COMPANIONS), _PLAIN),
    together=frozenset({"CarePlan", *COMPANIONS}),
)
"""A server that takes all of it under ids of our choosing, in one transaction, and heeds If-Match."""


def digest_of(terms: Terms) -> str:
    """Return a short digest of what a plan looks like under terms: the same for all that would send the same."""
    way = terms.plan.value if terms.plan not in BY_ITSELF else "itself"
    kinds = sorted(f"{kind}{'+' if taken.update else ''}" for kind, taken in terms.taken.items())
    note = terms.note_format if "DocumentReference" in terms.taken else ""
    text = " ".join((way, *kinds, "contained" if terms.contained_goals else "", note))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def shrinks(before: Terms, after: Terms) -> bool:
    """Return whether a server takes less of a plan than before: a note for resources, nothing, or fewer of them."""
    ranks = {Way.CHART_ONLY: 0, Way.DOCUMENT: 1}
    rank, other = (ranks.get(each.plan, len(ranks)) for each in (after, before))
    return rank < other or (rank == other and not before.taken.keys() <= after.taken.keys())


def terms_of(found: Negotiated, *, scores: bool, note_format: str | None = None) -> Terms:
    """Return the terms that a negotiation came to; `scores`: whether a document is to have Observations beside it.

    `note_format` is the media type of notes that a person has chosen; None: what the vendor's server takes.
    """
    way = found.routes["CarePlan"].way
    kinds = _kinds(found, scores=scores)
    return Terms(
        plan=way,
        taken={kind: _taken(found.statement.resources.get(kind, Stated()), found.known) for kind in kinds},
        together=_together(found) if way is Way.TRANSACTION else frozenset(),
        contained_goals=way in BY_ITSELF and "Goal" not in kinds,
        headers=tuple(sorted(found.known.headers.value.items())) if found.known.headers else (),
        never_retried=frozenset(found.known.never_retried.value if found.known.never_retried else ()),
        note_format=note_format or _note_format(found.known),
        audit=_audit(found),
    )


def _note_format(known: VendorProfile) -> str:
    """Return HTML wherever it is taken, or nobody knows: statements don't say what attachments may be."""
    taken = (HTML,) if known.note_formats is None else known.note_formats.value
    return PDF if HTML not in taken and PDF in taken else HTML


def _audit(found: Negotiated) -> Taken | None:
    if found.routes["AuditEvent"].way not in BY_ITSELF:
        return None
    return _taken(found.statement.resources.get("AuditEvent", Stated()), found.known)


def _kinds(found: Negotiated, *, scores: bool) -> list[str]:
    """Return the resource types that are written as themselves."""
    way = found.routes["CarePlan"].way
    stated = found.statement.resources
    if way in BY_ITSELF:
        kinds = ["CarePlan", *(kind for kind in COMPANIONS if _is_written(found, kind))]
        if "Task" not in kinds and "create" in stated.get("Communication", Stated()).interactions:
            kinds.append("Communication")
        # Where a server took documents before, the last one has to be taken back.
        return [*kinds, "DocumentReference"] if _is_written(found, "DocumentReference") else kinds
    if way is not Way.DOCUMENT:
        return []
    # Where a server took resources before, they do not stay beside the note as if they were kept current.
    kinds = [
        "DocumentReference",
        *(kind for kind in _RETIRED_FOR_A_NOTE if "update" in stated.get(kind, Stated()).interactions),
    ]
    # A score that can't be corrected is better left in the note alone.
    if scores and {"create", "update"} <= stated.get("Observation", Stated()).interactions:
        kinds.append("Observation")
    return [*kinds, *(["Provenance"] if _is_written(found, "Provenance") else [])]


def _is_written(found: Negotiated, kind: str) -> bool:
    """Whether a companion is written as itself; a goal that is contained goes the CarePlan's way too."""
    stated = found.statement.resources.get(kind, Stated())
    creates = "create" in stated.interactions
    kept_current = "update" in stated.interactions and (creates or takes_our_ids(stated, found.known)[0])
    return found.routes[kind].way in BY_ITSELF and (kept_current or (creates and kind == "Provenance"))


def _together(found: Negotiated) -> frozenset[str]:
    """Return what goes into the transaction: nothing unless the goals, which the CarePlan names, can be in it."""
    if found.routes["Goal"].way is not Way.TRANSACTION:
        return frozenset()
    kinds = ("CarePlan", *COMPANIONS)
    return frozenset(k for k in kinds if found.routes[k].way is Way.TRANSACTION and _is_written(found, k))


def _taken(stated: Stated, profile: VendorProfile) -> Taken:
    can = stated.interactions
    ours = "update" in can and takes_our_ids(stated, profile)[0]
    return Taken(
        ours=ours,
        update="update" in can,
        versions=_versions(stated),
        conditional=stated.conditional_create is True,
        searched_by=frozenset(_searched_by(stated)),
        delete="delete" in can,
    )


def _versions(stated: Stated) -> Versions:
    if stated.versioning == "no-version":
        return Versions.NONE
    return Versions.CHECKED if stated.versioning == "versioned-update" else Versions.NAMED


def _searched_by(stated: Stated) -> Iterator[str]:
    if "search-type" not in stated.interactions:
        return
    # Some statements list no parameters at all; then FHIR's own are taken to be there.
    yield from stated.searched_by or ("identifier",)
