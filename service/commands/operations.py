"""What the commands do: one function each, from settings to plain values. Printing is in `screens.py`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import Progress

from service import app
from service.batches import record_of
from service.clients import kafka_options
from service.commands import whatif
from service.commands.checks import Check, check_destination, check_source
from service.commands.inspection import inspect
from service.commands.sources import states
from service.configuration import (
    ConfigurationError,
    load_mappings,
    load_vendor_profiles,
    mappings_folder,
    read_mapping_files,
)
from service.domain import state
from service.domain.mapping_files import parse
from service.domain.projection import project
from service.inbound.record_files import records_in
from service.inbound.records import Record
from service.kafka_trouble import trouble
from service.outbound.artifacts import package
from service.outbound.explain import explain
from service.settings import FhirDestination, KafkaDestination
from service.store import ParkedKind, ParkedState, Store, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from service.commands.inspection import Inspected
    from service.commands.sources import SourceState
    from service.domain.course import Course
    from service.domain.facts import PatientKey
    from service.domain.mappings import Mappings
    from service.intake import Feed
    from service.outbound.explain import Reason
    from service.settings import Settings
    from service.store import ParkedItem, Retry, SchemaState, StoredCourse
    from service.store.values import PatientRecord

PAGE = 500
"""Patients verified, and parked items listed, at a time."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What recomputing every course has shown."""

    patients: int
    courses: int
    different: tuple[tuple[str, str], ...]
    """Source and patient id of those whose stored courses are not what their facts say."""
    put_off: int
    """Patients not projected since their facts changed: the service catches up with a backlog, or did when it ended."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A course and the reasons of what its plan says."""

    course: Course
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """What the service makes of one record of a file."""

    file: str
    number: int
    """Of the record in its file, from 1."""
    feed: Feed
    inspected: Sequence[Inspected]


class UnknownSource(ValueError):  # noqa: N818 - it says what the source is
    """No source of that id is configured, or none was named where there are several; holds the ids to choose from."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A course with what is needed to put it into words."""

    course: Course
    mappings: Mappings


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    store = await app.open_store(settings)
    try:
        yield store
    finally:
        await store.close()


async def migrate(settings: Settings) -> SchemaState:
    """Bring the tables to this release and return the state that was found."""
    store = await Store.open(settings.store.sqlalchemy_url())
    try:
        return await store.migrate()
    finally:
        await store.close()


async def check(settings: Settings, *, mappings_only: bool) -> list[Check]:
    """Return what each part is like. Raises MappingError where a mapping file is wrong."""
    results = []
    for source, mappings in app.all_mappings(settings).items():
        count = len(mappings.instruments) + len(mappings.forms) + len(mappings.rules)
        text = f"{count} instruments, forms and rules are sound"
        results.append(Check(f"mappings of source {source}", ok=True, text=text))
    profiles = load_vendor_profiles(settings)
    results.append(Check("EHR profiles", ok=True, text=f"{len(profiles)} are sound"))
    if mappings_only:
        return results
    results += await _check_kafka(settings)
    results.append(await _check_store(settings))
    for configured in settings.sources:
        results += await check_source(configured, app.types_of(configured))
    for each in settings.destinations:
        if isinstance(each, FhirDestination):
            results += await check_destination(each, profiles)
    return results


async def _check_kafka(settings: Settings) -> list[Check]:
    options = kafka_options(settings.kafka)
    if (found := await trouble(options)) is not None:
        return [Check("kafka", ok=False, text=found)]
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=10_000)
    try:
        await admin.start()
        known = set(await admin.list_topics())
    except (KafkaError, OSError) as error:
        return [Check("kafka", ok=False, text=f"Kafka does not list its topics ({type(error).__name__})")]
    finally:
        await admin.close()
    where = ",".join(settings.kafka.bootstrap)
    results = [Check("kafka", ok=True, text=f"{where} answers")]
    read = [topic.name for source in settings.sources for topic in source.topics]
    written = [each.topic for each in settings.destinations if isinstance(each, KafkaDestination)]
    for name in (*read, *written):
        there = name in known
        results.append(Check(f"topic {name}", ok=there, text="exists" if there else "does not exist; create it"))
    return results


async def _check_store(settings: Settings) -> Check:
    try:
        async with await Store.open(settings.store.sqlalchemy_url()) as store:
            found = await store.schema_state()
    except StoreError as error:
        return Check("store", ok=False, text=str(error))
    place = settings.store.place
    if found.at_head or place.startswith("sqlite"):
        return Check("store", ok=True, text=f"{place} answers")
    return Check("store", ok=False, text=f"{place} answers; run `ipt-bridge migrate`")


async def courses_of_patient(settings: Settings, patient: str, source: str | None) -> list[Shown]:
    """Return the courses of a patient, those that are gone left out."""
    mappings = app.all_mappings(settings)
    async with _store(settings) as store:
        stored = await store.operators.courses_of_patient(patient, source)
    return sorted(_shown(stored, mappings), key=lambda each: each.course.opened)


def _shown(stored: Sequence[StoredCourse], mappings: dict[str, Mappings]) -> Iterator[Shown]:
    for each in stored:
        if not each.gone:
            yield Shown(state.load(each.state), mappings[each.patient.source])


def as_json(shown: Shown) -> dict[str, Any]:
    """Return a course's state as JSON values."""
    loaded: dict[str, Any] = orjson.loads(state.dump(shown.course))
    return loaded


async def explained(settings: Settings, name: str, field: str | None) -> list[Explained]:
    """Return the reasons of the course with that id or beginning of one, or of the courses of that patient."""
    mappings = app.all_mappings(settings)
    async with _store(settings) as store:
        stored = await store.operators.courses_of_patient(name) or await store.operators.courses(name)
    found = []
    for each in _shown(stored, mappings):
        try:
            found.append(Explained(each.course, explain(each.course, each.mappings, field)))
        except KeyError:
            continue
    return found


def reasons_as_json(each: Explained) -> dict[str, Any]:
    """Return a course's reasons as JSON values."""
    return {
        "course": each.course.id,
        "labels": [label._asdict() for label in each.course.labels],
        "reasons": [asdict(reason) for reason in each.reasons],
    }


async def verify(settings: Settings, progress: bool) -> Verified:  # noqa: FBT001 - whether a person watches
    """Recompute all courses from their facts, as of when each patient was last projected."""
    mappings = app.all_mappings(settings)
    patients = courses = put_off = 0
    different: list[tuple[str, str]] = []
    async with _store(settings) as store:
        with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
            task = bar.add_task("recomputing", total=None)
            page = await store.operators.patients(None, PAGE)
            while page:
                for patient, record in (await store.operators.facts_and_courses(page)).items():
                    patients += 1
                    courses += sum(not each.gone for each in record.courses)
                    put_off += record.put_off
                    if not (record.put_off or _same(patient, record, mappings[patient.source])):
                        different.append((patient.source, patient.patient_id))
                bar.update(task, completed=patients)
                page = await store.operators.patients(page[-1], PAGE)
    return Verified(patients, courses, tuple(different), put_off)


def _same(patient: PatientKey, record: PatientRecord, mappings: Mappings) -> bool:
    """Whether the stored courses are what the facts say; a patient known by a marker alone has neither."""
    stored = {each.course_id: each.revision for each in record.courses if not each.gone}
    if record.projected_as_of is None:
        return not (stored or record.facts)
    projected = project(patient, record.facts, record.projected_as_of, mappings).courses
    return stored == {course.id: state.revision(state.dump(course), mappings) for course in projected}


async def compared(
    settings: Settings, folder: Path, since: date | None, summary: whatif.Summary, *, progress: bool
) -> AsyncGenerator[whatif.Changed, None]:
    """Yield each patient whose courses would differ under the mapping files of another folder; write nothing.

    Raises ConfigurationError or MappingError where the folder is no sound one.
    """
    present = app.all_mappings(settings)
    other = app.all_mappings(settings.model_copy(update={"mappings": folder}))
    async with _store(settings) as store:
        with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
            task = bar.add_task("comparing patients", total=None)

            def told(patients: int) -> None:
                bar.update(task, completed=patients, description=f"comparing patients: {patients}")

            async for changed in whatif.whatif(store, present, other, since, app.now(), summary, told):
                yield changed


def artifacts(settings: Settings, folder: Path) -> int:
    """Write the FHIR package of the mappings into `package/` of a folder; return how many resources it holds.

    Files of an earlier writing that the package no longer has are removed. Raises ConfigurationError where the
    folder `package/` holds something else.
    """
    files = read_mapping_files(mappings_folder(settings))
    written = package(files, parse(files), version("ipt-bridge"))
    place = folder / "package"
    there = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if there and "package.json" not in there:
        msg = f"--out: {place} is there and holds no package. Name another folder."
        raise ConfigurationError(msg)
    place.mkdir(parents=True, exist_ok=True)
    for name in there - written.keys():
        (place / name).unlink()
    for name, content in written.items():
        (place / name).write_bytes(content)
    return len(written) - len({"package.json", ".index.json"})


async def sources(settings: Settings, only: str | None) -> list[SourceState]:
    """Return how each source stands, or the one of this id. Raises UnknownSource for an id that is none."""
    if only is not None and only not in {each.id for each in settings.sources}:
        raise UnknownSource(", ".join(each.id for each in settings.sources))
    async with _store(settings) as store:
        return await states(settings, store, only, app.now())


async def settle(settings: Settings, source: str) -> int:
    """Close the open gaps in a source's event numbers; return how many. Raises UnknownSource."""
    if source not in {each.id for each in settings.sources}:
        raise UnknownSource(", ".join(each.id for each in settings.sources))
    async with _store(settings) as store:
        return await store.sources.settle_gaps(source, app.now())


async def parked(settings: Settings, which: ParkedState | None) -> list[ParkedItem]:
    """Return what is parked in a state, or in any."""
    found: list[ParkedItem] = []
    async with _store(settings) as store:
        while page := await store.operators.parked(which, found[-1].id if found else 0, PAGE):
            found += page
    return found


async def parked_item(settings: Settings, item: int) -> Retry | None:
    """Return something parked with its record."""
    async with _store(settings) as store:
        return await store.operators.parked_content(item)


async def retry(settings: Settings, items: Sequence[int]) -> list[int]:
    """Try parked items again; return those that are parked again. A delivery is due at once."""
    vitals = app.vitals_of(settings)
    async with _store(settings) as store:
        intake = app.intake(settings, store, vitals, app.all_mappings(settings))
        tried = await store.operators.retry(items, vitals.now())
        for each in tried:
            if each.record is not None:
                await intake.process(await intake.read([record_of(each.record)]))
        await intake.tell()
        again = []
        for each in tried:
            after = await store.operators.parked_content(each.item.id)
            if after is not None and after.item.state is ParkedState.OPEN:
                again.append(each.item.id)
            elif each.item.kind is not ParkedKind.DELIVERY:
                async with store.transaction() as transaction:
                    await transaction.resolve([each.item.id], vitals.now())
    return again


def read(
    settings: Settings,
    files: Iterable[tuple[str, bytes]],
    source: str | None,
    headers: Mapping[str, str],
    fhir_version: str | None,
) -> Iterator[Read]:
    """Yield what the service makes of each record in files, given with their names; nothing is written.

    Raises UnknownSource, and MappingError where a mapping file is wrong.
    """
    found = [each for each in settings.sources if source in {None, each.id}]
    if len(found) != 1:
        raise UnknownSource(", ".join(each.id for each in settings.sources))
    enforces = settings.inbound.conformance == "enforce"
    feed = app.feed(found[0], load_mappings(settings, found[0].site), enforces=enforces)
    limits = app.limits(settings)
    kept = tuple((name, value.encode()) for name, value in headers.items())
    default = Record(found[0].topics[0].name, 0, 0, app.now(), None, None, kept)
    for name, content in files:
        for number, record in enumerate(records_in(content, default, feed.context.time_zone, limits.bytes), 1):
            yield Read(name, number, feed, inspect(record, feed, limits, fhir_version))


async def discard(settings: Settings, items: Sequence[int], why: str) -> int:
    """Close parked items for good; return how many were open."""
    async with _store(settings) as store:
        return await store.operators.discard(items, why, app.now())
