"""Whether an EHR lets us do what the service has to do there, tried without a word of any patient.

From outside in: the server and its certificate, the token, what was granted, the routes of a plan, reading, and of
writing what can be tried without storing anything.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from service.clients import destination_client, source_client, tls_of, token_endpoint
from service.configuration import ConfigurationError, check_profile
from service.outbound.negotiation import Way, negotiate
from service.rest.capabilities import NotNegotiable, read_statement
from service.rest.client import FhirClient
from service.rest.errors import Permanent, Transient
from service.rest.scopes import missing
from service.rest.token_endpoint import SMART
from service.rest.transport import Unusable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.credentials import Transport
    from service.domain.vendors import VendorProfile
    from service.outbound.negotiation import Negotiated
    from service.settings import FhirDestination, Source

NOBODY = "ipt-bridge-check"
"""Id of a resource that no server has."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_AS_ITSELF = frozenset({Way.TRANSACTION, Way.CREATE_UPDATE})
_PLAN: dict[str, Any] = {
    "resourceType": "CarePlan",
    "status": "draft",
    "intent": "plan",
    "title": "A check of what the server takes; not to be stored",
    "subject": {"display": "Nobody"},
}


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one part is as the service needs it."""

    what: str
    ok: bool
    text: str
    warning: bool = False
    """It is, as far as can be told; the text says what to look at all the same."""


async def check_destination(destination: FhirDestination, profiles: Mapping[str, VendorProfile]) -> list[Check]:
    """Return what writing plans to a FHIR server would be like. Nothing is stored there."""
    what = f"FHIR server {destination.name}"
    try:
        check_profile(destination.name, destination.profile, profiles)
        client = destination_client(destination)
    except ConfigurationError as error:
        return [Check(what, ok=False, text=str(error))]
    async with client:
        server = _Server(what, destination, destination.base, client)
        documents = await server.documents()
        if documents is None:
            return server.found
        try:
            routes = negotiate(*documents, profiles, base=destination.base, profile=destination.profile)
        except NotNegotiable as refused:
            server.wrong("", str(refused))
            return server.found
        server.right(
            "", f"{routes.software or 'software not named'}, FHIR {routes.fhir_version}, profile {routes.profile}"
        )
        server.transport()
        if await server.token(_rights(routes, audit_events=destination.audit_events)):
            kind = server.routes(routes, audit_events=destination.audit_events)
            if kind is not None and await server.may_read(kind, routes):
                await server.may_write(kind)
    return server.found


async def check_source(source: Source, kinds: Sequence[str]) -> list[Check]:
    """Return what reading an EHR's resources of these types would be like; nothing where it has no FHIR base."""
    if source.fhir_base is None:
        return []
    what = f"FHIR server of source {source.id}"
    try:
        client = source_client(source)
    except ConfigurationError as error:
        return [Check(what, ok=False, text=str(error))]
    async with client:
        server = _Server(what, source, source.fhir_base, client)
        documents = await server.documents()
        if documents is None:
            return server.found
        try:
            statement = read_statement(documents[0])
        except NotNegotiable as refused:
            server.wrong("", str(refused))
            return server.found
        server.right("", f"{statement.software or 'software not named'}, FHIR {statement.fhir_version}")
        server.transport()
        # A subject that is named by an identifier alone is searched for.
        if await server.token({**dict.fromkeys(kinds, "rs"), "Patient": "s"}):
            for kind in kinds:
                if not await server.may_read(kind):
                    break
    return server.found


class _Server:
    """One FHIR server that is tried, and what has been found so far."""

    def __init__(self, what: str, transport: Transport, base: str, client: FhirClient) -> None:
        self._what = what
        self._transport = transport
        self._base = base
        self._client = client
        self.found: list[Check] = []

    def right(self, part: str, text: str) -> None:
        self._add(part, text, ok=True, warning=False)

    def doubtful(self, part: str, text: str) -> None:
        self._add(part, text, ok=True, warning=True)

    def wrong(self, part: str, text: str) -> None:
        self._add(part, text, ok=False, warning=False)

    def _add(self, part: str, text: str, *, ok: bool, warning: bool) -> None:
        what = f"{self._what}, {part}" if part else self._what
        self.found.append(Check(what, ok=ok, text=text, warning=warning))

    async def documents(self) -> tuple[bytes, bytes | None] | None:
        """Return CapabilityStatement and smart-configuration, which most servers show to everybody."""
        async with FhirClient(self._base, tls=tls_of(self._transport)) as stranger:
            try:
                metadata = await _metadata(stranger)
            except (Transient, Permanent) as refused:
                if refused.code not in {"unauthorised", "forbidden"}:
                    self.wrong("", str(refused))
                    return None
                try:
                    metadata = await _metadata(self._client)
                except (Transient, Permanent) as error:
                    self.wrong("", f"It shows its metadata to nobody unknown. {error}")
                    return None
            try:
                smart = await stranger.document(SMART, None, "application/json")
            except (Transient, Permanent):
                smart = None
        return metadata, smart.content if smart else None

    def transport(self) -> None:
        """Note where what is sent can be read under way."""
        parts = urlsplit(self._base)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            self.doubtful(
                "transport", "Plans and credentials go unencrypted. Set base to https, unless a mesh encrypts."
            )

    async def token(self, needed: Mapping[str, str]) -> bool:
        """Return whether there is a token, where one is needed; note which of the rights it does not have."""
        try:
            endpoint = token_endpoint(self._transport, self._base)
            if endpoint is None:
                return True
            token = await endpoint.fetch()
        except (Transient, Unusable) as error:
            self.wrong("token", str(error))
            return False
        self.right("token", f"granted for {token.lifetime_s:g} s")
        granted = token.scopes if token.scopes is not None else endpoint.scopes
        lacking = missing(granted, needed)
        if lacking is None:
            self.doubtful("scopes", "The token names no system/ scopes: what it allows shows when it is used.")
        elif lacking:
            self.doubtful("scopes", f"Not granted: {' '.join(lacking)}. Register them there, and name them in scopes.")
        else:
            self.right("scopes", "all that is needed is granted")
        return True

    def routes(self, routes: Negotiated, *, audit_events: bool) -> str | None:
        """Note by which routes a plan would get in; return the resource type that it is written as."""
        ways: dict[Way, list[str]] = {}
        for kind, route in routes.routes.items():
            if kind == "AuditEvent" and not audit_events:
                continue
            ways.setdefault(route.way, []).append(kind)
        text = "; ".join(f"{way.value}: {', '.join(kinds)}" for way, kinds in ways.items())
        plan = routes.routes["CarePlan"].way
        if plan is Way.CHART_ONLY:
            self.doubtful("routes", f"{text}. Nothing is written there: see `ipt-bridge negotiate {self._base}`.")
            return None
        self.right("routes", text)
        return "DocumentReference" if plan is Way.DOCUMENT else "CarePlan"

    async def may_read(self, kind: str, routes: Negotiated | None = None) -> bool:
        """Return whether resources can be read and searched, by asking for one that nobody has."""
        try:
            await self._client.read(kind, NOBODY)
        except Permanent as error:
            if error.code == "forbidden":
                self.wrong("reading", f"{kind} may not be read. Ask its operator for the right to read and search it.")
                return False
            self.doubtful("reading", f"It does not say whether {kind} may be read ({error.code}).")
            return True
        except Transient as error:
            wants = f" It states {routes.authentication.method}." if routes and error.code == "unauthorised" else ""
            self.wrong("reading", f"{kind}: {error}{wants}")
            return False
        # A server that does not know the parameter would find everything: only how many, it is asked.
        unknown = {"identifier": f"urn:ietf:rfc:3986|{uuid.uuid4().urn}", "_summary": "count"}
        try:
            await self._client.search(kind, unknown)
        except (Transient, Permanent) as error:
            if error.code == "forbidden":
                self.wrong("reading", f"{kind} may be read and not be searched. Ask for the right to search.")
                return False
            self.doubtful("reading", f"{kind} may be read; searching it by identifier failed ({error.code}).")
            return True
        self.right("reading", f"{kind} may be read and searched")
        return True

    async def may_write(self, kind: str) -> None:
        """Note what the server says of a plan for nobody, which it is asked to validate and not to store."""
        untried = "not tried, as nothing is stored here: the first delivery shows it"
        if kind != _PLAN["resourceType"]:
            self.right("writing", untried)
            return
        try:
            errors = await self._client.validate(_PLAN)
        except (Transient, Permanent) as error:
            if error.code in {"forbidden", "unauthorised"}:
                self.doubtful("writing", f"$validate: {error}")
            else:
                self.right("writing", untried)
            return
        if errors:
            self.doubtful("writing", f"$validate finds fault with a {kind} of ours ({', '.join(errors)}).")
        else:
            self.right(
                "writing", f"$validate takes a {kind} of ours; whether it may be stored the first delivery shows"
            )


async def _metadata(client: FhirClient) -> bytes:
    document = await client.document("metadata", None)
    return document.content if document else b""


def _rights(routes: Negotiated, *, audit_events: bool) -> dict[str, str]:
    """Return what has to be allowed for the routes of a plan, as SMART's letters by resource type."""
    needed = {}
    as_document = routes.routes["CarePlan"].way is Way.DOCUMENT
    for kind, route in routes.routes.items():
        if kind == "AuditEvent":
            if audit_events and route.way is not Way.CHART_ONLY:
                needed[kind] = "cru" if route.way in _AS_ITSELF else "c"
        elif kind == "DocumentReference":
            if as_document:
                needed[kind] = "crus" if "update" in route.decisive else "crs"
        elif route.way in _AS_ITSELF:
            needed[kind] = "cru"
        elif route.way is Way.SERVER_ID:
            needed[kind] = "c" if kind == "Provenance" else "crus"
    return needed
