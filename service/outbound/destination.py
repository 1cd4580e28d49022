"""What the deliveries loop hands to a destination, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.outbound.acts import Act
    from service.outbound.audit import Write
    from service.outbound.careplan import Plan
    from service.outbound.intents import Intents


class Route(StrEnum):
    """How a plan reached its destination."""

    TOPIC = "topic"
    """One record on a Kafka topic."""
    TRANSACTION = "transaction"
    """All resources in one transaction Bundle."""
    CREATE_UPDATE = "create-update"
    """Single creates and updates; only what changed."""
    SERVER_ID = "server-id"
    """Single creates and updates under ids that the server chose; ours are known by their identifier."""
    DOCUMENT = "document"
    """A plan-of-care note, with scores beside it where they are wanted."""
    CHART_ONLY = "chart-only"
    """Nothing was sent: the server takes neither plan nor note. The plan shows in the chart view."""
    WITHHELD = "withheld"
    """Not sent: a label of the course keeps it from this destination. What was there before is taken back."""
    OTHER_SOURCE = "other-source"
    """Not sent: the destination has other sources' patients. What was there before is taken back."""


@dataclass(slots=True)
class Progress:
    """What an attempt has come to so far: what is left of it, however it ends."""

    ledger: Mapping[str, Any] | None = None
    """What the destination may hold by now, as `Delivered.ledger`; None: what it held before, and nothing more."""
    writes: list[Write] = field(default_factory=list)
    """What it wrote or failed to write there, resource by resource, in order; for the audit trail."""


@dataclass(frozen=True, slots=True)
class PlanDelivery:
    """One plan on its way to one destination."""

    course_id: str
    revision: str
    counter: int
    """Place of the revision in the course's history."""
    plan: Plan
    causes: tuple[str, ...]
    """Relative references of the facts that changed the course."""
    ledger: Mapping[str, Any]
    """What this destination said it holds of the course: JSON values that only it reads; empty at first."""
    intents: Intents | None = None
    """Where creates that can't be looked for are remembered before they are sent; None: in `progress` alone."""
    progress: Progress = field(default_factory=Progress, compare=False)
    """Kept current by the destination while it works."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A destination has taken the plan."""

    ledger: Mapping[str, Any]
    """What to hand to it with the next plan."""
    route: Route
    respected: tuple[str, ...] = ()
    """Statuses that a clinician set and that were left as they are: `careplan completed`."""
    completed: tuple[Mapping[str, Any], ...] = ()
    """Tasks that a clinician completed there, as events would bring them: answers to what the plan asks."""
    acts: tuple[Act, ...] = ()
    """What else clinicians did there to what is ours."""


class Destination(Protocol):
    """Where plans go. `deliver` may be called for several courses at once, never twice for one."""

    @property
    def name(self) -> str:
        """Name of the destination in the configuration and in the deliveries."""

    @property
    def at_once(self) -> int:
        """How many plans it takes at the same time."""

    async def deliver(self, delivery: PlanDelivery) -> Delivered:
        """Return once the destination has acknowledged the plan. Raises Transient or Permanent."""

    async def close(self) -> None:
        """Let go of connections; what is not acknowledged counts as not delivered."""
