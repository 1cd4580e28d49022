"""Row 6: courses rendered, validated and produced; no database.

Run by itself it is that process. Arguments: bootstrap servers, topic, patients, events of each.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import TYPE_CHECKING

import orjson

from service.cli import GARBAGE
from service.configuration import load_mappings
from service.domain import state
from service.domain.facts import PatientKey
from service.domain.projection import project
from service.inbound.relevance import Relevance
from service.outbound.careplan import render
from service.outbound.destination import PlanDelivery
from service.outbound.topic import TopicDestination
from service.settings import Settings
from tests.bench import events, figures
from tests.bench.figures import Figure, rate
from tests.bench.parts import SOURCE, facts_in
from tests.bench.worker import Usage
from tests.bench.workload import run

if TYPE_CHECKING:
    from datetime import datetime

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from tests.bench.bench import Bench

AS_OF = events.FIRST + 26 * events.WEEK


async def plans(bench: Bench) -> list[Figure]:
    """Row 6."""
    topic = await bench.parts.plan_topic()
    scale = bench.scale
    said = await run(bench.parts, "plans", bench.parts.broker.bootstrap, topic, scale.plans, scale.each)
    return [rate(6, figures.PLANS, said["courses"], Usage(said["seconds"], said["cpu_s"], 0.0))]


def courses(patients: int, each: int, as_of: datetime, mappings: Mappings) -> list[Course]:
    """Return the courses of so many patients with so many events each."""
    relevance = Relevance.of(mappings)
    found: list[Course] = []
    for patient in range(patients):
        facts = [fact for event in events.course(patient, each) for fact in facts_in(event, relevance)]
        found += project(PatientKey(SOURCE, f"b{patient}"), facts, as_of, mappings).courses
    return found


async def _send(bootstrap: str, topic: str, patients: int, each: int) -> dict[str, float]:
    mappings = load_mappings(Settings())
    waiting = [(course, state.dump(course)) for course in courses(patients, each, AS_OF, mappings)]
    destination = TopicDestination("kafka", topic, {"bootstrap_servers": bootstrap})
    todo = iter(waiting)

    async def deliver() -> None:
        for course, content in todo:
            revision = state.revision(content, mappings)
            await destination.deliver(PlanDelivery(course.id, revision, 1, render(course, mappings), (), {}))

    try:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(deliver() for _ in range(destination.at_once)))
        took = {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    finally:
        await destination.close()
    return {"courses": len(waiting), **took}


if __name__ == "__main__":
    sys.stdout.write(
        orjson.dumps(asyncio.run(_send(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))).decode()
    )
