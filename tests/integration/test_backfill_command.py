"""`ipt-bridge backfill` as an operator runs it, and kills it: files, a real FHIR server, a real broker."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from starlette.responses import Response

from service.domain.facts import PatientKey
from service.health import serving
from service.inbound.records import Record
from service.sandbox.patients import generate
from service.store import Store
from tests.fhir_source import FhirSource
from tests.integration.test_exporting import Exporter
from tests.property.strategies import START
from tests.property.test_backfill import held
from tests.workers import Clock, expected, worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.sandbox.events import Resource
    from service.sandbox.hapi import FhirServer
    from service.sandbox.kafka import Broker
    from service.store.values import PatientRecord

PATIENTS = generate(11, 3, START)
NAMES = [each.patient_id for each in PATIENTS]
OTHERS = b'{"resourceType":"Basic","id":"b"}\n'
DEADLINE_S = 120.0
POLL_S = 0.01


@dataclass(frozen=True)
class Site:
    """A configuration, a database and what is run on them."""

    folder: Path
    base: str = "http://127.0.0.1:9/fhir"
    kafka: str = "127.0.0.1:9"
    topic: str = "fhir.all"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "ipt.sqlite"

    def words(self, *words: str) -> list[str]:
        """Return a command line."""
        config = self.folder / "ipt-bridge.toml"
        config.write_text(
            f'destinations = []\n[kafka]\nbootstrap = ["{self.kafka}"]\nbatch_size = 10\n'
            f'[store]\nurl = "sqlite:///{self.database}"\n'
            f'[[sources]]\nid = "main"\ntime_zone = "America/New_York"\n'
            f'topics = ["{self.topic}"]\nfhir_base = "{self.base}"\n'
        )
        return [sys.executable, "-m", "service", *words, "--config", str(config)]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.words(*words), capture_output=True, text=True, check=False, timeout=DEADLINE_S)

    def killed(self, *words: str, after: int) -> int:
        """Run a command, kill it when so many records are stored, and return how many were then."""
        with subprocess.Popen(self.words(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + DEADLINE_S
            while self.read() < after and process.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_S)
            process.send_signal(signal.SIGKILL)
        assert -signal.SIGKILL == process.returncode, "it was done before it was killed: the run is void"
        return self.read()

    def read(self) -> int:
        """Return how many records are stored."""
        if not self.database.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
                rows = connection.execute("SELECT counts FROM backfill").fetchall()
        except sqlite3.OperationalError:  # the table is not there yet
            return 0
        return sum(orjson.loads(counts).get("read", 0) for (counts,) in rows)

    async def records(self, patients: Iterable[str] = NAMES) -> list[PatientRecord]:
        """Return the facts and courses of each patient."""
        keys = [PatientKey("main", each) for each in patients]
        async with await Store.open(f"sqlite:///{self.database}") as store:
            found = await store.operators.facts_and_courses(keys)
        return [found[key] for key in keys]

    async def courses(self, patients: Iterable[str] = NAMES) -> list[dict[str, bytes]]:
        """Return the courses of each patient."""
        records = await self.records(patients)
        return [{each.course_id: each.state for each in one.courses if not each.gone} for one in records]

    async def facts(self, patients: Iterable[str] = NAMES) -> list[set[Any]]:
        """Return the facts of each patient, order and digest included."""
        return [{*one.facts} for one in await self.records(patients)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a database of its own."""
    folder = tmp_path / "one"
    folder.mkdir()
    return Site(folder)


@pytest.fixture
def undisturbed(tmp_path: Path) -> Site:
    """Another site, for a run that nobody ends."""
    folder = tmp_path / "other"
    folder.mkdir()
    return Site(folder)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return what a run came to; fails with what it said if it came to nothing."""
    assert done.stdout, done.stderr
    found: dict[str, int] = orjson.loads(done.stdout)
    return found


def written(folder: Path) -> Path:
    """Write an export, most of whose lines are other resources."""
    lines = [orjson.dumps(each) + b"\n" for one in PATIENTS for each in held(one.events)]
    file = folder / "export.ndjson"
    file.write_bytes(b"".join(line + OTHERS * 60 for line in lines))
    return file


async def test_files_are_read_on_after_a_kill(
    site: Site, undisturbed: Site, tmp_path: Path, mappings: Mappings
) -> None:
    """Courses and facts are those of a run that nobody ended, and the courses those of the stream."""
    file = written(tmp_path)
    count = file.read_bytes().count(b"\n")
    kept = site.killed("backfill", "files", str(file), after=500)
    again = site.command("backfill", "files", str(file), "--json")
    whole = undisturbed.command("backfill", "files", str(file), "--json")
    assert (0, 0) == (again.returncode, whole.returncode), again.stderr
    assert (count, True) == (answer(again)["read"], 500 <= kept < count)
    assert {**answer(whole), "coursesChanged": 0} == {**answer(again), "coursesChanged": 0}
    assert await undisturbed.facts() == await site.facts()
    assert await undisturbed.courses() == await site.courses()
    assert streamed(mappings) == await site.courses()


def test_what_is_parked_makes_the_exit_code_and_is_told_without_its_content(site: Site, tmp_path: Path) -> None:
    """Progress is on standard error, what it came to on standard output; a retry finds its feed."""
    file = tmp_path / "export.ndjson"
    broken = {"resourceType": "QuestionnaireResponse", "id": "Jane-Doe", "questionnaire": "http://loinc.org/q/44249-1"}
    file.write_bytes(orjson.dumps(broken) + b"\n" + OTHERS)
    done = site.command("backfill", "files", str(file))
    assert (1, "2 records read: 0 relevant, 1 not ours, 1 parked.") == (done.returncode, done.stdout.splitlines()[0])
    listed = site.command("parked", "list")
    shown = site.command("parked", "show", "1")
    assert "backfill:main#" in listed.stdout
    assert 1 == site.command("parked", "retry", "1").returncode
    assert "Doe" not in done.stdout + done.stderr + listed.stdout + shown.stdout


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("files", "nowhere.ndjson"), 69, "There is no file nowhere.ndjson"),
        (("search", "--type", "Observation"), 2, "--type"),
        (("topic", "elsewhere"), 2, "NAMES"),
        (("export", "--group", "a/b"), 2, "--group"),
        (("search", "--source", "other"), 2, "--source"),
        (("search", "--history", "--until", "2026-01-01"), 2, "--history"),
    ],
)
def test_what_is_asked_wrongly_is_said(site: Site, words: Sequence[str], code: int, what: str) -> None:
    """Before anything is begun."""
    done = site.command("backfill", *words)
    assert code == done.returncode
    assert what in done.stderr
    assert not site.database.exists()


async def test_server_that_does_not_let_us_in_ends_the_command_with_what_to_do(site: Site) -> None:
    """At once, since waiting helps nobody; what was asked for is not told."""
    async with FhirSource(failing=[Response(status_code=401)] * 3).answering() as ehr:
        done = await asyncio.to_thread(Site(site.folder, base=ehr.base).command, "backfill", "search")
    assert 69 == done.returncode
    assert "credentials (401)" in done.stderr
    assert "goes on from there" in done.stderr
    assert "_lastUpdated" not in done.stderr


async def test_export_is_read_from_its_files(site: Site, mappings: Mappings) -> None:
    """The courses are those of the stream; what the server could not export makes the exit code."""
    resources = [each for one in PATIENTS for each in held(one.events)]
    files = {
        f"{kind}-1": b"\n".join(orjson.dumps(each) for each in resources if each["resourceType"] == kind)
        for kind in ("Encounter", "QuestionnaireResponse")
    }
    exporter = Exporter(files)
    async with serving(exporter.app(), "127.0.0.1", 0) as url:
        exporter.base = f"{url}/fhir"
        one = Site(site.folder, exporter.base)
        done = await asyncio.to_thread(one.command, "backfill", "export", "--group", "g-1", "--json")
        issue = {"severity": "error", "code": "exception", "diagnostics": "Ms Doe"}
        exporter.files["error-1"] = orjson.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
        again = await asyncio.to_thread(one.command, "backfill", "export", "--group", "g-1", "--json")
    assert (0, 0, 1, 1) == (done.returncode, answer(done)["lacking"], again.returncode, answer(again)["lacking"])
    assert streamed(mappings) == await one.courses()
    assert "Doe" not in again.stdout + again.stderr


async def test_topic_is_read_from_its_beginning(site: Site, kafka: Broker, mappings: Mappings) -> None:
    """The courses are those of the stream, and a second run changes nothing."""
    topic = f"all-{uuid.uuid4().hex}"
    await kafka.create_topics([NewTopic(topic, 2, 1)])
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for event in (event for each in PATIENTS for event in each.events):
            at = int(event.time.timestamp() * 1000)
            await producer.send(topic, event.value, key=event.key.encode(), timestamp_ms=at)
    one = Site(site.folder, kafka=kafka.bootstrap, topic=topic)
    first = await asyncio.to_thread(one.command, "backfill", "topic", "--json")
    again = await asyncio.to_thread(one.command, "backfill", "topic", "--json")
    events = sum(len(each.events) for each in PATIENTS)
    assert ((0, events), (0, events, 0)) == (
        (first.returncode, answer(first)["read"]),
        (again.returncode, answer(again)["read"], answer(again)["coursesChanged"]),
    )
    assert streamed(mappings) == await one.courses()


def streamed(mappings: Mappings) -> list[dict[str, bytes]]:
    """Return the courses that the stream's events come to by now."""
    return [expected(each.patient_id, each.events, mappings, as_of=datetime.now(UTC)) for each in PATIENTS]


@dataclass
class Chart:
    """A real FHIR server that holds the patients' resources with all their versions."""

    base: str
    http: httpx.Client

    def fill(self) -> None:
        """Write every version in turn; what refers to something that comes later waits for it."""
        people = {f"{each['resourceType']}/{each['id']}": each for one in PATIENTS for each in one.resources}
        people["Practitioner/PR-9"] = {"resourceType": "Practitioner", "id": "PR-9"}
        waiting = [("PUT", place, resource) for place, resource in people.items()]
        waiting += [
            ("DELETE" if event.resource is None else "PUT", event.key, event.resource or {})
            for event in (event for one in PATIENTS for event in one.events if event.broken is None)
            if event.key.startswith(("Encounter/", "QuestionnaireResponse/"))
        ]
        for _ in range(4):
            waiting = [each for each in waiting if not self._written(*each)]
        assert not [place for method, place, _ in waiting if method == "PUT"]

    def _written(self, method: str, place: str, resource: Resource) -> bool:
        content = (
            None
            if method == "DELETE"
            else orjson.dumps({name: each for name, each in resource.items() if name != "meta"})
        )
        headers = {"Content-Type": "application/fhir+json"}
        return self.http.request(method, place, content=content, headers=headers).is_success

    def history(self) -> list[bytes]:
        """Return the pages of the server's own history."""
        pages, link = [], f"{self.base}/_history?_count=50"
        while link:
            page = self.http.get(link)
            page.raise_for_status()
            pages.append(page.content)
            link = next((each["url"] for each in page.json()["link"] if each["relation"] == "next"), "")
        return pages


@pytest.fixture
def chart(fhir_server: FhirServer) -> Iterable[Chart]:
    """Return the shared server, emptied and filled."""
    fhir_server.reset()
    with httpx.Client(base_url=f"{fhir_server.base}/", timeout=180) as http:
        filled = Chart(fhir_server.base, http)
        filled.fill()
        yield filled


async def test_search_of_a_real_server_is_read_on_after_a_kill(
    site: Site, undisturbed: Site, chart: Chart, mappings: Mappings
) -> None:
    """Facts and courses are those of a run that nobody ended, and those that the server's history gives as events."""
    words = ("backfill", "search", "--page-size", "3")
    kept = Site(site.folder, chart.base).killed(*words, after=20)
    again = Site(site.folder, chart.base).command(*words, "--json")
    whole = Site(undisturbed.folder, chart.base).command(*words, "--json")
    assert (0, 0) == (again.returncode, whole.returncode), again.stderr
    assert (True, 0) == (20 <= kept < answer(again)["read"], answer(again)["lacking"])
    assert answer(whole)["read"] == answer(again)["read"]
    assert await undisturbed.facts() == await site.facts()
    assert await undisturbed.courses() == await site.courses()

    async with await Store.open(f"sqlite:///{site.folder}/streamed.sqlite") as store:
        await store.migrate()
        streaming = worker(store, mappings, Clock(datetime.now(UTC)), topics=("fhir.all",))
        records = [
            Record("fhir.all", 0, offset, datetime.now(UTC), None, page) for offset, page in enumerate(chart.history())
        ]
        await streaming.intake.process(await streaming.intake.read(records))
        keys = [PatientKey("main", each) for each in NAMES]
        found = await store.operators.facts_and_courses(keys)
    assert [{*found[key].facts} for key in keys] == await site.facts()
    assert [{each.course_id: each.state for each in found[key].courses if not each.gone} for key in keys] == (
        await site.courses()
    )
    assert all(await site.courses())


async def test_history_of_a_real_server_tells_of_deletes(site: Site, chart: Chart) -> None:
    """A search goes on without them; the history takes the fact away, and only that."""
    one = Site(site.folder, chart.base)
    assert 0 == one.command("backfill", "search", "--json").returncode
    (before,) = await one.facts(NAMES[:1])
    gone = next(each for each in before if each.key.resource_type == "QuestionnaireResponse")
    chart.http.delete(gone.key.reference).raise_for_status()
    assert 0 == one.command("backfill", "search", "--json").returncode
    assert [before] == await one.facts(NAMES[:1])
    done = one.command("backfill", "search", "--history", "--page-size", "20", "--json")
    assert 0 == done.returncode, done.stderr
    assert [before - {gone}] == await one.facts(NAMES[:1])


async def test_search_is_bounded_by_patients_and_time(site: Site, chart: Chart, tmp_path: Path) -> None:
    """Of a list of patients only those are asked for; nothing has changed after the present."""
    patients = tmp_path / "patients.txt"
    patients.write_text(f"Patient/{NAMES[1]}\n\n{NAMES[2]}\n")
    one = Site(site.folder, chart.base)
    done = one.command("backfill", "search", "--patients", str(patients), "--json")
    courses = await one.courses()
    assert (0, [False, True, True]) == (done.returncode, [bool(each) for each in courses])
    later = one.command("backfill", "search", "--since", "2100-01-01", "--json")
    assert (0, 0) == (later.returncode, answer(later)["read"])
