"""The second loop over a real store: nothing that is due waits for the next look, and every end is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from service.decisions import decide
from service.deliveries import LOOK_S, MARGIN, Reconciler
from service.domain.facts import Code, PatientKey
from service.domain.projection import project
from service.health import Health
from service.metrics import create_metrics
from service.outbound.destination import Delivered, PlanDelivery, Route
from service.rest.errors import Transient
from service.settings import Deliveries
from service.store import Destination as StoredDestination
from service.store import Pending, Store, StoreError
from service.vitals import Vitals
from tests.history import sessions, week

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.outbound.careplan import Plan
    from service.store import Claimed, PatientUpdate

AT_ONCE_S = LOOK_S / 2
"""Sooner than this nothing comes by the next look alone (seconds)."""
HANGS_S = 20.0
"""After so long a test says that what it waits for does not come (seconds)."""
NAME = "held"
PART_2 = Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", "42CFRPart2")
OTHER = Code("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "R")


class Held:
    """A destination that takes plans as soon as a test lets it."""

    name = NAME
    at_once = 8

    def __init__(self) -> None:
        self.taken: asyncio.Queue[int] = asyncio.Queue()
        """Counters of the plans that have come, in their order."""
        self.plans: list[Plan] = []
        self.ledgers: list[Mapping[str, Any]] = []
        """What each came with."""
        self.keeps: Mapping[str, Any] = {}
        """What it is to be told with the next."""
        self.fails: list[Transient] = []
        """What comes of those that come first."""
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, delivery: PlanDelivery) -> Delivered:
        """Take a plan once the gate is open."""
        self.plans.append(delivery.plan)
        self.ledgers.append(delivery.ledger)
        self.taken.put_nowait(delivery.counter)
        await self.gate.wait()
        if self.fails:
            raise self.fails.pop()
        return Delivered(self.keeps, Route.TOPIC)

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """URL of an empty database."""
    return f"sqlite:///{tmp_path}/store.sqlite"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A store with its tables."""
    async with await Store.open(url) as opened:
        await opened.migrate()
        yield opened


def update(patient: str, held: int, mappings: Mappings, labels: tuple[Code, ...] = ()) -> PatientUpdate:
    """Return what is written for a patient after so many sessions, whose records have these labels."""
    facts = [replace(fact, labels=labels) for fact in sessions(held)]
    projection = project(PatientKey("main", patient), facts, week(20), mappings)
    return decide(projection, [], ("Encounter/x",), mappings).update


async def write(store: Store, one: PatientUpdate) -> None:
    """Write it as the intake does."""
    async with store.transaction() as transaction:
        await transaction.lock([one.patient])
        await transaction.write([one], [StoredDestination(NAME)], datetime.now(UTC))


@asynccontextmanager
async def reconciling(
    store: Store,
    destination: Held,
    mappings: Mappings,
    withhold: tuple[str, ...] = (),
    sources: Sequence[str] | None = None,
) -> AsyncIterator[Reconciler]:
    """Run the loop, and stop it in order at the end."""
    metrics = create_metrics(topics={"main": ()}, destinations=[NAME], reasons=[])
    vitals = Vitals(metrics, Health(), lambda: datetime.now(UTC))
    reconciler = Reconciler(
        store, destination, {"main": mappings}, Deliveries(), vitals, sources=sources, withhold=withhold
    )
    stop = asyncio.Event()
    running = asyncio.create_task(reconciler.run(stop))
    try:
        yield reconciler
    finally:
        stop.set()
        await running


async def test_course_that_changed_during_its_delivery_is_sent_again_at_once(store: Store, mappings: Mappings) -> None:
    """It is due when the plan under way is acknowledged, and nobody wakes the loop then."""
    destination = Held()
    await write(store, update("p-1", 3, mappings))
    destination.gate.clear()
    async with reconciling(store, destination, mappings) as reconciler:
        await destination.taken.get()
        await write(store, update("p-1", 4, mappings))
        reconciler.wake()
        await asyncio.sleep(0.05)  # the look that finds it leased
        destination.gate.set()
        assert 2 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)


async def test_delivery_ends_before_its_lease_does(store: Store, mappings: Mappings) -> None:
    """Whoever takes it next must not find it being written; the clock here has gone on by all but the margin."""
    destination = Held()
    destination.gate.clear()
    await write(store, update("p-1", 3, mappings))
    lease = timedelta(days=1)
    began = datetime.now(UTC)
    clock = [began]
    metrics = create_metrics(topics={"main": ()}, destinations=[NAME], reasons=[])
    vitals = Vitals(metrics, Health(), lambda: clock[0])
    settings = Deliveries(lease_s=lease.total_seconds())
    claim = store.deliveries.claim

    async def claim_late(*given: Any, **named: Any) -> list[Claimed]:  # noqa: ANN401 - as `claim`
        found = await claim(*given, **named)
        clock[0] = began + (1 - MARGIN) * lease
        return found

    store.deliveries.claim = claim_late  # type: ignore[method-assign]  # the clock goes on while the database answers
    stop = asyncio.Event()
    running = asyncio.create_task(Reconciler(store, destination, {"main": mappings}, settings, vitals).run(stop))
    async with asyncio.timeout(HANGS_S):
        await destination.taken.get()
        stop.set()
        await running
    (standing,) = await store.desk.deliveries(NAME, behind=False)
    assert ("too-slow", 1) == (standing.outcome, standing.attempts)


async def test_course_that_changes_while_ends_are_reported_is_sent_at_once(
    store: Store, url: str, mappings: Mappings
) -> None:
    """News that come in the midst of a report are not lost with it."""
    destination = Held()
    await write(store, update("p-1", 3, mappings))
    async with await Store.open(url) as other, reconciling(store, destination, mappings) as reconciler:
        await destination.taken.get()
        async with other.transaction() as transaction:
            await asyncio.sleep(0.1)  # by now the report waits for this transaction
            one = update("p-2", 3, mappings)
            await transaction.lock([one.patient])
            await transaction.write([one], [StoredDestination(NAME)], datetime.now(UTC))
        reconciler.wake()
        assert 1 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)


async def test_more_than_a_destination_takes_at_once_is_sent_without_another_look(
    store: Store, mappings: Mappings
) -> None:
    """A claim that is full says that more may be due."""
    destination = Held()
    for number in range(3 * Held.at_once):
        await write(store, update(f"p-{number}", 3, mappings))
    async with reconciling(store, destination, mappings), asyncio.timeout(AT_ONCE_S):
        for _ in range(3 * Held.at_once):
            await destination.taken.get()


async def test_plan_does_not_wait_for_the_report_of_another(store: Store, mappings: Mappings) -> None:
    """The second is sent while the first is still under way."""
    destination = Held()
    destination.gate.clear()
    await write(store, update("p-1", 3, mappings))
    async with reconciling(store, destination, mappings) as reconciler:
        await destination.taken.get()
        await write(store, update("p-2", 3, mappings))
        reconciler.wake()
        assert 1 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
        destination.gate.set()


async def test_what_has_ended_is_reported_before_the_loop_ends(store: Store, mappings: Mappings) -> None:
    """Told to stop in the midst of a delivery, the loop waits for it, and the store knows of it."""
    destination = Held()
    destination.gate.clear()
    await write(store, update("p-1", 3, mappings))
    async with reconciling(store, destination, mappings):
        await destination.taken.get()
        asyncio.get_running_loop().call_later(0.05, destination.gate.set)
    assert Pending(0, None) == await store.deliveries.pending(NAME)


async def test_what_was_recorded_before_the_database_went_away_is_not_told_again(
    store: Store, mappings: Mappings
) -> None:
    """Of what ended together, one plan was acknowledged by then: told twice, it would be sent twice."""
    destination = Held()
    destination.gate.clear()
    destination.fails = [Transient("unavailable", "Away.", retry_after=3600.0)]
    postpone, failed = store.deliveries.postpone, asyncio.Event()

    async def fail_once(*given: Any, **named: Any) -> None:  # noqa: ANN401 - as `postpone`
        if not failed.is_set():
            failed.set()
            message = "The database is away."
            raise StoreError(message, transient=True)
        await postpone(*given, **named)

    store.deliveries.postpone = fail_once  # type: ignore[method-assign]  # the database goes away between two reports
    for patient in ("p-1", "p-2"):
        await write(store, update(patient, 3, mappings))
    async with reconciling(store, destination, mappings):
        for _ in range(2):
            await asyncio.wait_for(destination.taken.get(), HANGS_S)
        destination.gate.set()
        await asyncio.wait_for(failed.wait(), HANGS_S)
    standing = await store.desk.deliveries(NAME, behind=False)
    assert [None, "unavailable"] == sorted((each.outcome for each in standing), key=str)
    assert 1 == (await store.deliveries.pending(NAME)).count


async def test_plan_of_another_source_is_not_sent_and_one_that_was_sent_is_taken_back(
    store: Store, mappings: Mappings
) -> None:
    """As of a destination that got the courses of all: its patient of the same id is somebody else."""
    destination = Held()
    await write(store, update("sent", 3, mappings))
    async with reconciling(store, destination, mappings):
        assert 1 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
    await write(store, update("unsent", 3, mappings))
    async with reconciling(store, destination, mappings, sources=["north"]) as reconciler:
        assert 2 == await store.deliveries.bring_up_to_date(NAME, datetime.now(UTC), sources=["north"])
        reconciler.wake()
        await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
    sent, taken_back = destination.plans
    assert ["Patient/sent", "Patient/sent"] == [sent.patient, taken_back.patient]
    assert ["entered-in-error"] == [resource["status"] for _, resource in taken_back.resources]
    assert Pending(0, None) == await store.deliveries.pending(NAME)
    assert 0 == await store.deliveries.bring_up_to_date(NAME, datetime.now(UTC), sources=["north"])


async def test_plans_are_sent_again_when_a_destination_takes_other_things(store: Store, mappings: Mappings) -> None:
    """What was acknowledged as far as it was taken then, a Flag left out, must not stay so; other routes stand."""
    destination = Held()
    await write(store, update("p-1", 3, mappings))
    async with reconciling(store, destination, mappings):
        await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
    async with reconciling(store, destination, mappings) as reconciler:
        reconciler.agree({Route.TOPIC})
        await asyncio.sleep(0.2)
        assert destination.taken.empty()
        reconciler.agree(())
        assert 1 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
    assert Pending(0, None) == await store.deliveries.pending(NAME)


async def test_plan_that_was_under_way_when_terms_changed_is_sent_again(store: Store, mappings: Mappings) -> None:
    """It went by those before, and must not stay so; nothing in its ledger is doubted for that."""
    destination = Held()
    destination.gate.clear()
    destination.keeps = {"remotes": {"careplan": {"id": "c", "digest": "d"}}, "terms": "before"}
    await write(store, update("p-1", 3, mappings))
    async with reconciling(store, destination, mappings) as reconciler:
        await asyncio.wait_for(destination.taken.get(), HANGS_S)
        reconciler.agree((), "after")
        await asyncio.sleep(0.2)  # the look that finds nothing acknowledged
        destination.gate.set()
        assert 1 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
    assert [{}, destination.keeps] == destination.ledgers
    assert Pending(0, None) == await store.deliveries.pending(NAME)


async def test_destination_that_takes_less_is_counted(store: Store, mappings: Mappings) -> None:
    """Somebody should look at it: what is left out no clinician sees."""
    metrics = create_metrics(topics={"main": ()}, destinations=[NAME], reasons=[])
    vitals = Vitals(metrics, Health(), lambda: datetime.now(UTC))
    reconciler = Reconciler(store, Held(), {"main": mappings}, Deliveries(), vitals)

    reconciler.agree((), "other")
    reconciler.agree((), "less", shrunk=True)

    told = metrics.registry.get_sample_value("ipt_bridge_terms_shrunk_total", {"destination": NAME})
    assert told == 1


async def test_withheld_plan_whose_first_answer_was_lost_is_taken_back(store: Store, mappings: Mappings) -> None:
    """It may have arrived all the same: nothing that was attempted counts as never sent."""
    destination = Held()
    await write(store, update("lost", 3, mappings))
    claimed = await store.deliveries.claim(NAME, datetime.now(UTC), 1, timedelta(0))
    await write(store, update("lost", 4, mappings, (PART_2,)))
    async with reconciling(store, destination, mappings, ("42CFRPart2",)):
        await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
    assert 1 == len(claimed)
    assert ["entered-in-error"] == [resource["status"] for _, resource in destination.plans[0].resources]


async def test_after_an_attempt_that_was_never_heard_of_what_was_sent_is_in_doubt(
    store: Store, mappings: Mappings
) -> None:
    """Until the destination has looked, though an attempt fails before; one that failed leaves nothing in doubt."""
    destination = Held()
    known = {"id": "c", "digest": "d", "hashes": ["title=1f0c"]}
    destination.keeps = {"remotes": {"careplan": known}}
    await write(store, update("lost", 3, mappings))
    async with reconciling(store, destination, mappings) as reconciler:
        await asyncio.wait_for(destination.taken.get(), HANGS_S)
        destination.fails = [Transient("unavailable", "Away.", retry_after=0.0)]
        await write(store, update("lost", 4, mappings))
        reconciler.wake()
        for _ in range(2):
            await asyncio.wait_for(destination.taken.get(), HANGS_S)
    await write(store, update("lost", 5, mappings))
    await store.deliveries.claim(NAME, datetime.now(UTC), 1, timedelta(0))
    destination.fails = [Transient("unavailable", "Away.", retry_after=0.0)]
    async with reconciling(store, destination, mappings) as reconciler:
        for _ in range(2):
            await asyncio.wait_for(destination.taken.get(), HANGS_S)
        await write(store, update("lost", 6, mappings))
        reconciler.wake()
        await asyncio.wait_for(destination.taken.get(), HANGS_S)
    doubt = {"remotes": {"careplan": known | {"digest": "", "hashes": []}}}
    sure = destination.keeps
    assert [{}, sure, sure, doubt, doubt, sure] == destination.ledgers


@pytest.mark.parametrize("withhold", ["42CFRPart2", "http://terminology.hl7.org/CodeSystem/v3-ActCode|42CFRPart2"])
async def test_plan_with_a_withheld_label_is_not_sent_and_one_that_was_sent_is_taken_back(
    withhold: str, store: Store, mappings: Mappings
) -> None:
    """What takes it back names neither the label nor anything of the course; the next change sends nothing."""
    destination = Held()
    await write(store, update("never", 3, mappings, (PART_2,)))
    await write(store, update("before", 3, mappings))
    async with reconciling(store, destination, mappings, (withhold,)) as reconciler:
        assert 1 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
        await write(store, update("before", 4, mappings, (PART_2, OTHER)))
        reconciler.wake()
        assert 2 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
        await write(store, update("before", 5, mappings, (PART_2,)))
        await write(store, update("open", 3, mappings, (OTHER,)))
        reconciler.wake()
        assert 1 == await asyncio.wait_for(destination.taken.get(), AT_ONCE_S)
    sent, taken_back, other = destination.plans
    assert ["Patient/before", "Patient/before", "Patient/open"] == [sent.patient, taken_back.patient, other.patient]
    (careplan,) = (resource for _, resource in taken_back.resources)
    assert "entered-in-error" == careplan["status"]
    assert [{"system": OTHER.system, "code": OTHER.code}] == careplan["meta"]["security"]
    assert not careplan.keys() & {"activity", "goal", "extension", "description"}
    assert 0 == await store.deliveries.bring_up_to_date(NAME, datetime.now(UTC), withheld=["42CFRPart2"])
