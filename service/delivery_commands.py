"""`ipt-bridge deliveries`: where each plan stands at each destination, and what a person decides about it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service import app
from service.configuration import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime, timedelta

    from service.settings import Settings
    from service.store import DeliveryState, Standing, Store

FOUND = 1
PAGE = 500
"""Deliveries read at a time."""
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400

deliveries = typer.Typer(
    invoke_without_command=True, help="Where plans stand at each destination; try again, pause, resume."
)

Config = Annotated[Path | None, typer.Option("--config", help="TOML file; else IPT_CONFIG, else ./ipt-bridge.toml.")]
Place = Annotated[str | None, typer.Option("--destination", help="Only this destination.")]
Named = Annotated[str, typer.Argument(metavar="DESTINATION", help="Name of the destination in the settings.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """How destinations stand, and the deliveries that were asked for."""

    standings: Sequence[Standing]
    deliveries: Sequence[DeliveryState]
    at: datetime


@deliveries.callback()
def listed(
    context: typer.Context,
    config: Config = None,
    destination: Place = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that the destination has acknowledged.")] = False,  # noqa: FBT002 - typer reads options from the defaults
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a text for people.")] = False,  # noqa: FBT002 - as above
) -> None:
    """List the deliveries that a destination is behind in: wanted against seen, since when, by which route, and why.

    Example: `ipt-bridge deliveries --destination ehr`
    """
    if context.invoked_subcommand is not None:
        return
    settings = _settings(config, destination)
    found = asyncio.run(_listed(settings, destination, every=every))
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(as_value(found), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        show(Console(), found)


@deliveries.command("retry")
def retry(
    courses: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COURSE]…", help="Course ids, their first characters, or patient ids."),
    ] = None,
    destination: Place = None,
    config: Config = None,
) -> None:
    """Try deliveries again at once: of these courses, or all of a destination that wait for a person.

    Exit code 1 if there are none. Example: `ipt-bridge deliveries retry --destination ehr`
    """
    if not courses and destination is None:
        raise typer.BadParameter("name courses, or a destination.", param_hint="COURSE")
    settings = _settings(config, destination)
    count = asyncio.run(_retried(settings, destination, courses))
    if not count:
        _nothing("None of these waits. `ipt-bridge deliveries` lists what does.")
    typer.echo(f"{count} due at once; a running service tries them within seconds.")


@deliveries.command("pause")
def pause(destination: Named, config: Config = None) -> None:
    """Deliver nothing more to a destination, in any worker, until it is resumed. Plans wait; the intake goes on.

    Example: `ipt-bridge deliveries pause ehr`
    """
    settings = _settings(config, destination)
    asyncio.run(_paused(settings, destination))
    typer.echo(f"{destination} is paused. Plans wait until `ipt-bridge deliveries resume {destination}`.")


@deliveries.command("resume")
def resume(destination: Named, config: Config = None) -> None:
    """Deliver to a paused destination again: of each course the newest plan only.

    Exit code 1 if it was not paused. Example: `ipt-bridge deliveries resume ehr`
    """
    settings = _settings(config, destination)
    if not asyncio.run(_resumed(settings, destination)):
        _nothing(f"{destination} was not paused.")
    typer.echo(f"{destination} is delivered to again.")


def _settings(config: Path | None, destination: str | None) -> Settings:
    settings = load_settings(config)
    names = [each.name for each in settings.destinations]
    if destination is not None and destination not in names:
        raise typer.BadParameter(f"name one of {', '.join(names)}.", param_hint="DESTINATION")
    return settings


def _nothing(text: str) -> NoReturn:
    typer.echo(f"ipt-bridge: {text}", err=True)
    raise typer.Exit(FOUND)


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    async with await app.open_store(settings) as store:
        yield store


async def _listed(settings: Settings, destination: str | None, *, every: bool) -> Listed:
    names = [each.name for each in settings.destinations if destination in {None, each.name}]
    found: list[DeliveryState] = []
    async with _store(settings) as store:
        standings = await store.desk.standings(names)
        after = None
        while page := await store.desk.deliveries(destination, behind=not every, after=after, limit=PAGE):
            found += page
            after = page[-1].destination, page[-1].course_id
    return Listed(standings, [each for each in found if each.destination in names], app.now())


async def _retried(settings: Settings, destination: str | None, names: Sequence[str] | None) -> int:
    async with _store(settings) as store:
        ids: list[str] | None = None
        if names:
            ids = []
            for name in names:
                found = await store.operators.courses_of_patient(name) or await store.operators.courses(name)
                ids += [each.course_id for each in found]
        return await store.desk.retry(destination, ids, app.now())


async def _paused(settings: Settings, destination: str) -> None:
    async with _store(settings) as store:
        await store.desk.pause(destination, app.now())


async def _resumed(settings: Settings, destination: str) -> bool:
    async with _store(settings) as store:
        return await store.desk.resume(destination)


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
