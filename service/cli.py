"""Commands: what an operator types. Each reads the settings, does one thing, and says what to do if it can't.

Exit codes: 0 done; 1 done, and something was found (a check failed, courses differ, nothing of that name);
2 wrong usage; 69 a part (Kafka, database, FHIR server) can't be reached; 70 a defect; 78 wrong settings or mappings.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime  # noqa: TC003 - typer reads the type of an option
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import orjson
import structlog
import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from service import app
from service.backfill.portions import Refusal
from service.commands import (
    inspection,
    operations,
    reading_screen,
    screens,
    sources,
    sources_screen,
    statements,
    whatif,
)
from service.commands.backfill import backfill
from service.commands.deliveries import deliveries
from service.commands.keys import keys
from service.configuration import ConfigurationError, load_mappings, load_settings, load_vendor_profiles
from service.domain import catalogue
from service.domain.mappings import MappingError
from service.kafka_trouble import KafkaTrouble
from service.outbound.negotiation import negotiate as negotiated
from service.rest.capabilities import NotNegotiable
from service.rest.errors import Permanent
from service.rest.transport import Unusable
from service.store import ParkedState, StoreError
from service.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from service.settings import Settings

FOUND = 1
UNAVAILABLE = 69
DEFECT = 70
WRONG_SETTINGS = 78
GARBAGE = (100_000, 50, 100)
"""A batch makes tens of thousands of short-lived values: Python's default thresholds cost it a third of its time."""

log = structlog.get_logger(__name__)
cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Keeps an Interpersonal Psychotherapy CarePlan current in the EHR, from the FHIR events that it streams.",
)
parked = typer.Typer(no_args_is_help=True, help="What can't go on without a person: look, try again, discard.")
cli.add_typer(parked, name="parked")
cli.add_typer(backfill, name="backfill")
cli.add_typer(deliveries, name="deliveries")
cli.add_typer(keys, name="keys")

Config = Annotated[Path | None, typer.Option("--config", help="TOML file; else IPT_CONFIG, else ./ipt-bridge.toml.")]
FhirVersion = Literal["R4", "R4B", "R5"]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a text for people.")]
SourceId = Annotated[str | None, typer.Option("--source", help="Only this source, where several have that patient.")]


@cli.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
) -> None:
    """Options of every command."""
    _Debug.on = debug


class _Debug:
    on = False


@cli.command()
def run(config: Config = None) -> None:
    """Read events, keep courses, deliver plans, until SIGTERM or Ctrl-C.

    Example: `ipt-bridge run --config /etc/ipt-bridge.toml`
    """
    settings = load_settings(config)
    configure_logging(settings.log)
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    asyncio.run(_until_signal(settings))


async def _until_signal(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await app.serve(settings, stop)


@cli.command()
def migrate(config: Config = None) -> None:
    """Bring the database's tables to this release.

    Example: `ipt-bridge migrate`
    """
    settings = load_settings(config)
    found = asyncio.run(operations.migrate(settings))
    typer.echo(f"{settings.store.place}: was {found.current or 'empty'}, is {found.head}.")


@cli.command()
def check(
    config: Config = None,
    mappings_only: Annotated[
        bool, typer.Option("--mappings-only", help="Only the mapping files; nothing is connected to.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try settings, mappings, Kafka, database and FHIR servers, and say what is wrong. Sends no patient data.

    Each server is tried from its certificate over token and rights to the routes of a plan; nothing is stored there.
    Exit code 1 if anything is wrong; what is only to be looked at changes nothing. Example: `ipt-bridge check`
    """
    settings = load_settings(config)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the results say it in words
    results = asyncio.run(operations.check(settings, mappings_only=mappings_only))
    if as_json:
        _print_json([asdict(each) for each in results])
    else:
        screens.checks(Console(), results)
    if not all(each.ok for each in results):
        raise typer.Exit(FOUND)


@cli.command()
def read(  # noqa: PLR0913, PLR0917 - typer reads the options from the parameters
    files: Annotated[list[Path], typer.Argument(help="Files to read; `-` is standard input.")],
    config: Config = None,
    source: Annotated[str | None, typer.Option("--source", help="Read as this source's; needed with several.")] = None,
    fhir_version: Annotated[
        FhirVersion | None, typer.Option("--fhir-version", help="Also say where a resource deviates from its model.")
    ] = None,
    headers: Annotated[
        list[str] | None, typer.Option("--headers", help="A record header, as name=value; may be given again.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each change.")] = False,
) -> None:
    """Say what the service makes of records in files, and why. Writes nothing, connects to nothing.

    A file is a record's value (JSON or NDJSON), or a record as `{"key", "headers", "value"}` or as `kcat -J`
    writes it, one for each line. Exit code 1 if anything would be parked.
    Example: `ipt-bridge read event.json`
    """
    settings = load_settings(config)
    pairs = [each.partition("=") for each in headers or ()]
    missing = [str(path) for path in files if str(path) != "-" and not path.is_file()]
    if missing:
        raise typer.BadParameter(f"no such file: {', '.join(missing)}", param_hint="FILES")
    contents = ((str(path), sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()) for path in files)
    waiting = False
    try:
        for each in operations.read(
            settings, contents, source, {name.strip(): value for name, _, value in pairs}, fhir_version
        ):
            waiting = waiting or any(found.parked for found in each.inspected)
            if as_json:
                _print_lines(inspection.as_json(found, each.feed) for found in each.inspected)
            else:
                reading_screen.show(Console(), each, name=len(files) > 1 or each.number > 1)
    except operations.UnknownSource as unknown:
        raise typer.BadParameter(f"name one of the sources: {unknown}", param_hint="--source") from None
    if waiting:
        raise typer.Exit(FOUND)


@cli.command()
def demo(
    patients: Annotated[int, typer.Option(min=1, max=500, help="How many synthetic patients.")] = 40,
    speed: Annotated[float, typer.Option(min=0, help="Events per second; 0: as fast as they go.")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed, other patients.")] = 1,
    no_fhir: Annotated[bool, typer.Option("--no-fhir", help="Kafka and SQLite only; starts in seconds.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Exit when the table is printed.")] = False,
) -> None:
    """Play synthetic patients through a real Kafka broker and a real FHIR server, and show their courses.

    Needs the extra `sandbox`. Example: `ipt-bridge demo --patients 10 --once`
    """
    from service.sandbox.demo import run as play  # noqa: PLC0415 - the sandbox is an extra, absent in production

    code = play(patients=patients, seed=seed, speed=speed, fhir=not no_fhir, once=once, console=Console())
    raise typer.Exit(code)


@cli.command()
def show(patient: str, config: Config = None, source: SourceId = None, as_json: AsJson = False) -> None:
    """Show a patient's courses, session by session.

    Exit code 1 if there is none. Example: `ipt-bridge show P-0012`
    """
    settings = load_settings(config)
    courses = asyncio.run(operations.courses_of_patient(settings, patient, source))
    if not courses:
        _not_found("No course of a patient with this id. Look at `ipt-bridge parked list` for events that wait.")
    if as_json:
        _print_json([operations.as_json(each) for each in courses])
    else:
        screens.courses(Console(), courses)


@cli.command()
def explain(
    course: Annotated[str, typer.Argument(help="Course id, its first characters, or a patient id.")],
    field: Annotated[
        str | None,
        typer.Argument(help="Only this field of the course (phase, changes/phq-9), or this rule (review.firm)."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say why a course's plan says what it says: rules, sources and facts.

    Exit code 1 if there is none. Example: `ipt-bridge explain P-0012`
    """
    settings = load_settings(config)
    explained = asyncio.run(operations.explained(settings, course, field))
    if not explained:
        _not_found("No course of that id, or nothing of that name in it. `ipt-bridge explain PATIENT` lists all.")
    if as_json:
        _print_json([operations.reasons_as_json(each) for each in explained])
    else:
        screens.reasons(Console(), explained)


@cli.command()
def rules(
    config: Config = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As mappings/RULES.md has it.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every rule, protocol and instrument with its thresholds: value, unit, version and source.

    Example: `ipt-bridge rules`
    """
    entries = catalogue.catalogue(load_mappings(load_settings(config)))
    if as_json:
        _print_json([screens.rule_as_json(each) for each in entries])
    elif markdown:
        sys.stdout.buffer.write(catalogue.markdown(entries).encode())
    else:
        screens.rules(Console(), entries)


@cli.command()
def verify(config: Config = None, as_json: AsJson = False) -> None:
    """Recompute every course from its facts and compare it with what is stored.

    Exit code 1 if any differs. Example: `ipt-bridge verify`
    """
    settings = load_settings(config)
    result = asyncio.run(operations.verify(settings, sys.stderr.isatty()))
    if as_json:
        _print_json(
            {
                "patients": result.patients,
                "courses": result.courses,
                "different": [list(key) for key in result.different],
                "putOff": result.put_off,
            }
        )
    else:
        screens.verified(Console(), result)
    if result.different:
        raise typer.Exit(FOUND)


@cli.command()
def artifacts(
    out: Annotated[Path, typer.Option("--out", help="Folder; the package goes into `package/` below it.")],
    config: Config = None,
) -> None:
    """Write the mappings as a FHIR package: questionnaires, terminology, extensions, protocols.

    Example: `ipt-bridge artifacts --out ./fhir`
    """
    count = operations.artifacts(load_settings(config), out)
    typer.echo(f"{out / 'package'}: {count} resources.")


@cli.command("whatif")
def what_if(
    mappings: Annotated[Path, typer.Option("--mappings", help="Folder of the other mappings, whole.")],
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=["%Y-%m-%d"], help="Only courses with anything on that day or later."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Project every stored fact under other mappings, and say what would change. Writes nothing.

    Exit code 1 if anything would. Example: `ipt-bridge whatif --mappings ./edited-mappings`
    """
    settings = load_settings(config)
    summary = asyncio.run(_what_if(settings, mappings, since.date() if since else None, as_json=as_json))
    if summary.patients_changed:
        raise typer.Exit(FOUND)


async def _what_if(settings: Settings, folder: Path, since: date | None, *, as_json: bool) -> whatif.Summary:
    """Print each patient's differences as they are found, so that memory stays bounded."""
    summary, console, first = whatif.Summary(), Console(), True
    # Closed here, where the reader of the output may go away: else its store is left to the interpreter.
    async with aclosing(operations.compared(settings, folder, since, summary, progress=sys.stderr.isatty())) as found:
        async for changed in found:
            if as_json:
                sys.stdout.buffer.write(b'{"patients":[\n' if first else b",\n")
                sys.stdout.buffer.write(orjson.dumps(screens.changed_as_json(changed)))
            else:
                screens.changed(console, changed)
            first = False
    if as_json:
        sys.stdout.buffer.write(b'{"patients":[' if first else b"\n")
        sys.stdout.buffer.write(b'],"summary":' + orjson.dumps(screens.summary_as_json(summary)) + b"}\n")
        sys.stdout.buffer.flush()
    else:
        screens.compared(console, summary)
    return summary


@cli.command()
def negotiate(  # noqa: PLR0913, PLR0917 - typer reads the options from the parameters
    server: Annotated[str, typer.Argument(metavar="URL|FILE", help="FHIR base URL, or a CapabilityStatement's file.")],
    smart: Annotated[
        Path | None, typer.Option("--smart", help="File of its smart-configuration; a URL's own is fetched.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="A file of mappings/ehr/, instead of the one that is recognised.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca", help="PEM file of the server's authorities; else the public ones.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say by which route each resource of a plan would get into an EHR, and why. Sends no patient data.

    Exit code 1 if the statement is no FHIR R4 server's. Example: `ipt-bridge negotiate https://ehr.example.org/fhir`
    """
    profiles = load_vendor_profiles(load_settings(config))
    if profile is not None and profile not in profiles:
        raise typer.BadParameter(f"name one of {', '.join(sorted(profiles))}", param_hint="--profile")
    try:
        documents = statements.documents(server, smart, ca_file)
        found = negotiated(documents.metadata, documents.smart, profiles, base=documents.base, profile=profile)
    except FileNotFoundError as missing:
        raise typer.BadParameter(
            f"no such file: {missing.filename} (a URL starts with https://)", param_hint="URL|FILE"
        ) from None
    except Unusable as unusable:
        raise typer.BadParameter(str(unusable), param_hint="--ca") from None
    except NotNegotiable as refused:
        _not_found(str(refused))
    if as_json:
        _print_json(found.as_json())
    else:
        screens.negotiated(Console(), found)


@cli.command("sources")
def list_sources(
    config: Config = None,
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    settle: Annotated[
        str | None,
        typer.Option(
            "--settle", metavar="SOURCE", help="Close this source's gaps first: what they hide came in another way."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show each source: last event, lag, what came of changes, gaps in event numbers, deviations from FHIR, parked.

    Example: `ipt-bridge sources`
    """
    settings = load_settings(config)
    try:
        settled = None if settle is None else asyncio.run(operations.settle(settings, settle))
        found = asyncio.run(operations.sources(settings, source))
    except operations.UnknownSource as unknown:
        raise typer.BadParameter(f"name one of the sources: {unknown}", param_hint="--source") from None
    if as_json:
        _print_json([sources.as_json(each) for each in found])
        return
    if settled is not None:
        typer.echo(f"{settled} gaps of {settle} closed.")
    sources_screen.show(Console(), found)


@parked.command("list")
def parked_list(
    config: Config = None,
    every: Annotated[bool, typer.Option("--all", help="Also what was retried or discarded.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is parked, oldest first. Never shows what it holds."""
    settings = load_settings(config)
    items = asyncio.run(operations.parked(settings, None if every else ParkedState.OPEN))
    if as_json:
        _print_json(items)
    else:
        screens.parked(Console(), items)


@parked.command("show")
def parked_show(
    item: int,
    config: Config = None,
    content: Annotated[
        bool, typer.Option("--content", help="Print the record as it came: patient data on your screen.")
    ] = False,
) -> None:
    """Show one parked item, why it is parked and what to do."""
    settings = load_settings(config)
    found = asyncio.run(operations.parked_item(settings, item))
    if found is None:
        _not_found("Nothing is parked under this number. `ipt-bridge parked list --all` lists all.")
    screens.parked_item(Console(), found)
    if content and found.record is not None:
        sys.stdout.buffer.write((found.record.value or b"") + b"\n")


@parked.command("retry")
def parked_retry(items: list[int], config: Config = None) -> None:
    """Try parked items again; what still can't go on is parked again. Exit code 1 if anything is."""
    settings = load_settings(config)
    waiting = asyncio.run(operations.retry(settings, items))
    typer.echo(f"{len(items) - len(waiting)} went on, {len(waiting)} wait again.")
    if waiting:
        raise typer.Exit(FOUND)


@parked.command("discard")
def parked_discard(
    items: list[int],
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the item. No patient data.")],
    config: Config = None,
) -> None:
    """Close parked items for good. They stay in the database with the reason."""
    settings = load_settings(config)
    closed = asyncio.run(operations.discard(settings, items, why))
    typer.echo(f"{closed} discarded.")


def _print_json(value: Any) -> None:  # noqa: ANN401 - whatever a command prints
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _print_lines(values: Iterable[Any]) -> None:
    for value in values:
        sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _not_found(text: str) -> NoReturn:
    typer.echo(f"ipt-bridge: {text}", err=True)
    raise typer.Exit(FOUND)


def main() -> NoReturn:
    """Run the command line, and say in one sentence what went wrong."""
    try:
        cli()
    except Exception as error:
        if _Debug.on:
            raise
        sys.exit(_explained(error))
    sys.exit(0)


def _explained(error: Exception) -> int:
    """Print what is wrong and what to do; return the exit code."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ConfigurationError() | MappingError() | app.NotMigrated():
            text, code = str(error), WRONG_SETTINGS
        case StoreError() | statements.Unreachable() | KafkaTrouble() | Permanent() | Refusal():
            text, code = str(error), UNAVAILABLE
        case KafkaError():
            text = (
                f"Kafka can't be reached or refuses ({type(error).__name__}). Set IPT_KAFKA__BOOTSTRAP or "
                "[kafka] bootstrap; `ipt-bridge check` tries it."
            )
            code = UNAVAILABLE
        case OSError():
            text = f"{error.strerror or type(error).__name__}. `ipt-bridge check` tries every part."
            code = UNAVAILABLE
        case ImportError():
            text, code = "The demo needs the extra: pip install 'ipt-bridge[sandbox]'.", WRONG_SETTINGS
        case _:
            text = f"A defect ({type(error).__name__}). Run it again with `ipt-bridge --debug …` and report that."
            code = DEFECT
    for line in text.splitlines():
        sys.stderr.write(f"ipt-bridge: {line}\n")
    return code


if __name__ == "__main__":
    main()
