"""The loop that delivers, with a real database and a destination that notes what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from service.deliveries import CONFLICTS, FAILED, FAILURES, HOLD_S, LEFT_ALONE, Reconciler
from service.domain import state
from service.domain.facts import PatientKey
from service.metrics import BREAKER_STATES
from service.outbound.destination import Delivered, Route
from service.rest.backoff import LONGEST_ASKED_S
from service.rest.errors import CONFLICT, Conflicting, Permanent, Transient
from service.settings import Deliveries
from service.store import CourseUpdate, PatientUpdate, Store, StoreError
from service.store.dialects import create_engine
from tests.courses import course
from tests.workers import PLANS, Clock, vitals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
    trouble: Exception | None = None
    """What it raises instead of taking one."""
    leaves: dict[str, Any] | None = None
    """The ledger of what it has taken in part before it raises."""
    ledgers: list[Mapping[str, Any]] = field(default_factory=list)
    """What it was told that it holds, with each plan."""
    taken: list[str] = field(default_factory=list)
    name: str = PLANS.name
    at_once: int = 4

    async def deliver(self, delivery: PlanDelivery) -> Delivered:
        """Take a plan."""
        self.taken.append(delivery.course_id)
        self.ledgers.append(delivery.ledger)
        if self.before is not None:
            await self.before()
        if self.trouble is not None:
            delivery.progress.ledger = self.leaves
            raise self.trouble
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


def state_of(told: Vitals) -> list[str]:
    """Return the states that the metrics say the breaker is in: one."""
    values = {
        state: told.metrics.registry.get_sample_value("ipt_bridge_breaker", {"destination": PLANS.name, "state": state})
        for state in BREAKER_STATES
    }
    return [state for state, value in values.items() if value]


async def until(condition: Callable[[], bool], loop: Reconciler) -> None:
    """Wait for a condition, and let the loop look for what is due meanwhile."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        loop.wake()
        await asyncio.sleep(0.02)


async def until_seen(store: Store, *courses: str) -> None:
    """Wait until the database knows that these courses' plans have arrived."""
    deadline = time.monotonic() + DEADLINE_S
    while not all([(await store.operators.deliveries(each))[0].seen for each in courses]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def until_outcome(store: Store, course_id: str, outcome: str) -> None:
    """Wait until the database knows that a course's last attempt ended so."""
    deadline = time.monotonic() + DEADLINE_S
    while (await store.operators.deliveries(course_id))[0].outcome != outcome:
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

    # The one that watches is open before anything is cut: it is cut as well, where it asks how far it is.
    async with await Store.open(url) as store, await Store.open(url) as watching:
        await store.migrate()
        clock = Clock()
        wanted = await want(store, "anna", mappings, clock())
        chart = Chart(before=cut_all)
        async with delivering(store, chart, mappings, vitals(clock)) as loop:
            deadline = time.monotonic() + DEADLINE_S
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


async def test_destination_that_asks_to_wait_is_left_alone_for_all_courses(store: Store, mappings: Mappings) -> None:
    """Until the time that it asked for is over; then one plan goes first, and the others when it has arrived."""
    clock = Clock()
    told = vitals(clock)
    first = await want(store, "anna", mappings, clock())
    chart = Chart(trouble=Transient("http-429", "Wait.", retry_after=600))
    async with delivering(store, chart, mappings, told) as loop:
        await until(lambda: state_of(told) == ["open"], loop)
        others = [await want(store, patient, mappings, clock()) for patient in ("ben", "cleo")]
        loop.wake()
        await asyncio.sleep(0.2)
        asked = list(chart.taken)
        chart.trouble = None
        clock.at += timedelta(seconds=600)
        await until(lambda: len(chart.taken) == 4, loop)
        await until_seen(store, first, *others)
        assert ["closed"] == state_of(told)
    assert [first] == asked
    assert {first, *others} == set(chart.taken[1:])


async def test_destination_that_asks_for_years_ends_neither_the_loop_nor_the_deliveries(
    store: Store, mappings: Mappings
) -> None:
    """`Retry-After: Fri, 31 Dec 9999 23:59:59 GMT`: it is tried again within a quarter of an hour."""
    clock = Clock()
    told = vitals(clock)
    wanted = await want(store, "anna", mappings, clock())
    chart = Chart(trouble=Transient("http-503", "Wait.", retry_after=251_000_000_000))
    async with delivering(store, chart, mappings, told) as loop:
        await until_outcome(store, wanted, "http-503")
        chart.trouble = None
        clock.at += timedelta(seconds=LONGEST_ASKED_S)
        await until(lambda: len(chart.taken) > 1, loop)
        await until_seen(store, wanted)
    assert [wanted, wanted] == chart.taken


async def test_failure_that_nobody_foresaw_parks_one_course_and_ends_nothing(store: Store, mappings: Mappings) -> None:
    """Not even one of the loop's own, after the destination has answered: here a wait beyond the calendar."""
    clock = Clock()
    told = vitals(clock)
    first = await want(store, "anna", mappings, clock())
    chart = Chart(trouble=Transient("http-503", "Wait.", retry_after=float("nan")))
    async with delivering(store, chart, mappings, told) as loop:
        await until_outcome(store, first, FAILED)
        chart.trouble = None
        second = await want(store, "ben", mappings, clock())
        loop.wake()
        await until_seen(store, second)
        (delivery,) = await store.operators.deliveries(first)
    assert (None, FAILED) == (delivery.next_attempt, delivery.outcome)


@pytest.mark.parametrize("trouble", [Transient("http-503", "Away."), Permanent("http-422", "No."), RuntimeError("?")])
async def test_what_an_attempt_wrote_before_it_failed_is_known_to_the_next(
    trouble: Exception, store: Store, mappings: Mappings
) -> None:
    """However it failed: nothing is created twice, and what was created is taken back when it should be."""
    clock = Clock()
    told = vitals(clock)
    wanted = await want(store, "anna", mappings, clock())
    goal = {"id": "g-1", "version": "1", "digest": "d", "status": "active", "foreign": False, "entries": []}
    left = {"remotes": {"goal/phq-9": goal}, "unresolved": []}
    chart = Chart(trouble=trouble, leaves=left)
    async with delivering(store, chart, mappings, told) as loop:
        await until_outcome(store, wanted, getattr(trouble, "code", FAILED))
        chart.trouble = None
        await store.desk.retry(None, [wanted], clock())
        await until(lambda: len(chart.taken) > 1, loop)
        await until_seen(store, wanted)
    assert [{}, left] == chart.ledgers


async def test_destination_that_is_away_is_tried_with_one_plan_at_a_time(store: Store, mappings: Mappings) -> None:
    """However many wait; what is tried in vain waits longer by itself."""
    clock = Clock()
    told = vitals(clock)
    courses = [await want(store, f"patient-{number}", mappings, clock()) for number in range(12)]
    chart = Chart(trouble=Transient("unreachable", "Away."), at_once=FAILURES)
    async with delivering(store, chart, mappings, told) as loop:
        await until(lambda: state_of(told) == ["open"], loop)
        tried = [len(chart.taken)]
        for _ in range(3):
            clock.at += timedelta(seconds=LEFT_ALONE.longest_s)
            await until(lambda: len(chart.taken) > tried[-1] and state_of(told) == ["open"], loop)
            tried.append(len(chart.taken))
        chart.trouble = None
        clock.at += timedelta(seconds=Deliveries().backoff_max_s)
        await until_seen(store, *courses)
    assert [FAILURES, FAILURES + 1, FAILURES + 2, FAILURES + 3] == tried


async def test_somebody_who_keeps_changing_plans_is_no_trouble_of_the_destination(
    store: Store, mappings: Mappings
) -> None:
    """It answers: the others' plans go on."""
    clock = Clock()
    told = vitals(clock)
    for number in range(2 * FAILURES):
        await want(store, f"patient-{number}", mappings, clock())
    chart = Chart(trouble=Transient(CONFLICT, "Somebody else writes."))
    async with delivering(store, chart, mappings, told) as loop:
        await until(lambda: len(chart.taken) == 2 * FAILURES, loop)
    assert ["closed"] == state_of(told)


async def test_plan_that_somebody_never_stops_changing_is_parked_with_both_contents_hashes(
    store: Store, mappings: Mappings
) -> None:
    """After some attempts a person looks: the hashes tell the two apart, and say nothing of either."""
    clock = Clock()
    told = vitals(clock)
    await want(store, "anna", mappings, clock())
    chart = Chart(trouble=Conflicting("Somebody else writes.", ours="a1", theirs="b2"))
    async with delivering(store, chart, mappings, told) as loop:
        deadline = time.monotonic() + DEADLINE_S
        while not await store.operators.parked():
            assert time.monotonic() < deadline
            clock.at += timedelta(seconds=Deliveries().backoff_max_s)
            loop.wake()
            await asyncio.sleep(0.05)
    (item,) = await store.operators.parked()
    assert (CONFLICTS, CONFLICT, "ours a1, there b2") == (len(chart.taken), item.reason, item.path)
