"""A plan that is taken back where the configuration has it deleted: what refers goes before what it refers to.

A plan that anybody else has written to is not deleted: their words stay, and a status says that ours were in error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from service.outbound.elements import CAREPLAN
from service.outbound.ledger import type_of
from service.outbound.negotiation import BY_ITSELF
from service.rest.client import Conflict
from service.rest.errors import CONFLICT, Permanent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.outbound.ledger import Remote
    from service.outbound.writing import Writing

log = structlog.get_logger(__name__)


async def remove(writing: Writing, order: Sequence[str]) -> set[str]:
    """Delete what the server holds of a plan, and return the roles of that; they leave the ledger.

    `order` has the types that are referred to before those that refer to them. What others refer to, or the server
    does not let be deleted, stays in the ledger with all that it may refer to, for their status to be changed. Raises
    Transient, after which it may be done again.
    """
    removed: set[str] = set()
    ours = {role: remote for role, remote in writing.remotes.items() if remote.sure and remote.digest}
    if CAREPLAN in writing.remotes.keys() - ours.keys():
        return removed  # what it refers to must not be missing
    if writing.terms.plan not in BY_ITSELF or not await _is_ours_alone(writing, ours):
        return removed
    for role in sorted(ours, key=lambda each: order.index(type_of(each)), reverse=True):
        kind, taken = type_of(role), writing.terms.taken.get(type_of(role))
        if taken is None or not (taken.delete and taken.update):
            return removed
        try:
            await writing.client.delete(kind, ours[role].id, request_id=writing.request_id)
        except (Conflict, Permanent) as error:
            code = error.code if isinstance(error, Permanent) else CONFLICT
            log.warning("a FHIR server keeps what should be deleted; its status says so", type=kind, code=code)
            return removed  # as above
        del writing.remotes[role]
        removed.add(role)
    return removed


async def _is_ours_alone(writing: Writing, ours: dict[str, Remote]) -> bool:
    """Return whether nobody else has written to any of the resources since we did, as far as versions tell."""
    for role, known in ours.items():
        found = await writing.client.read(type_of(role), known.id)
        if found is not None and (known.foreign or known.version is None or found.version != known.version):
            return False
    return True
