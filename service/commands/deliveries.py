"""`ipt-bridge deliveries`: where each plan stands at each destination, and what a person decides about it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import orjson
import typer
from rich.console import Console

from service import app
from service.auditing import audited
from service.commands import delivery_screens
from service.commands.delivery_screens import Listed
from service.configuration import load_settings
from service.outbound.audit import audit_event
from service.settings import FhirDestination

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from service.settings import Settings
    from service.store import AuditEntry, DeliveryState, Store, StoredCourse

FOUND = 1
PAGE = 500
"""Deliveries read at a time."""

deliveries = typer.Typer(
    invoke_without_command=True, help="Where plans stand at each destination; try again, pause, resume."
)

Config = Annotated[Path | None, typer.Option("--config", help="TOML file; else IPT_CONFIG, else ./ipt-bridge.toml.")]
Place = Annotated[str | None, typer.Option("--destination", help="Only this destination.")]
Named = Annotated[str, typer.Argument(metavar="DESTINATION", help="Name of the destination in the settings.")]


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
        sys.stdout.buffer.write(
            orjson.dumps(delivery_screens.as_value(found), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
    else:
        delivery_screens.show(Console(), found)


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

    What was discarded, or parked as unanswered-create, is tried only where its course is named: look at it there first.

    Exit code 1 if there are none. Example: `ipt-bridge deliveries retry --destination ehr`
    """
    if not courses and destination is None:
        raise typer.BadParameter("name courses, or a destination.", param_hint="COURSE")
    settings = _settings(config, destination)
    count = asyncio.run(_retried(settings, destination, courses))
    if not count:
        _nothing("None of these waits, or each has to be named. `ipt-bridge deliveries` lists what waits.")
    typer.echo(f"{count} due at once; a running service tries them within seconds.")


@deliveries.command("audit")
def audit(
    course: Annotated[str, typer.Argument(metavar="COURSE", help="Course id, its first characters, or a patient id.")],
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a text for people.")] = False,  # noqa: FBT002 - typer reads options from the defaults
    fhir: Annotated[bool, typer.Option("--fhir", help="The writes as FHIR AuditEvents, a line each.")] = False,  # noqa: FBT002 - as above
) -> None:
    """List what was written of a course at each destination: what, when, by which route, and what was refused.

    Exit code 1 if nothing was. Example: `ipt-bridge deliveries audit P-0012`
    """
    settings = _settings(config, None)
    found = asyncio.run(_trail(settings, course))
    if not found:
        _nothing("Nothing was written of a course or patient of that id. `ipt-bridge deliveries --all` lists courses.")
    if fhir:
        bases = {each.name: each.base for each in settings.destinations if isinstance(each, FhirDestination)}
        told = (audited(e, c.patient, bases.get(e.destination)) for c, e in found if e.write is not None)
        for event in map(audit_event, told):
            sys.stdout.buffer.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
    elif as_json:
        lines = [delivery_screens.entry_as_value(entry) for _, entry in found]
        sys.stdout.buffer.write(orjson.dumps(lines, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        delivery_screens.show_trail(Console(), [entry for _, entry in found])


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


async def _trail(settings: Settings, name: str) -> list[tuple[StoredCourse, AuditEntry]]:
    async with _store(settings) as store:
        courses = await store.operators.courses_of_patient(name) or await store.operators.courses(name)
        return [(each, entry) for each in courses for entry in await store.desk.audit(each.course_id)]


async def _paused(settings: Settings, destination: str) -> None:
    async with _store(settings) as store:
        await store.desk.pause(destination, app.now())


async def _resumed(settings: Settings, destination: str) -> bool:
    async with _store(settings) as store:
        return await store.desk.resume(destination)
