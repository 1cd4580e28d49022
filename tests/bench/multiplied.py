"""Stores with very many courses, filled by a fast path: the rows are the service's own, multiplied.

A few hundred template patients are read by the service's intake into a scratch database. Their rows are
then copied under other patient ids, with what follows from an id computed anew: course ids, states and
revisions. `recomputation.py` holds a sample of them, and all that the intake then touches, against events.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from service import app
from service.domain import state
from service.domain.course import course_id
from service.domain.facts import PatientKey
from service.inbound.records import Record as KafkaRecord
from service.store import Store
from service.store.values import Delivered
from tests.bench import events
from tests.bench.installation import DESTINATION, install
from tests.bench.parts import SOURCE, plain, topic_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from asyncpg import Record

    from service.domain.mappings import Mappings
    from tests.bench.events import Event
    from tests.bench.installation import Installation
    from tests.bench.parts import Parts

TEMPLATES = 7_000_000
COPIES = 8_000_000
"""Number of the first template, and of the first copy: ids of one length, which occur nowhere by chance."""
EACH = 8
"""Events of each template."""
CHUNK = 2_000
"""Patients copied at a time."""
BATCH = 500
YEAR_S = 365 * 24 * 3600
TABLES = ("patient", "course", "history", "delivery", "fact")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """The rows of one patient. Where an id stands in a text there is a `%(name)s` instead."""

    anchor: str
    state: str
    rows: dict[str, list[Row]]
    """By table."""


@dataclass(frozen=True, slots=True)
class Templates:
    """The patients that stores are filled from."""

    columns: dict[str, list[str]]
    """By table."""
    patients: list[Template]

    def of(self, number: int) -> int:
        """Return the number of the template that a copy is made from."""
        return TEMPLATES + number % len(self.patients)


def patient_id(number: int) -> str:
    """Return the id of a template, or of a copy."""
    return f"b{number}"


def copied(event: Event, old: int, new: int) -> Event:
    """Return an event of one patient as that of another."""
    ids = patient_id(old).encode(), patient_id(new).encode()
    key = event.key.replace(patient_id(old), patient_id(new))
    return replace(event, key=key, patient=new, value=event.value.replace(*ids))


async def templates(parts: Parts, count: int) -> Templates:
    """Return the rows that the service itself writes of so many patients, their plans acknowledged."""
    topics = await parts.topics("templates")
    async with parts.database("postgresql") as url:
        installation = await install(parts, topics, url, plans=True)
        written = [event for number in range(count) for event in events.course(TEMPLATES + number, EACH)]
        await _read(installation, topics, written)
        connection = await asyncpg.connect(plain(url))
        try:
            found = {table: await connection.fetch(f"SELECT * FROM {table}") for table in TABLES}  # noqa: S608 - ours
        finally:
            await connection.close()
    of_course = {row["course_id"]: row["patient_id"] for row in found["course"]}
    rows: dict[str, dict[str, list[Record]]] = {table: defaultdict(list) for table in TABLES}
    for table, records in found.items():
        for each in records:
            rows[table][each.get("patient_id") or of_course[each["course_id"]]].append(each)
    patients = [patient_id(TEMPLATES + number) for number in range(count)]
    columns = {table: list(records[0].keys()) for table, records in found.items()}
    return Templates(columns, [_template(id_, {table: rows[table][id_] for table in TABLES}) for id_ in patients])


def _template(patient: str, rows: dict[str, list[Record]]) -> Template:
    (course,) = rows["course"]
    names = {patient: "patient", course["course_id"]: "course", course["revision"]: "revision"}
    pattern = re.compile("|".join(names))

    def opened(value: object) -> object:
        text = value.replace("%", "%%") if isinstance(value, str) else value
        return pattern.sub(lambda id_: f"%({names[id_[0]]})s", text) if isinstance(text, str) else text

    return Template(
        str(opened(course["anchor"])),
        str(opened(course["state"])),
        {table: [tuple(opened(value) for value in row) for row in records] for table, records in rows.items()},
    )


async def fill(url: str, made: Templates, courses: int, mappings: Mappings) -> None:
    """Fill a store whose tables are empty with so many patients, one course each."""
    connection = await asyncpg.connect(plain(url))
    now = round(app.now().timestamp() * 1_000_000)
    try:
        await connection.execute("SET session_replication_role = replica")  # what refers to what is known to be there
        for first in range(0, courses, CHUNK):
            numbers = range(first, min(courses, first + CHUNK))
            chunk: dict[str, list[Row]] = {table: [] for table in TABLES}
            for number in numbers:
                _copy(made, number, now, mappings, chunk)
            for table, rows in chunk.items():
                await connection.copy_records_to_table(table, records=rows, columns=made.columns[table])
        await connection.execute("VACUUM ANALYZE", timeout=1800)
        await connection.execute("CHECKPOINT", timeout=1800)
    finally:
        await connection.close()


def _copy(made: Templates, number: int, now: int, mappings: Mappings, into: dict[str, list[Row]]) -> None:
    template = made.patients[number % len(made.patients)]
    names = {"patient": patient_id(COPIES + number)}
    names["course"] = course_id(PatientKey(SOURCE, names["patient"]), template.anchor % names)
    names["revision"] = state.revision((template.state % names).encode(), mappings)
    for table, rows in template.rows.items():
        into[table] += [tuple([value % names if isinstance(value, str) else value for value in row]) for row in rows]
    due = made.columns["patient"].index("next_due")
    patient = list(into["patient"][-1])
    patient[due] = now + random.randrange(1, YEAR_S) * 1_000_000  # noqa: S311 - spreads load
    into["patient"][-1] = tuple(patient)


async def _read(installation: Installation, topics: tuple[str, str], written: Sequence[Event]) -> None:
    """Let the service's intake read events, and report all their plans as acknowledged."""
    settings = installation.settings
    vitals = app.vitals_of(settings)
    async with await Store.open(installation.url) as store:
        intake = app.intake(settings, store, vitals, app.all_mappings(settings))
        for batch in _batches(written):
            await intake.process(await intake.read([record(topics, event) for event in batch]))
        deliveries = store.deliveries
        while claimed := await deliveries.claim(DESTINATION, vitals.now(), BATCH, timedelta(minutes=5)):
            sent = [
                Delivered(each.course_id, DESTINATION, each.revision, each.counter, "topic", lease=each.lease)
                for each in claimed
            ]
            await deliveries.acknowledge(sent, vitals.now())


def record(topics: tuple[str, str], event: Event) -> KafkaRecord:
    """Return an event as the record that the intake is given."""
    return KafkaRecord(topic_of(topics, event), 0, 0, app.now(), event.key.encode(), event.value)


def _batches(written: Sequence[Event]) -> Iterator[Iterable[Event]]:
    for start in range(0, len(written), BATCH):
        yield written[start : start + BATCH]
