"""What is known of a destination, and what a worker tells of it whose lease had ended: neither may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.store.values import Ledger

_REMOTES = "remotes"


def met(known: Ledger, late: Ledger) -> Ledger:
    """Return what is known together with what a late worker wrote at the same destination.

    Of `remotes`, by role: what only one of them knows stays, and what is sure wins over what is not (`sure`). Where
    both wrote, nobody can tell whose is the last: ours is kept with neither `version` nor `digest`, so that the next
    delivery reads it there before it writes, and without `hashes`, so that it takes neither's for somebody's edit.
    Everything else is as it is known, where it is.
    """
    if not known or not late:
        return known or late
    known_of, late_of = _remotes(known), _remotes(late)
    remotes = {**late_of, **{role: _one(each, late_of.get(role, each)) for role, each in known_of.items()}}
    return {**late, **known, _REMOTES: remotes}


def doubted(known: Ledger) -> Ledger:
    """Return what is known after an attempt that was never heard of, and that may have written anything since.

    Of what a clinician may edit too (it has `hashes`), neither `digest` nor `hashes` stay: it is written once more, and
    what stands there by then is nobody's edit.
    """
    if not known:
        return known
    remotes = {
        role: {**each, "digest": "", "hashes": []} if each.get("hashes") else each
        for role, each in _remotes(known).items()
    }
    return {**known, _REMOTES: remotes}


def _one(known: Mapping[str, Any], late: Mapping[str, Any]) -> Mapping[str, Any]:
    if known == late:
        return known
    if known.get("sure", True) != late.get("sure", True):
        return known if known.get("sure", True) else late
    return {**known, "version": None, "digest": "", "hashes": []}


def _remotes(value: Ledger) -> dict[str, Mapping[str, Any]]:
    found = value.get(_REMOTES, {})
    return {role: each for role, each in found.items() if isinstance(each, Mapping)}
