"""Which way a plan can go into an EHR, from what its FHIR server states of itself. Pure: documents in, routes out.

The order of routes: resources under ids of our choosing, resources under the server's ids, a document, the chart view.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from service.rest.capabilities import Stated, read_statement
from service.rest.smart import authentication

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.domain.vendors import VendorProfile
    from service.rest.capabilities import Statement
    from service.rest.smart import Authentication

GENERIC = "generic-r4"
"""The profile of a server that no other one recognises."""
_NOTHING = Stated()


class Way(StrEnum):
    """How a resource gets in."""

    TRANSACTION = "transaction"
    """Under an id of ours, in one transaction Bundle with the others."""
    CREATE_UPDATE = "create-update"
    """Under an id of ours, by single updates."""
    SERVER_ID = "server-id"
    """Under the server's id, by single creates and updates."""
    DOCUMENT = "document"
    """As a part of the plan-of-care note (LOINC 18776-5), a DocumentReference."""
    CHART_ONLY = "chart-only"
    """Not into the EHR's records: shown in its chart view, kept in the service's store."""


BY_ITSELF = frozenset({Way.TRANSACTION, Way.CREATE_UPDATE, Way.SERVER_ID})
"""Ways by which a resource is written as itself."""


@dataclass(frozen=True, slots=True)
class ResourceRoute:
    """The route of one resource type, and why."""

    way: Way
    decisive: str
    missing: tuple[str, ...] = ()
    """What this route can't do, a sentence each."""

    @property
    def reason(self) -> str:
        """What was decisive, and what will be missing."""
        return " ".join((f"{self.decisive}.", *self.missing))


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What comes of a server's statement."""

    software: str | None
    fhir_version: str
    profile: str
    """Name of the vendor profile: a file of `mappings/ehr/`."""
    routes: dict[str, ResourceRoute]
    """By resource type, in the order in which people read them."""
    authentication: Authentication
    deviations: tuple[tuple[str, str], ...]
    """What the profile knows beyond the statement: sentence and source."""
    statement: Statement
    known: VendorProfile
    """The profile itself."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        auth = self.authentication
        return {
            "software": self.software,
            "fhirVersion": self.fhir_version,
            "profile": self.profile,
            "routes": {kind: {"route": each.way.value, "reason": each.reason} for kind, each in self.routes.items()},
            "auth": {
                "method": auth.method,
                "tokenEndpoint": auth.token_endpoint,
                "algorithms": list(auth.algorithms),
                "reason": auth.reason,
            },
        }


def negotiate(
    metadata: bytes,
    smart: bytes | None,
    profiles: Mapping[str, VendorProfile],
    *,
    base: str = "",
    profile: str | None = None,
) -> Negotiated:
    """Return the routes that a server's CapabilityStatement (`metadata`) and smart-configuration leave.

    `base` is the server's address where known; `profile` names a vendor profile instead of recognising one.
    Raises NotNegotiable.
    """
    statement = read_statement(metadata)
    name = profile or recognised(statement, profiles, base)
    known = profiles[name]
    version = f" {statement.version}" if statement.version and statement.software else ""
    return Negotiated(
        software=f"{statement.software}{version}" if statement.software else None,
        fhir_version=statement.fhir_version,
        profile=name,
        routes=_Chooser(statement, known).routes(),
        authentication=authentication(statement, smart),
        deviations=tuple(known.deviations()),
        statement=statement,
        known=known,
    )


def recognised(statement: Statement, profiles: Mapping[str, VendorProfile], base: str = "") -> str:
    """Return the name of the profile of the software that a server names, else of what else it calls itself."""
    software = (statement.software,) if statement.software else ()
    for texts, words in (
        (software, {name: each.software for name, each in profiles.items()}),
        ((*statement.named, base), {name: each.named for name, each in profiles.items()}),
    ):
        for name in sorted(words):
            if _any_word(texts, words[name]):
                return name
    return GENERIC


def _any_word(texts: Iterable[str], words: Iterable[str]) -> bool:
    pattern = "|".join(re.escape(word) for word in words)
    return bool(pattern) and any(re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", text.lower()) for text in texts)


def takes_our_ids(stated: Stated, profile: VendorProfile) -> tuple[bool, str]:
    """Return whether a resource type is taken under ids of ours, and what says so."""
    if stated.update_create is not None:
        return stated.update_create, f"updateCreate is {str(stated.update_create).lower()}"
    if profile.client_ids is not None:
        takes = "takes" if profile.client_ids.value else "does not take"
        return profile.client_ids.value, f"updateCreate is left out and {profile.title} {takes} our ids"
    return False, "updateCreate is left out, so the server chooses ids"


class _Chooser:
    def __init__(self, statement: Statement, profile: VendorProfile) -> None:
        self._statement = statement
        self._profile = profile

    def routes(self) -> dict[str, ResourceRoute]:
        document = self._resource("DocumentReference")
        plan = self._plan(document)
        return {
            "CarePlan": plan,
            "Goal": self._goal(plan),
            "Task": self._companion("Task", plan, self._without_task()),
            "Flag": self._companion("Flag", plan, "A finding is told in the plan, not flagged in the chart."),
            "Provenance": self._provenance(plan),
            "DocumentReference": self._document(plan, document),
            "AuditEvent": self._audit_event(),
        }

    def _stated(self, kind: str) -> Stated:
        return self._statement.resources.get(kind, _NOTHING)

    def _resource(self, kind: str) -> ResourceRoute | None:
        """Return how a resource that is kept current can be written as itself; None if it can't."""
        stated = self._stated(kind)
        can = stated.interactions
        if "update" not in can:
            return None
        ours, why = takes_our_ids(stated, self._profile)
        if ours and "transaction" in self._statement.system:
            return ResourceRoute(
                Way.TRANSACTION, f"{kind} takes update, {why}; transaction is offered", _limits(stated, ours=True)
            )
        if ours:
            offered = "only batch is offered" if "batch" in self._statement.system else "no transaction is offered"
            missing = "Plan and companions are written one after the other: for a moment they can differ."
            decisive = f"{kind} takes update, {why}; {offered}"
            return ResourceRoute(Way.CREATE_UPDATE, decisive, (missing, *_limits(stated, ours=True)))
        if "create" not in can:
            return None
        return ResourceRoute(
            Way.SERVER_ID, f"{kind} takes create and update, {why}", (*_identity(stated), *_limits(stated, ours=False))
        )

    def _plan(self, document: ResourceRoute | None) -> ResourceRoute:
        plan = self._resource("CarePlan")
        if plan is not None:
            return plan
        takes = _takes("CarePlan", self._stated("CarePlan"))
        if document is not None or "create" in self._stated("DocumentReference").interactions:
            scores = "Observation takes" if self._creates("Observation") else "Observation does not take"
            missing = ("The plan is text: nothing in the EHR can work with its goals, sessions and findings.",)
            return ResourceRoute(Way.DOCUMENT, f"{takes}, but DocumentReference takes create; {scores} scores", missing)
        missing = ("Nothing is written: the plan shows only where the EHR opens the chart view.",)
        neither = _takes("DocumentReference", self._stated("DocumentReference"))
        return ResourceRoute(Way.CHART_ONLY, f"{takes}, and {neither}", missing)

    def _goal(self, plan: ResourceRoute) -> ResourceRoute:
        if plan.way not in BY_ITSELF:
            return _with_the_plan("Goal", plan)
        own = self._resource("Goal")
        if own is not None:
            return own
        missing = ("Goals can't be found by themselves in the chart.",)
        return ResourceRoute(plan.way, f"{_takes('Goal', self._stated('Goal'))}: contained in the CarePlan", missing)

    def _companion(self, kind: str, plan: ResourceRoute, missing: str) -> ResourceRoute:
        if plan.way not in BY_ITSELF:
            return _with_the_plan(kind, plan)
        return self._resource(kind) or ResourceRoute(Way.CHART_ONLY, _takes(kind, self._stated(kind)), (missing,))

    def _without_task(self) -> str:
        if self._creates("Communication"):
            return "A finding can't be completed in the EHR; a Communication (create) can announce it."
        return "A finding can't be completed in the EHR; it stands in the plan."

    def _provenance(self, plan: ResourceRoute) -> ResourceRoute:
        stated = self._stated("Provenance")
        missing = ("Where the plan comes from is told by the service alone.",)
        if plan.way is Way.CHART_ONLY:
            return ResourceRoute(Way.CHART_ONLY, "Nothing is written, so nothing has a Provenance", missing)
        own = self._resource("Provenance") if plan.way in BY_ITSELF else None
        if own is not None:
            return own
        if "create" in stated.interactions:
            return ResourceRoute(Way.SERVER_ID, "Provenance takes create, once for each write")
        return ResourceRoute(Way.CHART_ONLY, _takes("Provenance", stated), missing)

    def _document(self, plan: ResourceRoute, own: ResourceRoute | None) -> ResourceRoute:
        if plan.way in BY_ITSELF:
            if own is None:
                return ResourceRoute(Way.CHART_ONLY, "No document is needed where the CarePlan is written")
            return ResourceRoute(own.way, f"{own.decisive}; not needed where the CarePlan is written", own.missing)
        if plan.way is Way.CHART_ONLY:
            return ResourceRoute(Way.CHART_ONLY, _takes("DocumentReference", self._stated("DocumentReference")))
        stated = self._stated("DocumentReference")
        limits = () if own is not None and own.way is not Way.SERVER_ID else _identity(stated)
        if own is not None:
            return ResourceRoute(Way.DOCUMENT, "DocumentReference takes create and update: one note, replaced", limits)
        missing = ("Each version is a note of its own that supersedes the one before (relatesTo).", *limits)
        return ResourceRoute(Way.DOCUMENT, "DocumentReference takes create, no update", missing)

    def _audit_event(self) -> ResourceRoute:
        """Return how the server may be told of what was written there: each once, and never changed."""
        stated = self._stated("AuditEvent")
        ours, why = takes_our_ids(stated, self._profile)
        if ours and "update" in stated.interactions:
            return ResourceRoute(Way.CREATE_UPDATE, f"AuditEvent takes update, {why}")
        if "create" not in stated.interactions:
            missing = ("The audit trail stays with the service: `ipt-bridge deliveries audit`.",)
            return ResourceRoute(Way.CHART_ONLY, _takes("AuditEvent", stated), missing)
        if stated.conditional_create and "_tag" in stated.searched_by and "search-type" in stated.interactions:
            return ResourceRoute(Way.SERVER_ID, "AuditEvent takes create, on condition of a search by tag")
        missing = ("No conditional create by tag: after a lost answer an AuditEvent may stand there twice.",)
        return ResourceRoute(Way.SERVER_ID, "AuditEvent takes create", missing)

    def _creates(self, kind: str) -> bool:
        return "create" in self._stated(kind).interactions


def _takes(kind: str, stated: Stated) -> str:
    """Say why a resource can't be kept current as itself."""
    can = stated.interactions
    writes = [each for each in ("create", "update", "patch") if each in can]
    if writes:
        return f"{kind} takes only {' and '.join(writes)}"
    return f"{kind} is read only" if can & {"read", "search-type", "vread"} else f"{kind} is not listed"


def _identity(stated: Stated) -> tuple[str, ...]:
    """Say how a resource under the server's id is told from a second one after a lost answer."""
    if stated.conditional_create:
        return ()
    if "identifier" in stated.searched_by:
        return ("No conditional create: it is searched by identifier before it is created.",)
    if not stated.searched_by.isdisjoint({"patient", "subject"}):
        return ("No conditional create: it is looked for among the patient's own before it is created.",)
    return ("No conditional create and no search by identifier: after a lost answer a duplicate is possible.",)


def _limits(stated: Stated, *, ours: bool) -> tuple[str, ...]:
    """Say what an update can't do; `ours`: under ids of ours, which make conditional operations dispensable."""
    found = []
    if stated.versioning == "no-version":
        found.append("No versions: a clinician's edit between reading and writing can't be noticed by If-Match.")
    if ours and stated.conditional_update is False and stated.conditional_create is False:
        by = "" if "identifier" in stated.searched_by else ", and no search by identifier"
        found.append(f"No conditional create or update{by}: only the id of ours tells resources apart.")
    if stated.interactions.isdisjoint({"read", "search-type"}):
        found.append("No read is listed: what a clinician changed may not be seen.")
    return tuple(found)


def _with_the_plan(kind: str, plan: ResourceRoute) -> ResourceRoute:
    where = "in the note" if plan.way is Way.DOCUMENT else "in the chart view"
    return ResourceRoute(plan.way, f"{kind} follows the CarePlan: told {where}")
