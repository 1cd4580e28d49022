"""Tasks of a plan that a clinician completed at the destination: answers to findings that no topic tells of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from service.outbound.elements import COURSE_IDENTIFIER
from service.rest.errors import NEVER_RETRIED, Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from service.outbound.elements import Element
    from service.outbound.ledger import Ledger
    from service.outbound.terms import Taken
    from service.rest.client import FhirClient

log = structlog.get_logger(__name__)

_TASK = "task/"
_ASKED = "requested"
_COMPLETED = "completed"
_SEARCHED = frozenset({"identifier", "status", "_lastUpdated"})
_PAGE = "100"  # Tasks on a page, where the server gives so many; 10 pages are read (`MOST_PAGES`)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at the open Tasks of one plan came to."""

    done: tuple[Element, ...]
    """The Tasks that a clinician completed, as events would bring them."""
    trouble: Transient | Permanent | None
    """Why some could not be read and must be looked at again; None where all were, or must not be asked for again."""


async def completed(client: FhirClient, ledger: Ledger, patient: str, prefix: str) -> tuple[Element, ...]:
    """Return the Tasks that the plan still asks for and that a clinician completed, as events would bring them.

    Only what says that they are done, when and by whom: no notes, no output. `prefix` goes before their ids, so that
    a Task of this server never passes for one of the source's own. One that can't be read is passed over until the
    course's next delivery: the plan, and its Flag, must not wait for it.
    """
    return (await completed_among(client, ledger, patient, prefix, None)).done


async def completed_among(
    client: FhirClient, ledger: Ledger, patient: str, prefix: str, among: Collection[str] | None
) -> Looked:
    """Return the same of the Tasks with these ids alone, None for all, and whether any could not be read."""
    done: list[Element] = []
    trouble: Transient | Permanent | None = None
    for role, remote in sorted(ledger.remotes.items()):
        if not role.startswith(_TASK) or remote.status != _ASKED or (among is not None and remote.id not in among):
            continue
        try:
            found = await client.read("Task", remote.id)
        except (Transient, Permanent) as error:
            log.warning("a Task can't be read for a clinician's answer; the plan goes on without", code=error.code)
            if error.code != NEVER_RETRIED:
                trouble = error
            if isinstance(error, Transient):
                break  # the server is in trouble: waiting for it once is enough
            continue
        if found is not None and found.resource.get("status") == _COMPLETED:
            done.append(_told(found.resource, patient, prefix))
    return Looked(tuple(done), trouble)


async def completed_since(client: FhirClient, taken: Taken | None, since: datetime | None) -> set[str] | None:
    """Return the ids of our Tasks that were completed since then, by one search.

    None where `since` is, or the server does not state what the search needs, refuses it or finds too many: then only
    reading each tells. Raises Transient.
    """
    if since is None or taken is None or not taken.searched_by >= _SEARCHED:
        return None
    params = {
        "identifier": f"{COURSE_IDENTIFIER}|",
        "status": _COMPLETED,
        "_lastUpdated": f"ge{since.isoformat(timespec='seconds')}",
        "_count": _PAGE,
    }
    try:
        found = await client.search("Task", params)
    except Permanent as error:
        log.warning("completed Tasks can't be searched for; each is read", code=error.code)
        return None
    return {each.resource["id"] for each in found if isinstance(each.resource.get("id"), str)}


def _told(task: Element, patient: str, prefix: str) -> Element:
    meta = task.get("meta")
    kept = ("versionId", "lastUpdated", "security")
    identifiers = task.get("identifier")
    told: Element = {
        "resourceType": "Task",
        "id": f"{prefix}{task['id']}",
        "meta": {name: meta[name] for name in kept if name in meta} if isinstance(meta, dict) else {},
        "identifier": [
            each
            for each in (identifiers if isinstance(identifiers, list) else ())
            if isinstance(each, dict) and each.get("system") == COURSE_IDENTIFIER
        ],
        "status": _COMPLETED,
        "for": {"reference": patient},
    }
    return told | {name: task[name] for name in ("lastModified", "owner") if name in task}
