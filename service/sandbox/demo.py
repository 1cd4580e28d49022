"""The demo: real parts, synthetic patients, the service as it is run, and a table of what came of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from service.configuration import load_mappings, load_settings
from service.domain import state
from service.rest.transport import authorities
from service.sandbox.demo_table import MOST_ROWS, attention, table
from service.sandbox.disorder import Counts, counts, shuffle
from service.sandbox.documents import documents_only
from service.sandbox.events import CLINIC
from service.sandbox.hapi import FhirServer
from service.sandbox.kafka import Broker
from service.sandbox.patients import PERIOD, bystanders, generate, in_order, stream
from service.sandbox.process import Child, SandboxError, free_port
from service.sandbox.replay import PLANS, TOPICS, Standing, Watch, replay, topics, write_charts
from service.sandbox.starting import Loading, Part, start_all
from service.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.sandbox.events import Event
    from service.sandbox.mask import Mask
    from service.sandbox.patients import SyntheticPatient
    from service.settings import Settings

MISSING = 1
"""Exit code where a patient has no course, or a plan is not delivered."""
UNAVAILABLE = 69
"""Exit code where a part can't be had, as for the other commands."""
INTERRUPTED = 130
"""Exit code after Ctrl-C before the table, as a shell counts it."""
READY_S = 60.0
_AS = {"topic": "records of a Kafka topic", "document": "notes"}
"""What a plan is at its destination, by the route; by any other it is resources."""
WIDTH = 150
"""Columns of the table where no terminal says how wide it may be."""


def run(  # noqa: PLR0913 - the options of one command, each by its name
    *, patients: int, seed: int, speed: float, fhir: bool, once: bool, console: Console
) -> int:
    """Play so many patients through Kafka, the service and, with `fhir`, a FHIR server; return the exit code.

    `speed` is in events per second, 0 as fast as they go. Unless `once`, everything stays up until Ctrl-C.
    """
    today = datetime.now(CLINIC).date()
    # Settings of another installation are none of the demo's, nor of the service that it starts.
    for name in [name for name in os.environ if name.upper().startswith("IPT_")]:
        del os.environ[name]
    with suppress(ValueError):  # not in the main thread: then nobody sends it a signal either
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    people = generate(seed, patients, today - PERIOD)
    others = bystanders(seed, (patients + 3) // 4, today - PERIOD)
    demo = _Demo(people, shuffle(in_order([*stream(people), *others]), seed), speed, console)
    try:
        with ExitStack() as stack:
            return demo.play(stack, fhir=fhir, once=once)
    except SandboxError as error:
        console.print(f"ipt-bridge: {error}", style="red", markup=False, soft_wrap=True)
        return MISSING if isinstance(error, _IncompleteError) else UNAVAILABLE
    except KeyboardInterrupt:
        return INTERRUPTED


class _IncompleteError(SandboxError):
    """The demo has come to its end, and something is missing."""


@dataclass(frozen=True, slots=True)
class _Site:
    """The running parts, and the service's own settings."""

    broker: Broker
    server: FhirServer | None
    documents: Mask | None
    """A second EHR, which takes only documents."""
    config: Path
    settings: Settings
    mappings: Mappings

    @property
    def log(self) -> Path:
        return self.config.with_name("service.log")


@dataclass(frozen=True, slots=True)
class _Demo:
    people: Sequence[SyntheticPatient]
    events: Sequence[Event]
    speed: float
    console: Console

    def play(self, stack: ExitStack, *, fhir: bool, once: bool) -> int:
        """Start everything, show what comes of the events, and stay until Ctrl-C unless `once`."""
        site = self._start(stack, fhir=fhir)
        service = self._prepare(stack, site)
        began = time.monotonic()
        standing, courses, places = asyncio.run(self._replay(site, service))
        self._summary(standing, counts(self.events), time.monotonic() - began)
        self._places(places)
        self._table(courses, site)
        without = {each.patient_id for each in self.people} - {course.patient_id for course in courses}
        incomplete = ""
        if without or standing.behind:
            incomplete = (
                f"{len(without)} patients have no course, {standing.behind} plans are not delivered. Read {site.log}."
            )
        if once:
            if incomplete:
                raise _IncompleteError(incomplete)
            return 0
        self._say(incomplete, "red")
        self._look_further(courses, site)
        with suppress(KeyboardInterrupt):
            while service.running:
                time.sleep(0.5)
            raise SandboxError(f"The service ended by itself. Read {site.log}.")
        self.console.print("Stopping.")
        return MISSING if incomplete else 0

    def _start(self, stack: ExitStack, *, fhir: bool) -> _Site:
        """Load and start the parts, all at once."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[size]}"))
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            loading = Loading(bars)
            broker = Broker(progress=loading)
            server = FhirServer(progress=loading) if fhir else None
            parts: list[Part] = [broker, server] if server else [broker]
            for part in parts:
                stack.callback(part.stop)
            stack.callback(loading.give_up)
            what = "Kafka and the FHIR server" if fhir else "Kafka"
            bars.add_task(f"Starting {what}", total=None, size="")
            start_all(parts)
        documents = documents_only(server.base) if server else None
        if documents is not None:
            documents.start()
            stack.callback(documents.stop)
        folder = Path(tempfile.mkdtemp(prefix="ipt-bridge-demo-"))
        stack.push(lambda kind, *_: _forget(folder, failed=kind is not None and issubclass(kind, Exception)))
        config = folder / "ipt-bridge.toml"
        config.write_text(_config(broker, server, documents, folder))
        settings = load_settings(config)
        place = f"store  {settings.store.place}"
        chart = f"FHIR server {server.version}  {server.base}   " if server else ""
        self._say(f"Kafka {broker.version}  {broker.bootstrap}   {chart}{place}", "dim")
        if documents is not None:
            self._say(f"A second EHR, which takes only documents  {documents.base}", "dim")
        return _Site(broker, server, documents, config, settings, load_mappings(settings))

    def _prepare(self, stack: ExitStack, site: _Site) -> Child:
        """Make topics and tables, write the charts, and start the service."""
        with self._bars() as bars:
            asyncio.run(site.broker.create_topics(topics()))
            asyncio.run(_migrate(site.settings))
            if site.server is not None:
                total = len({(r["resourceType"], r["id"]) for each in self.people for r in each.resources})
                task = bars.add_task("charts", total=total)
                asyncio.run(write_charts(site.server.base, self.people, lambda: bars.advance(task)))
            bars.add_task("starting the service", total=None)
            command = [sys.executable, "-m", "service", "run", "--config", str(site.config)]
            service = Child("The service", command, log=site.log, remove=site.config.parent)
            stack.callback(service.stop)
            ready = f"http://{site.settings.http.host}:{site.settings.http.port}/readyz"
            service.wait_until(lambda: _answers(ready), deadline_s=READY_S)
        return service

    async def _replay(self, site: _Site, service: Child) -> tuple[Standing, list[Course], list[tuple[str, str | None]]]:
        """Send the events, watch the service; return where it stands, all courses by patient, and plans' ways.

        A way is a destination's name and the route by which it got a plan.
        """
        async with await Store.open(site.settings.store.sqlalchemy_url()) as store:
            group = site.settings.kafka.group_id
            watch = Watch(site.broker.bootstrap, group, store, lambda: service.running, str(site.log))
            with self._bars() as bars:
                tasks = {name: bars.add_task(name, total=None) for name in ("events sent", "events read", "plans")}

                def shown(now: Standing) -> None:
                    bars.update(tasks["events sent"], completed=now.sent, total=now.events)
                    bars.update(tasks["events read"], completed=now.read, total=now.events)
                    what = f"plans delivered of {now.courses} courses"
                    bars.update(tasks["plans"], completed=now.delivered, total=now.courses or None, description=what)

                standing = await replay(watch, self.events, self.speed, shown)
            courses = [
                state.load(stored.state)
                for patient in self.people
                for stored in await store.operators.courses_of_patient(patient.patient_id)
                if not stored.gone
            ]
            ways = [
                (each.destination, each.route)
                for course in courses
                for each in await store.operators.deliveries(course.id)
                if each.seen is not None
            ]
        return standing, courses, ways

    def _bars(self) -> Progress:
        columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.completed:,.0f}"))
        return Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=True)

    def _summary(self, standing: Standing, of: Counts, seconds: float) -> None:
        events = f"events {of.events:,} ({of.duplicates} duplicates, {of.late} late, {of.amended} amended)"
        plans = f"courses {standing.courses}   plans delivered {standing.delivered} of {standing.courses}"
        self._say(f"{events}   parked {standing.parked}   {plans}   {seconds:.1f} s", "bold")
        self._say("")

    def _places(self, ways: Sequence[tuple[str, str | None]]) -> None:
        """Print how many plans stand at each destination, and as what."""
        for destination in dict.fromkeys(name for name, _ in ways):
            routes = [route for name, route in ways if name == destination]
            kinds = sorted({_AS.get(route or "", "resources") for route in routes})
            self._say(f" {destination:<10} {len(routes)} plans as {' and '.join(kinds)}")
        self._say("")

    def _table(self, courses: Sequence[Course], site: _Site) -> None:
        # A file or a pipe has no width of its own, and a folded table reads badly there.
        wide = self.console if self.console.is_terminal else Console(file=self.console.file, width=WIDTH)
        wide.print(table(courses, site.mappings))
        legend = " ↓ reliably better   ↑ reliably worse   – no reliable change   ! today"
        rest = len(courses) - MOST_ROWS
        self._say(f" and {rest} more" if rest > 0 else "", "dim")
        self._say(legend, "dim")

    def _look_further(self, courses: Sequence[Course], site: _Site) -> None:
        """Print what to type next, about a course that needs attention if there is one."""
        urgent = [course for course in courses if attention(course, site.mappings).plain != "–"]
        lines = [("export IPT_CONFIG=" + str(site.config), "so that the next two look at this demo")]
        for course in (urgent or list(courses))[:1]:
            lines.append((f"ipt-bridge show {course.patient_id}", "the course, session by session"))
            lines.append((f"ipt-bridge explain {course.patient_id}", "why the plan says what it says"))
            if site.server is not None:
                plan = f"{site.server.base}/CarePlan/{course.resource_id('careplan')}"
                lines.append((f"curl -s {plan}", "the plan in the chart"))
            if site.documents is not None:
                notes = f"{site.documents.base}/DocumentReference?patient={course.patient_id}"
                lines.append((f"curl -s {notes}", "the plan as notes, at the second EHR"))
        for place, (command, meaning) in enumerate(lines):
            self._say(f"{'Next:' if place == 0 else '':<6} {command:<34}  {meaning}")
        self._say("Ctrl-C stops everything.")


async def _migrate(settings: Settings) -> None:
    async with await Store.open(settings.store.sqlalchemy_url()) as store:
        await store.migrate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, verify=authorities()).is_success
    except httpx.HTTPError:
        return False


def _forget(folder: Path, *, failed: bool) -> None:
    """Delete what the demo wrote, except where an error's message names a file of it."""
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)


def _config(broker: Broker, server: FhirServer | None, documents: Mask | None, folder: Path) -> str:
    """The service's settings, as an operator writes them."""
    topic_lines = "".join(f'  {{ name = "{name}", resource_type = "{kind}" }},\n' for kind, name in TOPICS.items())
    store = orjson.dumps(f"sqlite:///{folder / 'demo.sqlite'}").decode()  # JSON's strings are TOML's too
    ehrs = (("ehr", server), ("documents", documents))
    chart = "".join(
        f'\n[[destinations]]\nkind = "fhir"\nname = "{name}"\nbase = "{ehr.base}"\n' for name, ehr in ehrs if ehr
    )
    return f"""\
[kafka]
bootstrap = "{broker.bootstrap}"

[store]
url = {store}

[http]
port = {free_port()}

[[sources]]
id = "main"
time_zone = "{CLINIC.key}"
topics = [
{topic_lines}]

[[destinations]]
kind = "kafka"
topic = "{PLANS}"
{chart}"""
