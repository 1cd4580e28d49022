"""Wiring and lifecycle: settings in, the loops, the sweeper and the probes running until told to stop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from service.auditing import AuditTeller
from service.backfill.catching_up import catch_up
from service.backfill.portions import record_of, topic_of
from service.clients import destination_client, kafka_options, source_client
from service.configuration import check_profile, load_mappings, load_vendor_profiles
from service.deliveries import Reconciler
from service.domain import state
from service.domain.course import Phase
from service.domain.facts import Code
from service.fetching import Fetcher
from service.gaps import GapWatch, searching
from service.health import Condition, Health, health_app, serving
from service.inbound.records import Limits, Reason, SourceContext
from service.inbound.relevance import READ_TYPES, Relevance
from service.intake import UNPROCESSABLE, Feed, Intake
from service.meter import Meter
from service.metrics import create_metrics
from service.outbound.agreement import Agreement, Wishes
from service.outbound.audit_route import AuditRoute
from service.outbound.ehr import EhrDestination
from service.outbound.topic import TopicDestination
from service.rounds import Rounds
from service.settings import FhirDestination, KafkaDestination
from service.store import Destination as StoredDestination
from service.store import Store, is_transient
from service.stream import Stream
from service.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.domain.facts import Fact
    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile
    from service.gaps import CatchUp
    from service.outbound.destination import Destination
    from service.settings import Settings, Source
    from service.store import Pending

log = structlog.get_logger(__name__)

ALWAYS = frozenset({"Encounter", "QuestionnaireResponse"})
"""Types that every source is searched for."""
NUMBERS_S = 15.0
"""How often the numbers that the database counts are read for the metrics (seconds)."""


class NotMigrated(Exception):  # noqa: N818 - it says what the database is
    """The tables are not those of this release; the message says what to run."""


def now() -> datetime:
    """Return the present: the one clock of the process, handed to the loops."""
    return datetime.now(UTC)


def all_mappings(settings: Settings) -> dict[str, Mappings]:
    """Return the mappings of each source. Raises ConfigurationError or MappingError."""
    return {
        source.id: load_mappings(settings, source.site).labelled(Code(*each.split("|")) for each in source.labels)
        for source in settings.sources
    }


def feeds(settings: Settings, mappings: Mapping[str, Mappings]) -> dict[str, Feed]:
    """Return what the intake needs to know of each topic, and of what a backfill brings without one."""
    found: dict[str, Feed] = {}
    enforces = settings.inbound.conformance == "enforce"
    for source in settings.sources:
        read = feed(source, mappings[source.id], enforces=enforces)
        found |= dict.fromkeys((topic.name for topic in source.topics), read)
        # Exports and searches hold resources as they are, whatever the topics wrap them in.
        found[topic_of(source.id)] = replace(read, context=replace(read.context, envelope=None))
    return found


def feed(source: Source, mappings: Mappings, *, enforces: bool = False) -> Feed:
    """Return what the intake needs to know of a source, and whether it parks what deviates from FHIR."""
    key_types = {topic.name: topic.resource_type for topic in source.topics if topic.resource_type}
    context = SourceContext(
        id=source.id,
        time_zone=source.time_zone,
        base=source.fhir_base,
        key_types=key_types,
        envelope=source.envelope,
        answer_texts=mappings.answer_texts,
        fhir_version=source.fhir_version,
        enforces=enforces,
        searches_subjects=source.subjects_by_identifier == "search",
    )
    return Feed(context, Relevance.of(mappings), mappings)


def limits(settings: Settings) -> Limits:
    """Return what one record may hold."""
    return Limits(
        bytes=settings.limits.bytes,
        depth=settings.limits.depth,
        items=settings.limits.items,
        entries=settings.limits.entries,
    )


def destinations(settings: Settings) -> list[Destination]:
    """Return the destinations that the settings name, none of them connected yet. Raises ConfigurationError."""
    profiles = load_vendor_profiles(settings)
    return [_destination(settings, each, profiles) for each in settings.destinations]


def _destination(
    settings: Settings, each: KafkaDestination | FhirDestination, profiles: Mapping[str, VendorProfile]
) -> Destination:
    if isinstance(each, KafkaDestination):
        return TopicDestination(each.name, each.topic, connection=kafka_options(settings.kafka))
    check_profile(each.name, each.profile, profiles)
    client = destination_client(each)
    agreement = Agreement(each.name, client, profiles, Wishes(each.profile, each.scores, each.note_format))
    at_once = each.concurrency or settings.deliveries.concurrency
    ehr_of = [source.id for source in settings.sources if source.fhir_base == each.base]
    deletes = each.retract_by == "delete"
    audit = AuditRoute(client, agreement, deletes=deletes) if each.audit_events else None
    return EhrDestination(
        each.name, client, at_once=at_once, agreement=agreement, ehr_of=ehr_of, deletes=deletes, audit=audit
    )


def intake(settings: Settings, store: Store, vitals: Vitals, mappings: Mapping[str, Mappings]) -> Intake:
    """Return the intake of all sources into a store."""
    places = [
        StoredDestination(
            each.name,
            takes_over=each.kind == "fhir",
            sources=None if each.sources is None else frozenset(each.sources),
        )
        for each in settings.destinations
    ]
    read = feeds(settings, mappings)
    most = limits(settings)
    made = Intake(store, read, places, most, vitals)
    if settings.inbound.conformance == "sample":
        made.meter = Meter({topic: each.context for topic, each in read.items()}, most)
    return made


def vitals_of(settings: Settings) -> Vitals:
    """Return metrics at zero, health with nothing met yet, and the clock."""
    metrics = create_metrics(
        topics={source.id: tuple(topic.name for topic in source.topics) for source in settings.sources},
        destinations=[each.name for each in settings.destinations],
        reasons=[*(reason.value for reason in Reason), UNPROCESSABLE],
    )
    return Vitals(metrics, Health(), now)


async def open_store(settings: Settings) -> Store:
    """Return the store, its tables at this release's migration. Raises StoreError or NotMigrated.

    A SQLite file is brought there by itself: nobody else has it. A server's tables are a person's decision.
    """
    store = await Store.open(settings.store.sqlalchemy_url())
    try:
        if settings.store.place.startswith("sqlite"):
            await store.migrate()
        state = await store.schema_state()
    except BaseException:
        await store.close()
        raise
    if not state.at_head:
        await store.close()
        msg = f"The tables in {settings.store.place} are not those of this release. Run `ipt-bridge migrate`."
        raise NotMigrated(msg)
    return store


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service until `stop` is set; then finish what is in hand, commit it and leave the group.

    Raises whatever ends a loop for good: nothing is lost by ending, the next start goes on from the store.
    """
    mappings = all_mappings(settings)
    vitals = vitals_of(settings)
    vitals.health.hold(Condition.CONFIGURATION)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(
            serving(health_app(vitals.health, vitals.metrics), settings.http.host, settings.http.port)
        )
        store = await open_store(settings)
        stack.push_async_callback(store.close)
        vitals.health.hold(Condition.SCHEMA)
        for name, each_mappings in mappings.items():
            again = await store.project_again(name, each_mappings.digest, now())
            if again:
                log.info("the mappings have changed; patients are projected again", source=name, patients=again)
        if late := await store.take_up(now()):
            log.info("patients that a worker put off are projected first", patients=late)
        loop = intake(settings, store, vitals, mappings)
        reconcilers: list[Reconciler] = []
        wake = partial(_wake, reconcilers)
        places, rounds = await _places(settings, mappings, store, loop, reconcilers, vitals, stack)
        fetchers = await _fetchers(settings, mappings, store, loop, wake, vitals, stack)
        topics = [topic.name for source in settings.sources for topic in source.topics]
        stream = Stream(settings.kafka, topics, loop, on_change=wake, vitals=vitals)
        searches = _searches(settings, mappings, store, loop, wake, stack)
        watch = GapWatch(store, timedelta(seconds=settings.inbound.gap_after_s), searches, vitals)
        log.info("started", sources=[source.id for source in settings.sources], health=url)
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.run(stop))
            group.create_task(_sweep(loop, stop, settings.sweeper.interval_s, wake, vitals))
            group.create_task(_count(store, loop, settings, stop, vitals))
            group.create_task(watch.run(stop))
            for place, reconciler in zip(places, reconcilers, strict=True):
                if isinstance(place, EhrDestination):
                    group.create_task(place.follow(stop, reconciler.agree))
                    if place.audit is not None:
                        teller = AuditTeller(store, place.name, place.base, place.audit, settings.deliveries, vitals)
                        group.create_task(teller.run(stop))
                group.create_task(reconciler.run(stop))
            for each in rounds:
                group.create_task(each.run(stop))
            for fetcher in fetchers:
                group.create_task(fetcher.run(stop))
            vitals.health.hold(Condition.CONSUMING)
            await stop.wait()
            vitals.health.stopping = True
            log.info("stopping")
        await _told(loop)
    log.info("stopped")


def _wake(reconcilers: Sequence[Reconciler]) -> None:
    for reconciler in reconcilers:
        reconciler.wake()


async def _places(  # noqa: PLR0913, PLR0917 - what `serve` has made
    settings: Settings,
    mappings: Mapping[str, Mappings],
    store: Store,
    loop: Intake,
    reconcilers: list[Reconciler],
    vitals: Vitals,
    stack: AsyncExitStack,
) -> tuple[list[Destination], list[Rounds]]:
    """Return the destinations, closed with the stack, and what looks at them; `reconcilers` get what delivers there."""

    async def take_in(source: str, tasks: Sequence[Mapping[str, Any]]) -> None:
        records = [record_of(source, orjson.dumps(task), now()) for task in tasks]
        if await loop.process(await loop.read(records)):
            _wake(reconcilers)

    async def learn(facts: Sequence[Fact]) -> None:
        if await loop.learn(facts):
            _wake(reconcilers)

    places = destinations(settings)
    found: list[Rounds] = []
    for place, configured in zip(places, settings.destinations, strict=True):
        stack.push_async_callback(place.close)
        behind = await store.deliveries.bring_up_to_date(
            place.name, now(), sources=configured.sources, withheld=tuple(map(state.mark, configured.withhold))
        )
        log.info("destination", name=place.name, behind=behind)
        reconcilers.append(
            Reconciler(
                store,
                place,
                mappings,
                settings.deliveries,
                vitals,
                sources=configured.sources,
                withhold=configured.withhold,
                take_in=take_in,
                learn=learn,
            )
        )
        if isinstance(place, EhrDestination) and isinstance(configured, FhirDestination):
            found.append(Rounds(store, place, take_in, vitals, every_s=configured.answers_every_s))
    return places, found


def _searches(  # noqa: PLR0913, PLR0917 - what `serve` has made
    settings: Settings,
    mappings: Mapping[str, Mappings],
    store: Store,
    loop: Intake,
    wake: Callable[[], None],
    stack: AsyncExitStack,
) -> dict[str, CatchUp]:
    """Return how to search for what gaps hide, by source, of those that have a FHIR base."""
    read = feeds(settings, mappings)
    found = {}
    for source in settings.sources:
        if source.fhir_base is not None:
            client = source_client(source)
            stack.push_async_callback(client.close)
            context = read[topic_of(source.id)].context
            types = types_of(source)
            find = partial(catch_up, client, loop, context, types, may_lack=may_lack(source), now=now)
            found[source.id] = searching(find, store.backfills, types, wake, now)
    return found


def types_of(source: Source) -> tuple[str, ...]:
    """Return the resource types that a source's FHIR server is searched for: all where a topic may have any of them."""
    written = {topic.resource_type for topic in source.topics}
    named = {each for each in written if each is not None}
    return tuple(sorted(READ_TYPES if None in written else {*ALWAYS, *named}))


def may_lack(source: Source) -> frozenset[str]:
    """Return those of `types_of` that its FHIR server may refuse: no topic is said to have them."""
    return frozenset(types_of(source)) - {*ALWAYS, *(topic.resource_type for topic in source.topics)}


async def _fetchers(  # noqa: PLR0913, PLR0917 - what `serve` has made
    settings: Settings,
    mappings: Mapping[str, Mappings],
    store: Store,
    loop: Intake,
    wake: Callable[[], None],
    vitals: Vitals,
    stack: AsyncExitStack,
) -> list[Fetcher]:
    """Return a fetcher for each source whose EHR can be asked; their clients are closed with the stack."""
    return [
        Fetcher(
            store,
            loop,
            feed(source, mappings[source.id]),
            await stack.enter_async_context(source_client(source)),
            settings=settings.fetching,
            limits=limits(settings),
            vitals=vitals,
            on_change=wake,
        )
        for source in settings.sources
        if source.fhir_base is not None
    ]


async def _sweep(
    loop: Intake, stop: asyncio.Event, interval_s: float, wake: Callable[[], None], vitals: Vitals
) -> None:
    """Project what has fallen due, again and again."""
    while not stop.is_set():
        vitals.turn("sweeper")
        try:
            if await loop.sweep():
                wake()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("the database is away; the sweeper waits", exc_info=error)
        await _pause(stop, interval_s)
    vitals.health.ended("sweeper")


async def _told(loop: Intake) -> None:
    """Store what the intake counted last; without it the counts of a few seconds are missing."""
    try:
        await loop.tell()
    except Exception as error:
        if not is_transient(error):
            raise
        log.warning("the database is away; what was counted last is not stored", exc_info=error)


async def _count(store: Store, loop: Intake, settings: Settings, stop: asyncio.Event, vitals: Vitals) -> None:
    """Put what the database counts into the metrics, and what the intake counted into the database, again and again."""
    metrics = vitals.metrics
    pruned = None
    while not stop.is_set():
        try:
            await loop.tell()
            if pruned != vitals.now().date():
                pruned = vitals.now().date()
                await store.sources.prune_counts(vitals.now())
            counts = await store.operators.counts()
            active = sum(count for phase, count in counts.courses.items() if phase != Phase.CLOSED)
            metrics.active_courses.set(active)
            metrics.put_off.set(counts.put_off)
            for source in settings.sources:
                awaited = await store.awaiting.pending(source.id)
                metrics.awaited(source.id).set(awaited.count)
                metrics.oldest_awaited_seconds(source.id).set(_waited(awaited, vitals.now()))
            for each in settings.destinations:
                pending = await store.deliveries.pending(each.name)
                metrics.undelivered(each.name).set(pending.count)
                metrics.oldest_undelivered_seconds(each.name).set(_waited(pending, vitals.now()))
                if each.kind == "fhir" and each.audit_events:
                    metrics.untold_writes(each.name).set(await store.audit_marks.waiting(each.name))
                metrics.fresh_ratio(each.name).set(max(0.0, 1 - pending.count / active) if active else 1.0)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("the database is away; its numbers are not current", exc_info=error)
        await _pause(stop, NUMBERS_S)


def _waited(pending: Pending, now: datetime) -> float:
    """How long the oldest has waited (seconds)."""
    return max(0.0, (now - pending.oldest).total_seconds()) if pending.oldest else 0.0


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
