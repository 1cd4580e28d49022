"""A FHIR server as destination: a plan's resources, where clinicians also write."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from service.outbound.destination import Delivered, Route
from service.outbound.elements import CAREPLAN
from service.outbound.ledger import Ledger, Remote, digest, dump, load, localised, references
from service.outbound.merging import RETIRED, STATUS, canonical, entries, merge, retired
from service.rest.answers import Refused
from service.rest.client import Conflict, FhirClient
from service.rest.errors import CONFLICT, Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from service.outbound.destination import PlanDelivery
    from service.outbound.elements import Element

MERGES = 5  # how often one delivery re-reads a resource that somebody keeps changing
PROBES = 4  # requests at a time when looking for what a refused plan refers to in vain

_ORDER = ("Goal", "CarePlan", "Task", "Flag", "Provenance")  # what is referred to before what refers to it
_TYPES = {"careplan": "CarePlan", "goal": "Goal", "task": "Task", "flag": "Flag", "provenance": "Provenance"}
_WITHDRAWN = "entered-in-error"


class EhrDestination:
    """Keeps each course's plan current in one FHIR server that takes ids of our choosing.

    Creates by one transaction Bundle, updates only what changed, each resource under `If-Match`. Where
    a clinician has written too, only our own elements are replaced; a plan that a clinician ended stays
    ended.
    """

    def __init__(self, name: str, client: FhirClient, *, at_once: int = 4) -> None:
        self.name: Final = name
        self.at_once: Final = at_once
        self._client = client

    async def deliver(self, delivery: PlanDelivery) -> Delivered:
        """Return once the server holds the plan. Raises Transient or Permanent; doing it again is harmless."""
        ledger = load(delivery.ledger)
        unresolved = await self._missing(ledger.unresolved)
        try:
            return await self._write(delivery, ledger, unresolved)
        except Refused as refusal:
            plan = delivery.plan
            own = {f"{resource['resourceType']}/{resource['id']}" for _, resource in plan.resources}
            named = {reference for _, resource in plan.resources for reference in references(resource)}
            missing = await self._missing(named - own)
            if plan.patient in missing:
                message = "The FHIR server does not know the plan's patient. Load the patient there, then retry."
                raise Permanent("patient-missing", message, outcome_codes=refusal.outcome_codes) from None
            if missing <= unresolved:
                raise
            return await self._write(delivery, ledger, missing | unresolved)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _write(self, delivery: PlanDelivery, ledger: Ledger, unresolved: Collection[str]) -> Delivered:
        resources = localised(delivery.plan.resources, ledger, unresolved, delivery.plan.source)
        writing = _Writing(self._client, delivery.revision, dict(ledger.remotes))
        route = Route.CREATE_UPDATE
        if not writing.remotes and await writing.create_all(resources):
            route = Route.TRANSACTION
        else:
            for role, resource in sorted(resources, key=lambda item: _ORDER.index(item[1]["resourceType"])):
                await writing.bring_about(role, resource)
        await writing.retire_others({role for role, _ in resources}, withdrawn=_is_withdrawn(resources))
        after = Ledger(writing.remotes, tuple(sorted(unresolved)))
        return Delivered(dump(after), route, tuple(writing.respected))

    async def _missing(self, named: Iterable[str]) -> set[str]:
        """Return those of the relative references that the server does not have."""
        at_once = asyncio.Semaphore(PROBES)

        async def is_missing(reference: str) -> bool:
            async with at_once:
                return not await self._client.exists(reference)

        looked_for = sorted(set(named))
        found = await asyncio.gather(*map(is_missing, looked_for))
        return {reference for reference, missing in zip(looked_for, found, strict=True) if missing}


@dataclass(slots=True)
class _Writing:
    """One delivery under way: what the server holds so far."""

    client: FhirClient
    request_id: str
    remotes: dict[str, Remote]
    respected: list[str] = field(default_factory=list)

    async def create_all(self, resources: list[tuple[str, Element]]) -> bool:
        """Return whether all resources were created at once; False where some may exist, or at servers without it."""
        if await self.client.read("CarePlan", dict(resources)[CAREPLAN]["id"]) is not None:
            # An answer was lost, or the ledger was: what a clinician wrote since must not be overwritten.
            return False
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [_entry(self.client.base, body) for _, body in resources],
        }
        try:
            versions = await self.client.transaction(bundle, request_id=self.request_id)
        except Conflict:
            return False
        if versions is None:
            return False
        for (role, resource), version in zip(resources, versions, strict=True):
            self.remotes[role] = _remote(resource, version, foreign=False)
        return True

    async def bring_about(self, role: str, ours: Element) -> None:
        """Make the server hold our resource, and all that others put into it."""
        known = self.remotes.get(role)
        if known is not None and known.digest == digest(ours):
            return
        if known is not None and known.version is not None and not known.foreign:
            try:
                version = await self.client.put(ours, if_match=known.version, request_id=self.request_id)
            except Conflict:
                pass
            else:
                self.remotes[role] = _remote(ours, version, foreign=False)
                return
        for _ in range(MERGES):
            try:
                self.remotes[role] = await self._merged(role, ours, known)
            except Conflict:
                continue
            return
        raise _too_busy()

    async def _merged(self, role: str, ours: Element, known: Remote | None) -> Remote:
        found = await self.client.read(ours["resourceType"], ours["id"])
        if found is None:
            version = await self.client.put(ours, if_match=None, request_id=self.request_id)
            return _remote(ours, version, foreign=False)
        merged = merge(ours, found.resource, sent=known.entries if known else (), asked=known.status if known else None)
        version = found.version
        if canonical(merged.resource) != canonical(found.resource):
            version = await self.client.put(merged.resource, if_match=found.version, request_id=self.request_id)
        if merged.respected is not None:
            self.respected.append(f"{role} {merged.respected}")
        return _remote(ours, version, foreign=merged.foreign)

    async def retire_others(self, current: Collection[str], *, withdrawn: bool) -> None:
        """Take back what the plan no longer has; the server keeps it, with a status that says so."""
        for role, known in list(self.remotes.items()):
            kind = _TYPES[role.partition("/")[0]]
            if kind not in RETIRED:
                continue  # a Provenance has no status, and stays true
            status = _WITHDRAWN if withdrawn else RETIRED[kind]
            if role in current or known.status == status:
                continue
            for _ in range(MERGES):
                try:
                    version = await self._retired(kind, known, status)
                except Conflict:
                    continue
                self.remotes[role] = replace(known, version=version, digest="", status=status, foreign=True)
                break
            else:
                raise _too_busy()

    async def _retired(self, kind: str, known: Remote, status: str) -> str | None:
        found = await self.client.read(kind, known.id)
        resource = retired(found.resource, status) if found else None
        if found is None or resource is None:
            return found.version if found else None
        return await self.client.put(resource, if_match=found.version, request_id=self.request_id)


def _entry(base: str, resource: Element) -> Element:
    # Client-assigned ids: a creation that is done twice makes nothing twice.
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": f"{base}/{url}", "resource": resource, "request": {"method": "PUT", "url": url}}


def _remote(ours: Element, version: str | None, *, foreign: bool) -> Remote:
    element = STATUS.get(ours["resourceType"])
    status = ours[element] if element is not None else ""
    return Remote(ours["id"], version, digest(ours), status, foreign, entries(ours))


def _is_withdrawn(resources: Iterable[tuple[str, Element]]) -> bool:
    return any(role == CAREPLAN and resource["status"] == _WITHDRAWN for role, resource in resources)


def _too_busy() -> Transient:
    message = "Somebody keeps changing the plan at the FHIR server. It is tried again by itself."
    return Transient(CONFLICT, message)
