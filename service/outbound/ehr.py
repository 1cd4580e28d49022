"""A FHIR server as destination: a plan's resources, where clinicians also write, by the route that it offers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from service.outbound.careplan import WITHDRAWN, render
from service.outbound.completed import completed, completed_among, completed_since
from service.outbound.destination import Delivered, Route
from service.outbound.ledger import Ledger, dump, load, localised, names, references
from service.outbound.negotiation import BY_ITSELF, Way
from service.outbound.pdf import PDF
from service.outbound.recording import Recording
from service.outbound.removal import remove
from service.outbound.shapes import shaped
from service.outbound.terms import EVERYTHING, digest_of, shrinks
from service.outbound.writing import Writing, not_taken_back
from service.rest.answers import Refused
from service.rest.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime

    from service.domain.facts import PatientKey
    from service.outbound.agreement import Agreement
    from service.outbound.audit_route import AuditRoute
    from service.outbound.careplan import Plan
    from service.outbound.completed import Looked
    from service.outbound.destination import PlanDelivery
    from service.outbound.shapes import Resources
    from service.outbound.terms import Terms
    from service.rest.client import FhirClient

PROBES = 4  # requests at a time when looking for what a refused plan refers to in vain

# What is referred to before what refers to it.
_ORDER = ("Goal", "CarePlan", "DocumentReference", "Observation", "Task", "Flag", "Communication", "Provenance")


class EhrDestination:
    """Keeps each course's plan current in one FHIR server, by the route that it agreed to.

    Where it takes ids of ours and transactions, all is created at once; else each resource by itself. Updates are
    of what changed only, under `If-Match` where the server heeds it. Where a clinician has written too, only our own
    elements are replaced; a plan that a clinician ended stays ended.
    """

    def __init__(  # noqa: PLR0913 - the last are what the configuration says of this destination alone
        self,
        name: str,
        client: FhirClient,
        *,
        at_once: int = 4,
        agreement: Agreement | None = None,
        ehr_of: Collection[str] = (),
        deletes: bool = False,
        audit: AuditRoute | None = None,
    ) -> None:
        """Without an `agreement` the server is one that takes everything; `ehr_of` are the sources whose EHR it is.

        `deletes`: a plan that is taken back is deleted, where nobody else has written to it and the server lets it be.
        `audit` is how the server is told of what was written there; None where it is not to be.
        """
        self.name: Final = name
        self.at_once: Final = at_once
        self.base: Final = client.base
        self.audit: Final = audit
        self._client = client
        self._agreement = agreement
        self._ehr_of = frozenset(ehr_of)
        self._deletes = deletes

    async def follow(self, stop: asyncio.Event, on_change: Callable[[frozenset[Route], str, bool], None]) -> None:
        """Ask the server what it takes, at once and again and again, until `stop` is set.

        Tells of each change: with the routes by which plans got there that are as they would be sent again, at the
        start those of the same kind, later none; and with the digest of the terms, which such plans have in their
        ledger. Of plans from before it was kept the route decides. Last, whether it takes less than before.
        """
        agreement = self._agreement
        if agreement is None:
            return
        before: Terms | None = None

        def changed() -> None:
            nonlocal before
            last, before = before, agreement.agreed
            if before is not None:
                alike = _alike(before) if last is None else frozenset[Route]()
                on_change(alike, digest_of(before), last is not None and shrinks(last, before))

        await agreement.follow(stop, changed)

    async def deliver(self, delivery: PlanDelivery) -> Delivered:
        """Return once the server holds the plan. Raises Transient, Permanent or InvalidPlan; repeating is harmless."""
        terms = EVERYTHING if self._agreement is None else await self._agreement.terms()
        if terms.plan is Way.CHART_ONLY:
            standing = {remote.status for remote in load(delivery.ledger).remotes.values()}
            if delivery.plan.withdrawn and standing - {"", WITHDRAWN}:  # a Provenance has none
                raise not_taken_back()
            held = replace(load(delivery.ledger), terms=digest_of(terms))
            return Delivered(dump(held) if delivery.ledger else {}, Route.CHART_ONLY)
        ledger, plan = load(delivery.ledger), delivery.plan
        # Before anything is written: what the plan no longer asks for is taken back, completed or not.
        done = await completed(self._client, ledger, plan.patient, self._prefix(plan.source))
        return replace(await self._delivered(delivery, ledger, terms), completed=done)

    async def _delivered(self, delivery: PlanDelivery, ledger: Ledger, terms: Terms) -> Delivered:
        if terms.note_format == PDF:
            # A tenth of a second, in which nothing else would go on.
            resources = await asyncio.to_thread(shaped, delivery.plan, terms)
        else:
            resources = shaped(delivery.plan, terms)
        unresolved = await self._missing(ledger.unresolved) | _foreign_plans(resources, terms)
        try:
            return await self._write(delivery, resources, terms, ledger, unresolved)
        except Refused as refusal:
            missing = await self._missing(_named(resources))
            if delivery.plan.patient in missing:
                message = "The FHIR server does not know the plan's patient. Load the patient there, then retry."
                raise Permanent("patient-missing", message, outcome_codes=refusal.outcome_codes) from None
            if missing <= unresolved:
                raise
            if delivery.progress.ledger is not None:  # what was written before the refusal is there
                ledger = load(delivery.progress.ledger)
            return await self._write(delivery, resources, terms, ledger, missing | unresolved)

    async def completed_since(self, since: datetime | None) -> set[str] | None:
        """Return the ids of our Tasks completed there since then; None where only reading each can tell.

        Raises Transient.
        """
        terms = EVERYTHING if self._agreement is None else await self._agreement.terms()
        return await completed_since(self._client, terms.taken.get("Task"), since)

    async def completed(self, patient: PatientKey, ledger: Mapping[str, Any], among: Collection[str] | None) -> Looked:
        """Return a course's Tasks that a clinician completed, as `Delivered.completed`.

        Only those with ids in `among` are looked at, where it is given.
        """
        prefix = self._prefix(patient.source)
        return await completed_among(self._client, load(ledger), f"Patient/{patient.patient_id}", prefix, among)

    def _prefix(self, source: str) -> str:
        return "" if source in self._ehr_of else f"{self.name}."

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _write(
        self, delivery: PlanDelivery, resources: Resources, terms: Terms, ledger: Ledger, unresolved: Collection[str]
    ) -> Delivered:
        plan = delivery.plan
        client = Recording(self._client, delivery.progress.writes)
        writing = Writing(client, terms, delivery.revision, delivery.counter, dict(ledger.remotes))
        writing.intents = delivery.intents
        writing.acts = {act.about: act for act in ledger.acts}
        try:
            route = await self._written(writing, plan, resources, unresolved)
        finally:
            # However it ends: what the server may have must never be forgotten, nor written a second time. Which
            # references it does not know is a guess until it has taken the plan without them.
            if writing.remotes or writing.meant:
                told = tuple(writing.acts.values())
                delivery.progress.ledger = dump(Ledger(writing.remotes, ledger.unresolved, told, ledger.terms))
        after = Ledger(writing.remotes, tuple(sorted(unresolved)), terms=digest_of(terms))
        # What is withdrawn takes a clinician's status with it: that says nothing of what they did.
        acts = () if plan.withdrawn else tuple(writing.acts.values())
        return Delivered(dump(after), route, tuple(writing.respected), acts=acts)

    async def _written(self, writing: Writing, plan: Plan, resources: Resources, unresolved: Collection[str]) -> Route:
        terms, route, absent = writing.terms, _route(writing.terms), set[str]()
        if plan.withdrawn:
            told = render(plan.course, plan.mappings)
            absent = await writing.find_again([*resources, *shaped(told, terms)])
            if self._deletes:
                absent |= await remove(writing, _ORDER)
        elif writing.is_new and terms.together:
            named = names(resources, writing.remotes, unresolved, plan.source)
            first = [(role, body) for role, body in resources if body["resourceType"] in terms.together]
            known = writing.remotes.get
            first = [(role, localised(body, named, known(role))) for role, body in first]
            own = {f"{body['resourceType']}/{body['id']}" for _, body in first}
            # What is there already, because an answer or the ledger was lost, may hold what a clinician wrote since.
            is_new = await self._missing(own) == own
            if is_new and await writing.create_all(first):
                route = Route.TRANSACTION
        for role, resource in sorted(resources, key=lambda item: _ORDER.index(item[1]["resourceType"])):
            if role in absent:
                continue
            # Anew for each: what was created a moment ago is referred to by the id that it got.
            named = names(resources, writing.remotes, unresolved, plan.source)
            await writing.bring_about(role, localised(resource, named, writing.remotes.get(role)))
        await writing.retire_others({role for role, _ in resources}, withdrawn=plan.withdrawn)
        if writing.troubles:
            raise writing.troubles[0]
        return route

    async def _missing(self, named: Iterable[str]) -> set[str]:
        """Return those of the relative references that the server does not have."""
        at_once = asyncio.Semaphore(PROBES)

        async def is_missing(reference: str) -> bool:
            async with at_once:
                return not await self._client.exists(reference)

        looked_for = sorted(set(named))
        found = await asyncio.gather(*map(is_missing, looked_for))
        return {reference for reference, missing in zip(looked_for, found, strict=True) if missing}


def _route(terms: Terms) -> Route:
    """Return the route of a plan that is written resource by resource."""
    if terms.plan not in BY_ITSELF:
        return Route.DOCUMENT
    return Route.CREATE_UPDATE if terms.taken["CarePlan"].ours else Route.SERVER_ID


def _alike(terms: Terms) -> frozenset[Route]:
    """Return the routes by which a plan that has been sent is what these terms would send."""
    if terms.plan in BY_ITSELF:
        return frozenset({Route.TRANSACTION, Route.CREATE_UPDATE, Route.SERVER_ID})
    return frozenset({Route.DOCUMENT if terms.plan is Way.DOCUMENT else Route.CHART_ONLY})


def _named(resources: Resources) -> set[str]:
    """Return the relative references of a plan's resources to anything but each other."""
    own = {f"{resource['resourceType']}/{resource['id']}" for _, resource in resources}
    return {reference for _, resource in resources for reference in references(resource)} - own


def _foreign_plans(resources: Resources, terms: Terms) -> set[str]:
    """Return the references to other courses' CarePlans, whose ids at a server that chooses them nobody here knows."""
    plan = terms.taken.get("CarePlan")
    if plan is None or plan.ours:
        return set()
    return {reference for reference in _named(resources) if reference.startswith("CarePlan/")}
