"""`ipt-bridge backfill`: from settings and words to a job, its place and the intake."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console

from service import app
from service.backfill.consuming import of_topics
from service.backfill.exporting import Wanted, exported
from service.backfill.files import files_of, of_files
from service.backfill.loading import Loading
from service.backfill.portions import UNKNOWN_TIME, Refusal
from service.backfill.searching import PAGE_SIZE, Query, instant, searched
from service.clients import kafka_options, source_client
from service.commands import backfill_screen
from service.configuration import load_settings
from service.inbound.references import resource_id
from service.inbound.relevance import READ_TYPES
from service.rest.bulk import BulkExport
from service.rest.errors import Transient
from service.telemetry import configure_logging

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncGenerator, Callable, Sequence

    from service.backfill.loading import Told
    from service.backfill.portions import Portion, Position
    from service.inbound.records import SourceContext
    from service.settings import Settings, Source

FOUND = 1
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
_TRIED_AGAIN = " It is tried again by itself."

backfill = typer.Typer(
    no_args_is_help=True,
    help=(
        "Load history: what an EHR, its exports or a topic already hold. The same command goes on where an earlier "
        "run was ended; one that is done reads everything again, which is harmless. Exit code 1 if anything is "
        "parked, or the source did not give all that it has."
    ),
)

Config = Annotated[Path | None, typer.Option("--config", help="TOML file; else IPT_CONFIG, else ./ipt-bridge.toml.")]
SourceId = Annotated[str | None, typer.Option("--source", help="As this source's; needed with several.")]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew, whatever an earlier run has read.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a text for people.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only this resource type; may be given again. Else those of the source's topics."),
]
Since = Annotated[
    datetime | None,
    typer.Option("--since", formats=_FORMATS, help="Only what changed then or later; without zone, in the source's."),
]


@backfill.command()
def search(  # noqa: PLR0913, PLR0917 - typer reads the options from the parameters
    config: Config = None,
    source: SourceId = None,
    since: Since = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=_FORMATS, help="Only what changed before.")
    ] = None,
    types: Types = None,
    patients: Annotated[
        Path | None, typer.Option("--patients", help="Only these patients': a file with an id on each line.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Read every version that the server keeps: it tells of deletes too.")
    ] = False,
    page_size: Annotated[int, typer.Option("--page-size", min=1, max=5000, help="Resources a page.")] = PAGE_SIZE,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Search the source's FHIR server (its `fhir_base`), page by page.

    A search tells of no deletes; `--history` does, where the server keeps one.
    Example: `ipt-bridge backfill search --since 2026-01-01`
    """
    settings = load_settings(config)
    chosen = _source(settings, source)
    context = _context(settings, chosen)
    if history and (patients is not None or until is not None):
        raise typer.BadParameter("it goes with neither --patients nor --until", param_hint="--history")
    ids = None if patients is None else _ids(patients)
    begin, end = _in_zone(since, context), _in_zone(until, context)
    may_lack = frozenset() if types else app.may_lack(chosen)
    query = Query(_types(types, chosen), begin, end, ids, history, may_lack, page_size)
    identity = [chosen.fhir_base, *query.types, str(begin), str(end), ids, history]

    async def portions(position: Position) -> AsyncGenerator[Portion, None]:
        async with (
            source_client(chosen) as client,
            aclosing(searched(client, query, context, app.now, position)) as found,
        ):
            async for portion in found:
                yield portion

    _load(settings, _Job(chosen.id, "search", identity, portions), restart=restart, as_json=as_json)


@backfill.command()
def files(  # noqa: PLR0913, PLR0917 - typer reads the options from the parameters
    paths: Annotated[list[Path], typer.Argument(help="NDJSON files, packed by gzip or not, or folders of them.")],
    config: Config = None,
    source: SourceId = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=_FORMATS,
            help="When they were written: the age of what does not say when it changed. Else all else is newer.",
        ),
    ] = None,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Read files of FHIR resources, one on each line, as bulk exports have them.

    Example: `ipt-bridge backfill files export/`
    """
    settings = load_settings(config)
    chosen = _source(settings, source)
    written = _in_zone(as_of, _context(settings, chosen)) or UNKNOWN_TIME
    named = files_of(paths)
    identity = [str(written), *map(str, named)]

    def portions(position: Position) -> AsyncGenerator[Portion, None]:
        return of_files(named, chosen.id, settings.limits.bytes, written, position)

    _load(settings, _Job(chosen.id, "files", identity, portions), restart=restart, as_json=as_json)


@backfill.command()
def export(  # noqa: PLR0913, PLR0917 - typer reads the options from the parameters
    config: Config = None,
    source: SourceId = None,
    since: Since = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Only the patients of this Group, by its id; else all patients.")
    ] = None,
    types: Types = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Fetch files from this host too (name or name:port); may be given again."),
    ] = None,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Have the source's FHIR server export (Bulk Data), wait for it, and read the files.

    Example: `ipt-bridge backfill export --group ipt-patients`
    """
    settings = load_settings(config)
    chosen = _source(settings, source)
    context = _context(settings, chosen)
    if group is not None and not resource_id(group):
        raise typer.BadParameter("it is no resource id", param_hint="--group")
    # A server that exports has Patients; one that knows no Task refuses the whole export.
    lacked = frozenset() if types else app.may_lack(chosen) - {"Patient"}
    kinds = tuple(each for each in _types(types, chosen) if each not in lacked)
    begin = _in_zone(since, context)
    parameters = [("_type", ",".join(kinds)), *([("_since", instant(begin))] if begin else [])]
    wanted = Wanted(tuple(parameters), frozenset(kinds), group)
    hosts = frozenset(each.lower() for each in allow_host or ())

    async def portions(position: Position) -> AsyncGenerator[Portion, None]:
        async with source_client(chosen) as client:
            server = BulkExport(client, hosts)
            async with aclosing(exported(server, wanted, context, settings.limits.bytes, position)) as found:
                async for portion in found:
                    yield portion

    identity = [chosen.fhir_base, group, *map(list, parameters)]
    _load(settings, _Job(chosen.id, "export", identity, portions), restart=restart, as_json=as_json)


@backfill.command()
def topic(
    names: Annotated[list[str] | None, typer.Argument(help="Topics of the source; without any, all of them.")] = None,
    config: Config = None,
    source: SourceId = None,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Read topics from their beginning to where they end now; the service's own offsets stay as they are.

    Example: `ipt-bridge backfill topic fhir.encounter`
    """
    settings = load_settings(config)
    chosen = _source(settings, source)
    known = [each.name for each in chosen.topics]
    read = sorted(set(names or known))
    if not set(read) <= set(known):
        raise typer.BadParameter(f"the source has {', '.join(known)}", param_hint="NAMES")

    def portions(position: Position) -> AsyncGenerator[Portion, None]:
        return of_topics(kafka_options(settings.kafka), read, position)

    _load(settings, _Job(chosen.id, "topic", read, portions), restart=restart, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Job:
    source: str
    kind: str
    identity: Sequence[Any]
    """What is read: the same makes the same job."""
    portions: Callable[[Position], AsyncGenerator[Portion, None]]

    @property
    def id(self) -> str:
        return blake2b(orjson.dumps([self.source, self.kind, self.identity]), digest_size=12).hexdigest()


def _load(settings: Settings, job: _Job, *, restart: bool, as_json: bool) -> None:
    """Run a job to its end, and say what it came to."""
    configure_logging(settings.log)
    try:
        with backfill_screen.watching(Console(stderr=True)) as told:
            counts = asyncio.run(_run(settings, job, told, restart=restart))
    except KeyboardInterrupt:
        typer.echo("ipt-bridge: Stopped. What is read is stored; the same command goes on from there.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Transient as error:
        _gave_up(error)
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(backfill_screen.as_json(counts), option=orjson.OPT_APPEND_NEWLINE))
    else:
        backfill_screen.result(Console(), counts)
    if counts["parked"] or counts["lacking"]:
        raise typer.Exit(FOUND)


async def _run(settings: Settings, job: _Job, told: Callable[[Told], None], *, restart: bool) -> Counter[str]:
    vitals = app.vitals_of(settings)
    async with await app.open_store(settings) as store:
        intake = app.intake(settings, store, vitals, app.all_mappings(settings))
        begun = await store.backfills.begin(job.id, job.source, job.kind, vitals.now(), anew=restart)
        async with aclosing(job.portions(dict(begun.position))) as found:
            size = settings.kafka.batch_size
            return await Loading(store, intake, begun, vitals.now, told, batch_size=size).run(found)


def _gave_up(error: Transient) -> NoReturn:
    text = str(error).removesuffix(_TRIED_AGAIN)
    raise Refusal(f"{text} What is read is stored; the same command goes on from there.") from None


def _source(settings: Settings, source: str | None) -> Source:
    found = [each for each in settings.sources if source in {None, each.id}]
    if len(found) != 1:
        names = ", ".join(each.id for each in settings.sources)
        raise typer.BadParameter(f"name one of the sources: {names}", param_hint="--source")
    return found[0]


def _context(settings: Settings, source: Source) -> SourceContext:
    return app.feed(source, app.all_mappings(settings)[source.id]).context


def _types(types: Sequence[str] | None, source: Source) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(types or app.types_of(source)))
    if not READ_TYPES.issuperset(chosen):
        raise typer.BadParameter(f"courses are made of {', '.join(sorted(READ_TYPES))} only", param_hint="--type")
    return chosen


def _in_zone(moment: datetime | None, source: SourceContext) -> datetime | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=source.time_zone)).astimezone(UTC)


def _ids(file: Path) -> tuple[str, ...]:
    """Return the patient ids in a file, `Patient/` before them or not."""
    if not file.is_file():
        raise typer.BadParameter(f"no such file: {file}", param_hint="--patients")
    lines = [line.strip().removeprefix("Patient/") for line in file.read_text("utf-8-sig").splitlines()]
    found = tuple(dict.fromkeys(line for line in lines if line))
    wrong = [number for number, line in enumerate(lines, 1) if line and not resource_id(line)]
    if wrong:
        raise typer.BadParameter(f"line {wrong[0]} is no patient id", param_hint="--patients")
    return found
