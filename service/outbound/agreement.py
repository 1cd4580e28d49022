"""What a FHIR server takes, as its own statement says: asked at start and every hour, for the deliveries to follow."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from service.outbound.negotiation import negotiate
from service.outbound.terms import shrinks, terms_of
from service.rest.capabilities import NotNegotiable
from service.rest.errors import Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.domain.vendors import VendorProfile
    from service.outbound.negotiation import Negotiated
    from service.outbound.terms import Terms
    from service.rest.client import Document, FhirClient

log = structlog.get_logger(__name__)

EVERY_S = 3600.0
"""How often a server's statement is asked for (seconds)."""
RETRY_S = 30.0
"""How soon again while a server has not stated anything yet (seconds)."""
DOUBT_S = 600.0
"""How soon again while a server states less than it took before: it may be a gateway that answers (seconds)."""
CONFIRMATIONS = 3
"""So many answers in a row have to state the same less before it holds: what is left out then no clinician sees."""
PATIENCE_S = 5.0
"""How long a delivery waits for a first statement before it is put off (seconds)."""
METADATA = "metadata"
SMART = ".well-known/smart-configuration"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the configuration says of one destination, beside where it is."""

    profile: str | None = None
    """Name of the vendor profile; None: the one that the server's statement fits."""
    scores: bool = False
    """Whether a document is to have Observations beside it."""
    note_format: str | None = None
    """Media type of notes; None: what the vendor's server takes."""


class Agreement:
    """The terms of one FHIR server, as it last stated them."""

    def __init__(
        self,
        name: str,
        client: FhirClient,
        profiles: Mapping[str, VendorProfile],
        wishes: Wishes = Wishes(),
        *,
        every_s: float = EVERY_S,
    ) -> None:
        """`name` is the destination's; `every_s` in seconds."""
        self._name = name
        self._client = client
        self._profiles = profiles
        self._wishes = wishes
        self._every_s = every_s
        self._metadata: Document | None = None
        self._smart: Document | None = None
        self._terms: Terms | None = None
        self._doubted: Terms | None = None
        self._confirmed = 0
        self._agreed = asyncio.Event()

    @property
    def agreed(self) -> Terms | None:
        """The terms that hold; None before the first."""
        return self._terms

    async def terms(self) -> Terms:
        """Return the terms that hold. Raises Transient while the server has not stated any."""
        if self._terms is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await self._agreed.wait()
        if self._terms is None:
            message = "The FHIR server has not stated yet what it takes. It is asked again by itself."
            raise Transient("not-negotiated", message)
        return self._terms

    async def follow(self, stop: asyncio.Event, on_change: Callable[[], None]) -> None:
        """Ask for the statement, at once and every so often, until `stop` is set; tell of each change of terms."""
        while not stop.is_set():
            if await self.ask():
                on_change()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await stop.wait()

    def _wait_s(self) -> float:
        """How long until the server is asked again (seconds)."""
        if self._terms is None:
            return min(RETRY_S, self._every_s)
        return self._every_s if self._doubted is None else min(DOUBT_S, self._every_s)

    async def ask(self) -> bool:
        """Ask the server what it takes; return whether that is other than before. What it took stays if it is away."""
        try:
            metadata = await self._client.document(METADATA, self._metadata.etag if self._metadata else None)
        except (Transient, Permanent) as error:
            self._unknown(error.code, str(error))
            return False
        smart = await self._configuration()
        if metadata is None and smart is self._smart and self._doubted is None:
            return False
        self._metadata, self._smart = metadata or self._metadata, smart
        return await self._agree()

    async def _configuration(self) -> Document | None:
        """Return the smart-configuration; None where the server has none to give."""
        try:
            found = await self._client.document(SMART, self._smart.etag if self._smart else None, "application/json")
        except (Transient, Permanent):
            return None
        return found or self._smart

    async def _agree(self) -> bool:
        if self._metadata is None:
            return False
        smart = self._smart.content if self._smart else None
        try:
            # In a thread: a statement of megabytes must not hold up the intake.
            found = await asyncio.to_thread(
                negotiate,
                self._metadata.content,
                smart,
                self._profiles,
                base=self._client.base,
                profile=self._wishes.profile,
            )
        except NotNegotiable as error:
            self._unknown("not-negotiable", str(error))
            return False
        terms = terms_of(found, scores=self._wishes.scores, note_format=self._wishes.note_format)
        if self._is_doubtful(terms):
            return False
        self._client.heed(dict(terms.headers), terms.never_retried)
        changed, self._terms = terms != self._terms, terms
        self._agreed.set()
        if changed:
            self._tell(found)
        return changed

    def _is_doubtful(self, terms: Terms) -> bool:
        """Return whether terms take less than those that hold, and have not been stated often enough yet."""
        if self._terms is None or not shrinks(self._terms, terms):
            self._doubted, self._confirmed = None, 0
            return False
        self._confirmed = self._confirmed + 1 if terms == self._doubted else 1
        self._doubted = terms
        lost = sorted(self._terms.taken.keys() - terms.taken.keys())
        if self._confirmed < CONFIRMATIONS:
            log.warning(
                "a FHIR server states less than before; what it took before holds until it has said so several times",
                destination=self._name,
                plan=terms.plan.value,
                lost=lost,
                answers=self._confirmed,
                needed=CONFIRMATIONS,
            )
            return True
        log.warning("a FHIR server takes less of a plan", destination=self._name, plan=terms.plan.value, lost=lost)
        self._doubted, self._confirmed = None, 0
        return False

    def _tell(self, found: Negotiated) -> None:
        log.info(
            "what a FHIR server takes",
            destination=self._name,
            profile=found.profile,
            authentication=found.authentication.method,
            **{kind.lower(): route.way.value for kind, route in found.routes.items()},
        )

    def _unknown(self, code: str, reason: str) -> None:
        what = "deliveries wait" if self._terms is None else "what it took before holds"
        log.warning(
            "a FHIR server does not state what it takes", destination=self._name, code=code, reason=reason, then=what
        )
