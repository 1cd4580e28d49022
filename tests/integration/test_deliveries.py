"""The loop that delivers, with a real database and a destination that notes what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from service.deliveries import HOLD_S, Reconciler
from service.domain import state
from service.domain.facts import PatientKey
from service.outbound.destination import Delivered, Route
from service.settings import Deliveries
from service.store import CourseUpdate, PatientUpdate, Store, StoreError
from service.store.dialects import create_engine
from tests.courses import course
from tests.workers import PLANS, Clock, vitals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime

    from service.domain.mappings import Mappings
    from service.outbound.destination import PlanDelivery
    from service.sandbox.postgres import Postgres
    from service.vitals import Vitals

DEADLINE_S = 20.0
CUT_ALL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass
class Chart:
    """A destination that takes every plan, and notes which."""

    before: Callable[[], Awaitable[None]] | None = None
    """What happens to the world while it takes one."""
    taken: list[str] = field(default_factory=list)
    name: str = PLANS.name
    at_once: int = 4

    async def deliver(self, delivery: PlanDelivery) -> Delivered:
        """Take a plan."""
        self.taken.append(delivery.course_id)
        if self.before is not None:
            await self.before()
        return Delivered({}, Route.TOPIC)

    async def close(self) -> None:
        """There is nothing to let go of."""


async def want(store: Store, patient: str, mappings: Mappings, at: datetime) -> str:
    """Store a course whose plan is wanted since then; its id."""
    made = course(patient)
    content = state.dump(made)
    update = CourseUpdate(made.id, made.anchor, made.phase, state.revision(content, mappings), content)
    key = PatientKey(made.source, patient)
    async with store.transaction() as transaction:
        await transaction.lock([key])
        await transaction.write([PatientUpdate(key, None, at, (update,))], [PLANS], at)
    return made.id


@contextlib.asynccontextmanager
async def delivering(store: Store, to: Chart, mappings: Mappings, told: Vitals) -> AsyncIterator[Reconciler]:
    """Let the loop run while the block lasts."""
    stop = asyncio.Event()
    loop = Reconciler(store, to, {"main": mappings}, Deliveries(), told)
    running = asyncio.create_task(loop.run(stop))
    try:
        yield loop
    finally:
        stop.set()
        await running


async def until_seen(store: Store, *courses: str) -> None:
    """Wait until the database knows that these courses' plans have arrived."""
    deadline = time.monotonic() + DEADLINE_S
    while not all([(await store.operators.deliveries(each))[0].seen for each in courses]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_plans_are_held_while_the_intake_catches_up(store: Store, mappings: Mappings) -> None:
    """One that has waited long is sent; one of a moment ago waits until the backlog is read, and is then sent too."""
    clock = Clock()
    told = vitals(clock)
    told.backlog.catching_up = True
    old = await want(store, "anna", mappings, clock() - timedelta(seconds=HOLD_S + 1))
    young = await want(store, "ben", mappings, clock() - timedelta(seconds=HOLD_S - 1))
    chart = Chart()
    async with delivering(store, chart, mappings, told) as loop:
        await until_seen(store, old)
        loop.wake()
        await asyncio.sleep(0.2)
        held = list(chart.taken)
        told.backlog.catching_up = False
        loop.wake()
        await until_seen(store, young)
    assert ([old], [old, young]) == (held, chart.taken)


async def test_plan_is_sent_once_though_the_database_was_away_when_it_arrived(
    postgres: Postgres, mappings: Mappings
) -> None:
    """How a delivery ended is told again; the plan is not sent again."""
    url = postgres.create_database(f"away_{time.monotonic_ns()}")

    async def cut_all() -> None:
        engine = create_engine(url, 1)
        async with engine.begin() as connection:
            await connection.execute(text(CUT_ALL))
        await engine.dispose()

    async with await Store.open(url) as store:
        await store.migrate()
        clock = Clock()
        wanted = await want(store, "anna", mappings, clock())
        chart = Chart(before=cut_all)
        async with delivering(store, chart, mappings, vitals(clock)) as loop:
            deadline = time.monotonic() + DEADLINE_S
            async with await Store.open(url) as watching:
                while await _pending(watching):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
                loop.wake()
                await asyncio.sleep(0.2)
                (delivery,) = await watching.operators.deliveries(wanted)
        assert ([wanted], delivery.wanted, None) == (chart.taken, delivery.seen, delivery.next_attempt)


async def _pending(store: Store) -> int:
    try:
        return (await store.deliveries.pending(PLANS.name)).count
    except StoreError:
        return 1  # its own connection was cut too
