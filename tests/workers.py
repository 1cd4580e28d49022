"""Workers as the service starts them, several on one database, with a clock that the test sets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from service.domain.facts import FactKey, PatientKey
from service.domain.projection import project
from service.domain.state import dump
from service.health import Health
from service.inbound.reading import marker_of
from service.inbound.records import Limits
from service.inbound.relevance import Relevance
from service.intake import UNPROCESSABLE, Feed, Intake
from service.metrics import create_metrics
from service.sandbox.events import Event
from service.sandbox.patients import PERIOD
from service.store import Destination
from service.vitals import Vitals
from tests.bench.events import FIRST, course
from tests.property.strategies import START
from tests.synthetic import SOURCE, merged, read, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.domain.course import Projection
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings
    from service.store import Store
    from service.store.values import PatientRecord

TOPICS = ("Encounter", "QuestionnaireResponse", "Patient")
PLANS = Destination("plans")
END = datetime.combine(START + PERIOD, time(), UTC)
"""When every synthetic story that begins at `START` is over."""

Courses = dict[str, bytes]
"""State of each course by its id; those that are gone left out."""


@dataclass(slots=True)
class Clock:
    """A clock that stands until it is set."""

    at: datetime = END

    def __call__(self) -> datetime:
        """Return the time that it shows."""
        return self.at


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker: an intake that remembers, over a store of its own."""

    store: Store
    intake: Intake
    vitals: Vitals

    async def take(self, events: Iterable[Event], *, put_off: bool = False) -> bool:
        """Process the events as one batch; return whether any course changed."""
        records = [record(event, offset) for offset, event in enumerate(events)]
        return await self.intake.process(await self.intake.read(records), put_off=put_off)

    def counted(self, what: str, **labels: str) -> float:
        """Return how much its metrics have counted of something."""
        return self.vitals.metrics.registry.get_sample_value(f"ipt_bridge_{what}_total", labels) or 0.0


def vitals(clock: Clock, topics: Sequence[str] = TOPICS) -> Vitals:
    """Return numbers at zero and health with nothing met yet."""
    metrics = create_metrics(topics={SOURCE.id: tuple(topics)}, destinations=[PLANS.name], reasons=[UNPROCESSABLE])
    return Vitals(metrics, Health(), clock)


def worker(
    store: Store, mappings: Mappings, clock: Clock, *, to: Sequence[Destination] = (), topics: Sequence[str] = TOPICS
) -> Worker:
    """Return a worker that has just started: it remembers nothing."""
    numbers = vitals(clock, topics)
    feed = Feed(SOURCE, Relevance.of(mappings), mappings)
    return Worker(store, Intake(store, dict.fromkeys(topics, feed), to, Limits(), numbers), numbers)


def facts_by_patient(events: Iterable[Event], mappings: Mappings) -> dict[PatientKey, list[Fact]]:
    """Return what the events come to for each patient: the newest version of each resource, where it is ours."""
    facts: list[Fact] = []
    for event in events:
        reading = read(event, mappings)
        facts += [*reading.facts, *(marker_of(each, SOURCE.time_zone) for each in reading.irrelevant)]
    found: dict[PatientKey, list[Fact]] = {}
    for fact in merged(facts):
        if fact.reading is not None and fact.patient_id is not None:
            found.setdefault(PatientKey(fact.key.source, fact.patient_id), []).append(fact)
    return found


def projected(patient: str, events: Iterable[Event], mappings: Mappings, *, as_of: datetime = END) -> Projection:
    """Return what a patient's courses are by the facts alone, with no store and no worker between."""
    key = PatientKey(SOURCE.id, patient)
    return project(key, facts_by_patient(events, mappings).get(key, ()), as_of, mappings)


def expected(patient: str, events: Iterable[Event], mappings: Mappings, *, as_of: datetime = END) -> Courses:
    """Return the courses that `projected` finds."""
    return {each.id: dump(each) for each in projected(patient, events, mappings, as_of=as_of).courses}


async def recorded(store: Store, patient: str) -> PatientRecord:
    """Return a patient's facts and courses as they stand in the store."""
    key = PatientKey(SOURCE.id, patient)
    return (await store.operators.facts_and_courses([key]))[key]


async def stored(store: Store, patient: str) -> Courses:
    """Return a patient's courses as they stand in the store."""
    return {each.course_id: each.state for each in (await recorded(store, patient)).courses if not each.gone}


def weekly(patient: int, events: int) -> list[Event]:
    """Return so many events of patient `b<patient>`: each week a session and a form, each of another resource."""
    return [Event(each.kind, each.key, {}, FIRST, each.value) for each in course(patient, events)]


def references(facts: Iterable[Fact]) -> tuple[str, ...]:
    """Return the references of facts, in order."""
    keys: list[FactKey] = [fact.key for fact in facts]
    return tuple(sorted(key.reference for key in keys))
