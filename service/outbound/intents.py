"""Creates that nobody could look for afterwards: meant before they are sent, and never sent again without a person.

Where a server chooses the ids, takes no condition and can't be searched for what is ours, an answer that is lost would
make a second plan, and a third. What is meant stands in the ledger (`Remote.sure`), and in the database before it is
sent: the process may be killed the moment after.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from service.outbound.identity import NO_ID, query
from service.outbound.ledger import Ledger, dump
from service.rest.client import Conflict
from service.rest.errors import UNANSWERED, Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from typing import Any

    from service.outbound.acts import Act
    from service.outbound.elements import Element
    from service.outbound.ledger import Remote
    from service.outbound.terms import Taken

_MAY_HAVE_ACTED = frozenset({"timeout", "unreachable", "not-fhir", "answer-too-large", "http-408", NO_ID})


class Intents(Protocol):
    """Where one delivery's intents are remembered."""

    async def remember(self, ledger: Mapping[str, Any]) -> None:
        """Return once the ledger, with what is meant in it, is in the database. Raises Transient where it can't be."""

    async def may_repeat(self) -> bool:
        """Return whether a person has looked at the destination since, and asked for the delivery again."""


def is_unfindable(ours: Element, taken: Taken) -> bool:
    """Return whether a create of ours could be told from none by its answer alone.

    Not of a Provenance: one that is there twice says the same thing twice.
    """
    conditional = taken.conditional and "identifier" in ours
    return not taken.ours and not conditional and ours["resourceType"] != "Provenance" and query(taken, ours) is None


@asynccontextmanager
async def meaning(
    role: str, meant: Remote, remotes: dict[str, Remote], intents: Intents | None, acts: Collection[Act] = ()
) -> AsyncIterator[None]:
    """Send a create in the `with` block: what is `meant` is remembered before, and forgotten where surely not done.

    `acts`, of which nobody was told yet, stand in the ledger with it. Raises Permanent (unanswered-create) where an
    earlier one has no answer.
    """
    known = remotes.get(role)
    if known is not None and not known.sure and (intents is None or not await intents.may_repeat()):
        raise _unanswered()
    remotes[role] = replace(meant, sure=False)
    if intents is not None:
        await intents.remember(dump(Ledger(remotes, acts=tuple(acts))))
    try:
        yield
    except (Conflict, Permanent, Transient) as error:
        if not _may_have_acted(error):
            remotes.pop(role)
            if known is not None and known.sure:
                remotes[role] = known
        raise


def _may_have_acted(error: Conflict | Permanent | Transient) -> bool:
    if isinstance(error, Conflict) or (isinstance(error, Transient) and error.unsent):
        return False
    # A gateway says 502, 503 and 504 of what it has passed on, and a server 500 of what it may have done half of.
    return error.code in _MAY_HAVE_ACTED or error.code.startswith("http-5")


def may_have_to_go() -> Permanent:
    """Return what to raise where what is to be taken back may be there, as nobody but a person can find out."""
    message = (
        "The FHIR server never answered a create of what is to be taken back, and can't be searched for what came of "
        "it. Look at the patient's chart there. Once nothing of it is there, or you have taken it back there by hand, "
        "retry."
    )
    return Permanent(UNANSWERED, message)


def _unanswered() -> Permanent:
    message = (
        "The FHIR server never answered a create of this plan, and can't be searched for what came of it. Look at the "
        "patient's chart there. Where nothing came of it, or once you have removed it, retry: that creates it. Else "
        "discard this item: what is there stays as it is."
    )
    return Permanent(UNANSWERED, message)
