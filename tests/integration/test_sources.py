"""What the intake tells of its sources, and the watch over event numbers, on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
import structlog
from sqlalchemy import text

from service import app
from service.backfill.catching_up import CaughtUp
from service.domain.event_numbers import Numbered
from service.gaps import FIRST_WAIT, GapWatch, searching
from service.inbound.records import Limits, Record
from service.meter import Meter
from service.rest.errors import Transient
from service.settings import Inbound, Settings, Source, Topic
from service.store import FeedRate, StoreError
from service.store.dialects import create_engine
from tests.synthetic import SOURCE
from tests.workers import END, TOPICS, Clock, weekly

if TYPE_CHECKING:
    from service.backfill.portions import Position
    from service.domain.mappings import Mappings
    from service.store import EventGap, Store
    from tests.workers import Worker

IPT = {"coding": [{"system": "http://snomed.info/sct", "code": "443730003"}]}
OPEN_FOR = timedelta(minutes=5)


def record(value: Any, offset: int, minute: int = 0) -> Record:  # noqa: ANN401 - any JSON
    """Return a record that holds this, of this minute."""
    return Record("Encounter", 0, offset, END + timedelta(minutes=minute), None, orjson.dumps(value))


def notification(number: int) -> dict[str, Any]:
    """Return R5's notification of an event with this number, about a resource that nobody reads."""
    status = {
        "resourceType": "SubscriptionStatus",
        "type": "event-notification",
        "status": "active",
        "subscription": {"reference": "Subscription/s-1"},
        "notificationEvent": [{"eventNumber": str(number), "focus": {"reference": "Observation/o-1"}}],
    }
    return {"resourceType": "Bundle", "type": "subscription-notification", "entry": [{"resource": status}]}


async def take(worker: Worker, *records: Record) -> None:
    """Process these as one batch."""
    await worker.intake.process(await worker.intake.read(records))


async def rates(store: Store) -> dict[tuple[str, str], int]:
    """Return what was counted ever, by kind and outcome."""
    overview = await store.sources.overview(SOURCE.id, END)
    return {(rate.kind, rate.outcome): rate.total for rate in overview.rates}


async def test_changes_are_counted_by_kind_and_outcome(one: Worker) -> None:
    """Of what is ours, what is not, what is none of our types, and what can't be read."""
    await one.take(weekly(1, 4))
    await take(
        one,
        record({"resourceType": "Observation", "id": "o"}, 90),
        record({"resourceType": "Encounter", "id": "e-9", "status": "finished"}, 91),
        record({"resourceType": "Encounter", "id": "e-9", "period": 1, "type": [IPT]}, 92),
        record({"neither": 1}, 93),
    )
    await one.intake.tell()

    assert {
        ("Encounter", "relevant"): 2,
        ("QuestionnaireResponse", "relevant"): 2,
        ("Encounter", "irrelevant"): 1,
        ("Encounter", "parked"): 1,
        ("other", "irrelevant"): 1,
        ("unknown", "parked"): 1,
    } == await rates(one.store)


async def test_what_is_none_of_ours_needs_no_transaction_and_is_counted_with_the_next(one: Worker) -> None:
    """Most batches of a quiet hour hold nothing to store."""
    await take(one, record({"resourceType": "Observation", "id": "o"}, 0))
    assert {} == await rates(one.store)
    await one.intake.tell()
    await one.intake.tell()

    assert {("other", "irrelevant"): 1} == await rates(one.store)
    assert END == (await one.store.sources.overview(SOURCE.id, END)).latest


async def test_batch_that_is_tried_again_is_counted_once(one: Worker, url: str) -> None:
    """And what waited for its transaction is not lost with it."""
    engine = create_engine(url, 1)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE feed_count RENAME TO elsewhere"))
    await take(one, record({"resourceType": "Observation", "id": "o"}, 0))
    batch = await one.intake.read([record({"resourceType": "Encounter", "id": "e", "status": "planned"}, 1)])
    with pytest.raises(StoreError):
        await one.intake.tell()
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO feed_count"))
    await engine.dispose()
    await one.intake.process(batch)

    assert {("other", "irrelevant"): 1, ("Encounter", "irrelevant"): 1} == await rates(one.store)
    assert FeedRate("other", "irrelevant", 1, 1) in (await one.store.sources.overview(SOURCE.id, END)).rates


async def test_gap_in_event_numbers_is_told_by_metric_and_log_once_it_stays(
    one: Worker, two: Worker, clock: Clock
) -> None:
    """Numbers are the whole store's: what one worker has not seen another may have."""
    await take(one, *(record(notification(number), number) for number in (1, 2, 6)))
    await take(two, record(notification(4), 4))
    watch = GapWatch(one.store, OPEN_FOR, {}, one.vitals)
    await watch.look()
    assert {} == await one.store.sources.open_gaps()

    clock.at += OPEN_FOR
    with structlog.testing.capture_logs() as logged:
        await watch.look()
        await watch.look()

    assert [("warning", SOURCE.id, 1), ("warning", SOURCE.id, 1)] == [
        (line["log_level"], line["source"], line["missing"]) for line in logged
    ]
    assert 2 == one.counted("missed_events", source=SOURCE.id)
    assert 2 == gauge(one)
    await take(two, record(notification(3), 7), record(notification(5), 8))
    await watch.look()
    assert 0 == gauge(one)
    assert not await watch.search(SOURCE.id)


async def test_nothing_is_missing_while_a_backlog_is_read(one: Worker, clock: Clock) -> None:
    """One partition may be hours behind another."""
    await take(one, *(record(notification(number), number) for number in (1, 3)))
    clock.at += OPEN_FOR
    one.vitals.backlog.catching_up = True
    watch = GapWatch(one.store, OPEN_FOR, {}, one.vitals)
    await watch.look()
    assert 0 == gauge(one)

    one.vitals.backlog.catching_up = False
    await watch.look()
    assert 1 == gauge(one)


async def test_what_a_gap_hides_is_searched_for_until_it_is_found(one: Worker, clock: Clock) -> None:
    """A server that is away is asked again later; then the gap is closed, and stays so."""
    await take(one, record(notification(1), 0), record(notification(5), 1, minute=3))
    clock.at += OPEN_FOR
    asked: list[EventGap] = []
    away = True

    async def catch_up(gap: EventGap) -> None:
        asked.append(gap)
        if away:
            raise Transient("unavailable", "The server is away.")

    watch = GapWatch(one.store, OPEN_FOR, {SOURCE.id: catch_up}, one.vitals)
    await watch.look()
    assert await watch.search(SOURCE.id)
    assert not await watch.search(SOURCE.id)
    away = False
    clock.at += timedelta(hours=1)
    assert await watch.search(SOURCE.id)
    await watch.look()

    assert [(2, 4, END, END + timedelta(minutes=3))] * 2 == [(g.first, g.last, g.after, g.before) for g in asked]
    assert {"searched-without-deletes": 1} == (await one.store.sources.overview(SOURCE.id, END)).gaps_closed
    assert 0 == gauge(one)


async def test_search_that_outlasts_its_lease_goes_on_where_it_was(one: Worker, clock: Clock) -> None:
    """However large a gap is, in the end it is closed; what each attempt changed is delivered at once."""
    await take(one, record(notification(1), 0), record(notification(3), 1))
    clock.at += OPEN_FOR
    positions: list[Position] = []
    woken: list[bool] = []

    async def find(*, position: Position, stored: Any, **_: object) -> CaughtUp:  # noqa: ANN401 - as GapWatch gives it
        positions.append(position)
        brought = CaughtUp(1, 0, changed=True)
        await stored(brought, {"place": len(positions)})
        if len(positions) < 3:
            raise TimeoutError
        return brought

    search = searching(find, one.store.backfills, TOPICS, lambda: woken.append(True), clock)
    watch = GapWatch(one.store, OPEN_FOR, {SOURCE.id: search}, one.vitals)
    await watch.look()
    for _ in range(3):
        assert await watch.search(SOURCE.id)
        clock.at += FIRST_WAIT

    assert ([{}, {"place": 1}, {"place": 2}], [True] * 3) == (positions, woken)
    assert {"searched-without-deletes": 1} == (await one.store.sources.overview(SOURCE.id, clock.at)).gaps_closed


async def test_source_that_never_answers_keeps_no_other_from_being_searched(one: Worker, clock: Clock) -> None:
    """Each source is searched for by itself."""
    await take(one, record(notification(1), 0), record(notification(3), 1))
    clock.at += OPEN_FOR
    stop, never = asyncio.Event(), asyncio.Event()

    async def hangs(_: EventGap) -> None:
        await never.wait()

    async def finds(_: EventGap) -> None:
        stop.set()
        never.set()

    await add_gap(one, "other")
    watch = GapWatch(one.store, OPEN_FOR, {"other": hangs, SOURCE.id: finds}, one.vitals)
    await watch.look()
    async with asyncio.timeout(60):
        await watch.run(stop)
    assert {"searched-without-deletes": 1} == (await one.store.sources.overview(SOURCE.id, clock.at)).gaps_closed


async def add_gap(worker: Worker, source: str) -> None:
    """Store that events of another source are missing, since longer than those of the first."""
    earlier = worker.vitals.now() - 2 * OPEN_FOR
    async with worker.store.transaction() as transaction:
        seen = [Numbered(number, earlier) for number in (1, 3)]
        await transaction.tell((), {}, {(source, "Subscription/o"): seen}, earlier)


def gauge(worker: Worker) -> float | None:
    """Return how many gaps a worker's metrics show."""
    return worker.vitals.metrics.registry.get_sample_value("ipt_bridge_event_gaps", {"source": SOURCE.id})


async def test_sampled_deviations_are_stored_by_path(one: Worker) -> None:
    """With how many resources were held against the model; reading them is another matter."""
    one.intake.meter = Meter(dict.fromkeys(TOPICS, SOURCE), Limits())
    odd = {"resourceType": "Encounter", "id": "e_1", "status": "finished", "class": {"code": "AMB"}}
    await take(one, record(odd, 0))
    await one.intake.tell()

    assert {"Encounter.id": 1} == (await one.store.sources.overview(SOURCE.id, END)).deviations
    assert {("Encounter", "irrelevant"): 1, ("Encounter", "deviating"): 1} == await rates(one.store)


@pytest.mark.parametrize("mode", ["off", "sample", "enforce"])
def test_conformance_is_metered_as_the_settings_say(mode: str, mappings: Mappings) -> None:
    """Nothing is looked at twice: what is enforced needs no samples."""
    settings = Settings(inbound=Inbound(conformance=mode))
    made = app.intake(settings, cast("Store", None), app.vitals_of(settings), {"main": mappings})
    contexts = {feed.context.enforces for feed in app.feeds(settings, {"main": mappings}).values()}

    assert (mode == "sample", {mode == "enforce"}) == (made.meter is not None, contexts)


def test_gap_is_searched_for_in_the_types_that_the_topics_have() -> None:
    """A topic without a type may have any of them; a server that refuses those that no topic names is passed over."""
    merges = Source(topics=(Topic(name="patients", resource_type="Patient"), Topic(name="all")))

    assert ("Encounter", "QuestionnaireResponse") == app.types_of(Source())
    assert ("Encounter", "Patient", "QuestionnaireResponse", "Task") == app.types_of(merges)
    assert (frozenset(), frozenset({"Task"})) == (app.may_lack(Source()), app.may_lack(merges))
