"""One delivery under way at a FHIR server: what it holds so far, and how each resource gets there."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from service.outbound.acts import Act, act_of, is_told
from service.outbound.additions import add
from service.outbound.careplan import WITHDRAWN
from service.outbound.edits import Mark, edited, either, is_unseen, judged, kept, once_ours, remembered, sent, settled
from service.outbound.identity import Place, establish, find, query
from service.outbound.intents import is_unfindable, may_have_to_go, meaning
from service.outbound.ledger import Remote, digest, type_of
from service.outbound.merging import RETIRED, STATUS, merge, retired
from service.outbound.owned import entries
from service.outbound.terms import Versions
from service.rest.client import Conflict, Created, Found
from service.rest.errors import Conflicting, Permanent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractAsyncContextManager

    from service.outbound.elements import Element
    from service.outbound.intents import Intents
    from service.outbound.recording import Recording
    from service.outbound.terms import Taken, Terms

MERGES = 5  # how often one delivery re-reads a resource that somebody keeps changing


@dataclass(slots=True)
class Writing:
    """What the server holds so far, by role, and what of a clinician's was left as it is."""

    client: Recording
    terms: Terms
    request_id: str
    counter: int
    """Place of the revision in the course's history."""
    remotes: dict[str, Remote]
    respected: list[str] = field(default_factory=list)
    acts: dict[tuple[str, bool], Act] = field(default_factory=dict)
    """By `Act.about`: what a clinician did and the course is to be told."""
    intents: Intents | None = None
    """Where creates that can't be looked for are remembered."""
    meant: bool = False
    """Whether there were any: the ledger is to be told then, though nothing came of them."""
    troubles: list[Conflicting | Permanent] = field(default_factory=list)
    """Why the delivery has failed, though all that could be written was: one Goal's trouble holds up no Flag."""

    @property
    def is_new(self) -> bool:
        """Whether nothing is known to be there: at most, an attempt whose answer was lost meant to write it."""
        return not any(remote.sure for remote in self.remotes.values())

    async def create_all(self, resources: list[tuple[str, Element]]) -> bool:
        """Return whether all resources, which the server does not have, were created at once; False if not at all."""
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [_entry(self.client.base, body) for _, body in resources],
        }
        for role, body in resources:
            self.remotes[role] = _meant(body, self.remotes.get(role))
        try:
            versions = await self.client.transaction(bundle, request_id=self.request_id)
        except Conflict:
            return False
        if versions is None:
            return False
        for (role, resource), version in zip(resources, versions, strict=True):
            self.remotes[role] = _remote(resource, version, foreign=False)
        return True

    async def find_again(self, resources: list[tuple[str, Element]]) -> set[str]:
        """Take up what the server holds of a plan that no ledger tells of, because an attempt ended half-way.

        Return the roles of what it does not hold, as far as anybody can tell: there is nothing to take back. Raises
        Transient and Permanent.
        """
        absent = set[str]()
        for role, ours in resources:
            kind = ours["resourceType"]
            taken = self.terms.taken.get(kind)
            known = self.remotes.get(role)
            if (known is not None and known.sure) or kind not in STATUS or taken is None:
                continue
            if taken.ours:
                held = await self.client.read(kind, ours["id"])
                found = [held] if held is not None else []
            elif self.intents is not None and is_unfindable(ours, taken) and (known is None or known.id == ours["id"]):
                # What was never meant is not there.
                if role not in absent and known is not None:
                    await self._forget(role)
                absent.add(role)
                continue
            elif query(taken, ours) is None:
                continue  # nobody can tell
            else:
                found = await find(Place(self.client, taken, self.request_id), ours)
            if not found:
                absent.add(role)
                self.remotes.pop(role, None)
            elif known is not None:
                self.remotes[role] = replace(known, sure=True)
            else:
                self.remotes[role] = Remote(found[0].resource["id"], None, "", "", True, entries(ours))  # noqa: FBT003 - it may hold more than ours
        return absent

    async def bring_about(self, role: str, ours: Element) -> None:
        """Make the server hold our resource, and all that others put into it."""
        known, taken = self.remotes.get(role), self.terms.taken[ours["resourceType"]]
        # What a clinician edited again is looked at each time: it may be as ours by now.
        if known is not None and known.digest == digest(ours) and Mark.LEFT not in known.marks.values():
            return
        if not taken.update:
            await self._add(role, ours, known, taken)
            return
        if known is not None or taken.ours:
            self.remotes[role] = _meant(ours, known)
        if known is not None and known.version is not None and not known.foreign and taken.versions is Versions.CHECKED:
            try:
                version = await self.client.put(ours, if_match=known.version, request_id=self.request_id)
            except Conflict:
                pass
            else:
                marks = await self._looked_at_again(ours, version, known, known.marks)
                self.remotes[role] = replace(_remote(ours, version, foreign=False), marks=marks)
                return
        for _ in range(MERGES):
            try:
                self.remotes[role] = await self._merged(role, ours, known, taken)
            except Conflict:
                continue
            except _Hidden:
                self.troubles.append(_hidden(ours))
            return
        raise await self._too_busy(ours["resourceType"], ours["id"], digest(ours))

    async def _add(self, role: str, ours: Element, known: Remote | None, taken: Taken) -> None:
        if known is not None and type_of(role) == "Communication" and known.sure:
            return
        async with self._meaning(role, ours, taken):
            added = await add(Place(self.client, taken, self.request_id), ours, known, self.counter)
        if added is None:
            return
        new_id = added.id if isinstance(added, Created) else added.resource["id"]
        # Where the server does not say the id, the next edition has to look for this one.
        body = ours if new_id is None else ours | {"id": new_id}
        self.remotes[role] = _remote(body, added.version, foreign=False)

    def _meaning(self, role: str, ours: Element, taken: Taken) -> AbstractAsyncContextManager[None]:
        """Return the context of a create: see `intents.py`; nothing is done where it could be looked for."""
        if not is_unfindable(ours, taken):
            return nullcontext()
        self.meant = True
        meant = _meant(ours, self.remotes.get(role))
        return meaning(role, meant, self.remotes, self.intents, self.acts.values())

    async def _merged(self, role: str, ours: Element, known: Remote | None, taken: Taken) -> Remote:
        found = None
        if known is not None or taken.ours:
            found = await self.client.read(ours["resourceType"], ours["id"])
        if found is None and known is not None and known.sure and not await self._may_be_made_again(ours, taken):
            raise _Hidden
        if found is None and taken.ours:
            # At servers that heed it, what somebody else has made meanwhile is not overwritten.
            version = await self.client.put(
                ours, if_match=None, anew=known is None or not known.sure, request_id=self.request_id
            )
            self._note_gone(role, known)
            return _remote(ours, version, foreign=False)
        if found is None:
            async with self._meaning(role, ours, taken):
                held = await establish(Place(self.client, taken, self.request_id, self.troubles), ours)
            if isinstance(held, Created):
                self._note_gone(role, known)
                return _remote(ours | {"id": held.id}, held.version, foreign=False)
            found, ours = held, ours | {"id": held.resource["id"]}
        return await self._updated(role, ours, known, found, taken)

    async def _may_be_made_again(self, ours: Element, taken: Taken) -> bool:
        """Whether what the server took before and has no longer was deleted, or is there under another id.

        Else it may only be hidden from us: for want of a right, or in another partition.
        """
        if await self.client.is_deleted(ours["resourceType"], ours["id"]):
            return True
        return not taken.ours and bool(await find(Place(self.client, taken, self.request_id), ours))

    async def _updated(self, role: str, ours: Element, known: Remote | None, found: Found, taken: Taken) -> Remote:
        kind = ours["resourceType"]
        marks: Mapping[str, Mark] = judged(
            ours,
            found.resource,
            known,
            is_our_version=known is not None and known.version is not None and known.version == found.version,
        )
        merged = merge(
            ours,
            found.resource,
            sent=once_ours(known) if known else (),
            asked=known.status if known else None,
            theirs=known.theirs if known else "",
            kept=kept(marks),
        )
        self._note(role, found.resource, known, merged.theirs, edited(kind, marks))
        if known is not None:
            # Should the write fail: what was put back is not there for sure, what was left is.
            left = {part: mark for part, mark in marks.items() if mark is Mark.LEFT}
            self.remotes[role] = replace(_meant(ours, known), marks={**known.marks, **left})
        version = found.version
        is_news = known is None or known.digest != digest(ours) or known.marks != marks
        if merged.tells_more and not is_news:
            # Nothing is put: what differs is not ours, and not to be taken for ours when it is looked at again.
            version = known.version if known is not None else None
        elif merged.tells_more:
            version = await self.client.put(
                merged.resource, if_match=_matched(found, taken), request_id=self.request_id
            )
            marks = await self._looked_at_again(ours, version, known, marks)
        if merged.respected is not None:
            self.respected.append(f"{role} {merged.respected}")
        return replace(
            _remote(ours, version, foreign=merged.foreign),
            theirs=merged.theirs,
            hashes=remembered(ours, known, marks),
            marks=marks,
        )

    async def _looked_at_again(
        self, ours: Element, version: str | None, known: Remote | None, marks: Mapping[str, Mark]
    ) -> Mapping[str, Mark]:
        """Return the marks after a write: what was put back and is not as it was sent is the server's doing."""
        if known is None or not is_unseen(ours, known, marks):
            return marks
        again = await self.client.read(ours["resourceType"], ours["id"])
        if again is None:
            return {part: mark for part, mark in marks.items() if mark is not Mark.PUT_BACK}
        is_our_version = version is not None and again.version == version
        return settled(ours, again.resource, marks, is_our_version=is_our_version)

    def _note(self, role: str, resource: Element, known: Remote | None, status: str, elements: tuple[str, ...]) -> None:
        """Note what a clinician did since, or took back; before a write of ours moves version and time."""
        if is_told(role) and status != self._told_status(role, known):
            self.acts[role, False] = act_of(role, resource, status, None, self.counter)
        if elements != self._told_edits(role, known):
            self.acts[role, True] = act_of(role, resource, "", elements, self.counter)

    def _note_gone(self, role: str, known: Remote | None) -> None:
        """Note that what a clinician did is there no longer: the resource had been deleted, and is made again."""
        if known is not None:
            self._note(role, {"resourceType": type_of(role), "id": known.id}, known, "", ())

    def _told_status(self, role: str, known: Remote | None) -> str:
        """Return the status that the course was last told of, or is about to be."""
        act = self.acts.get((role, False))
        if act is not None:
            return act.status
        return known.theirs if known is not None else ""

    def _told_edits(self, role: str, known: Remote | None) -> tuple[str, ...]:
        """Return the edited elements that the course was last told of, or is about to be."""
        act = self.acts.get((role, True))
        if act is not None:
            return act.edited or ()
        return edited(type_of(role), known.marks) if known is not None else ()

    async def retire_others(self, current: Collection[str], *, withdrawn: bool) -> None:
        """Take back what the plan no longer has; the server keeps it, with a status that says so.

        What the server no longer lets be updated stays as it is: a trouble where it must not be there at all.
        """
        left = False
        for role, known in list(self.remotes.items()):
            kind = type_of(role)
            taken = self.terms.taken.get(kind)
            # A Provenance has no status and stays true; a message was sent, unless it never should have been.
            status = WITHDRAWN if withdrawn and kind in STATUS else RETIRED.get(kind)
            if role in current or status is None or known.status == status:
                continue
            if taken is None or not taken.update:
                left = left or (taken is None and withdrawn)
                continue
            if not known.sure and not taken.ours:
                await self._forget(role)
                continue
            for _ in range(MERGES):
                try:
                    version, theirs = await self._retired(role, known, status, taken)
                except Conflict:
                    continue
                except _Hidden:
                    self.troubles.append(_hidden({"id": known.id}))
                    break
                self.remotes[role] = replace(
                    known,
                    version=version,
                    digest="",
                    status=status,
                    foreign=True,
                    theirs=theirs,
                    hashes=(),  # what it says from here on is nobody's wish
                    marks={},
                )
                break
            else:
                raise await self._too_busy(kind, known.id, known.digest)
        if left:
            self.troubles.append(not_taken_back())

    async def _forget(self, role: str) -> None:
        """Forget a create without an answer of what is to be taken back: a trouble unless a person has seen to it."""
        if self.intents is not None and await self.intents.may_repeat():
            del self.remotes[role]
        else:
            self.troubles.append(may_have_to_go())

    async def _too_busy(self, kind: str, resource_id: str, ours: str) -> Conflicting:
        found = await self.client.read(kind, resource_id)
        message = "Somebody keeps changing the plan at the FHIR server. It is tried again by itself."
        return Conflicting(message, ours=ours or "none", theirs=digest(found.resource) if found else "none")

    async def _retired(self, role: str, known: Remote, status: str, taken: Taken) -> tuple[str | None, str]:
        """Return the version that the resource is at, and its status if a clinician set that."""
        kind = type_of(role)
        found = await self.client.read(kind, known.id)
        # Of a resource that the plan no longer has, no edit is left to be told.
        read = found.resource if found is not None else {"resourceType": kind, "id": known.id}
        self._note(role, read, known, self._told_status(role, known), ())
        if found is None:
            if known.sure and not await self.client.is_deleted(kind, known.id):
                raise _Hidden
            return None, ""
        resource = retired(found.resource, status, known.entries)
        if resource is None:
            there = str(found.resource.get(STATUS[kind]))
            return found.version, there if there != known.status or there == known.theirs else ""
        return await self.client.put(resource, if_match=_matched(found, taken), request_id=self.request_id), ""


class _Hidden(Exception):  # noqa: N818 - as Conflict
    """The server took a resource before and does not show it, nor say that it was deleted."""


def _hidden(ours: Element) -> Conflicting:
    message = "The FHIR server hides a resource that it took before. Let the service read what it wrote there."
    return Conflicting(message, ours=digest(ours), theirs="none")


def not_taken_back() -> Permanent:
    """Return what to raise where a plan stays in the chart that must not be there."""
    message = (
        "The FHIR server holds a plan that is to be taken back, and no longer takes changes of it. Take it back there "
        "by hand, then discard this item."
    )
    return Permanent("not-taken-back", message)


def _matched(found: Found, taken: Taken) -> str | None:
    """Return the version that an update is to replace; None at a server without versions."""
    return None if taken.versions is Versions.NONE else found.version


def _entry(base: str, resource: Element) -> Element:
    # Client-assigned ids: a creation that is done twice makes nothing twice.
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": f"{base}/{url}", "resource": resource, "request": {"method": "PUT", "url": url}}


def _meant(ours: Element, known: Remote | None) -> Remote:
    """Return what is known of a resource before it is written: should the answer be lost, it may say all of this."""
    if known is None:
        return replace(_remote(ours, None, foreign=False), digest="", sure=False)
    return replace(
        known,
        digest="",
        entries=tuple(dict.fromkeys((*known.entries, *entries(ours)))),
        hashes=either(known.hashes, ours),
    )


def _remote(ours: Element, version: str | None, *, foreign: bool) -> Remote:
    element = STATUS.get(ours["resourceType"])
    status = ours[element] if element is not None else ""
    return Remote(ours["id"], version, digest(ours), status, foreign, entries(ours), hashes=sent(ours))
