"""What `ipt-bridge deliveries` prints: for people, and as JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from rich.console import Console

    from service.store import AuditEntry, DeliveryState, Standing

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Listed:
    """How destinations stand, and the deliveries that were asked for."""

    standings: Sequence[Standing]
    deliveries: Sequence[DeliveryState]
    at: datetime


def as_value(found: Listed) -> dict[str, Any]:
    """Return what is listed as JSON values."""
    return {
        "destinations": [
            {
                "name": each.destination,
                "courses": each.courses,
                "behind": each.behind,
                "oldestBehindSince": each.oldest,
                "waitingForAPerson": each.stopped,
                "pausedSince": each.paused_since,
            }
            for each in found.standings
        ],
        "deliveries": [
            {
                "course": each.course_id,
                "destination": each.destination,
                "wanted": each.wanted_counter,
                "wantedRevision": each.wanted,
                "seen": each.seen_counter,
                "seenRevision": each.seen,
                "seenAt": each.seen_at,
                "behindSince": each.behind_since,
                "route": each.route,
                "attempts": each.attempts,
                "nextAttempt": each.next_attempt,
                "outcome": each.outcome,
            }
            for each in found.deliveries
        ],
    }


def show(console: Console, found: Listed) -> None:
    """Print how each destination stands, then each delivery that was asked for, a line each."""
    for each in found.standings:
        parts = [f"{each.courses - each.behind} of {each.courses} delivered"]
        if each.oldest is not None:
            parts.append(f"oldest waits {age(found.at - each.oldest)}")
        if each.stopped:
            parts.append(f"{each.stopped} wait for a person")
        if each.paused_since is not None:
            parts.append(f"paused for {age(found.at - each.paused_since)}")
        console.print(Text(f"{each.destination}: {', '.join(parts)}"), soft_wrap=True)
    if not found.deliveries:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("course", "destination", "wanted", "seen", "behind", "route", "attempts", "next", "last outcome"):
        table.add_column(heading, no_wrap=heading == "course")
    for delivery in found.deliveries:
        table.add_row(
            delivery.course_id,
            delivery.destination,
            str(delivery.wanted_counter),
            str(delivery.seen_counter or "–"),
            age(found.at - delivery.behind_since) if delivery.behind_since else "–",
            delivery.route or "–",
            str(delivery.attempts),
            _next(delivery, found.at),
            delivery.outcome or ("–" if delivery.behind_since else "delivered"),
        )
    console.print(table, highlight=False)


def _next(delivery: DeliveryState, at: datetime) -> str:
    if delivery.next_attempt is not None:
        return "now" if delivery.next_attempt <= at else f"in {age(delivery.next_attempt - at)}"
    return "retry it" if delivery.behind_since else "–"


def age(span: timedelta) -> str:
    """Return a span of time in its largest whole unit, as `5 min`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < _MINUTE_S:
        return f"{seconds} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S} min"
    return f"{seconds // _HOUR_S} h" if seconds < 2 * _DAY_S else f"{seconds // _DAY_S} days"


def entry_as_value(entry: AuditEntry) -> dict[str, Any]:
    """Return a line of the audit trail as JSON values."""
    write = entry.write
    return {
        "at": entry.at,
        "agent": entry.agent,
        "course": entry.course_id,
        "destination": entry.destination,
        "revision": entry.revision,
        "counter": entry.counter,
        "route": entry.route,
        "outcome": entry.outcome,
        "write": None
        if write is None
        else {name: value for name, value in write._asdict().items() if name != "outcome"},
    }


def show_trail(console: Console, entries: Sequence[AuditEntry]) -> None:
    """Print the audit trail, a line each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("when", "destination", "revision", "route", "outcome", "what", "resource", "version"):
        table.add_column(heading)
    for entry in entries:
        write = entry.write
        table.add_row(
            entry.at.isoformat(timespec="seconds"),
            entry.destination,
            str(entry.counter),
            entry.route or "–",
            entry.outcome,
            write.action if write else "–",
            f"{write.resource_type}/{write.resource_id or '?'}" if write else "–",
            (write.version if write else None) or "–",
        )
    console.print(table, highlight=False)
