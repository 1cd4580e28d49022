"""The second loop: for each destination, wanted against seen; deliver while they differ.

A plan is rendered here, from the course as it is when its turn comes, so a course that changed forty
times is sent once. One course's trouble, or one destination's, never holds up another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from service.domain import state
from service.outbound.acts import fact_of
from service.outbound.careplan import render, retract, withheld
from service.outbound.destination import PlanDelivery, Progress, Route
from service.outbound.models import InvalidPlan
from service.rest.backoff import Backoff
from service.rest.breaker import Breaker, State
from service.rest.errors import CONFLICT, Conflicting, Permanent, Transient
from service.store.errors import is_transient
from service.store.values import PATIENT_MISSING, Delivered, Postponed, Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from service.domain.course import Course
    from service.domain.facts import Code, Fact
    from service.domain.mappings import Mappings
    from service.outbound.careplan import Plan
    from service.outbound.destination import Delivered as Answers
    from service.outbound.destination import Destination
    from service.settings import Deliveries as DeliverySettings
    from service.store import Store
    from service.store.values import Claimed
    from service.vitals import Vitals

    TakeIn = Callable[[str, Sequence[Mapping[str, Any]]], Awaitable[None]]
    """Takes the id of a source, and Tasks as its events would bring them."""
    Learn = Callable[[Sequence[Fact]], Awaitable[None]]

log = structlog.get_logger(__name__)

DATABASE = "database"
"""Outcome of a delivery that arrived while the database was away: it is made again, which changes nothing there."""
FAILED = "failed"
"""Reason code of a delivery that failed for a reason that nobody foresaw."""
_REASONS: dict[type[Exception], str] = {InvalidPlan: "invalid-plan"}
LOOK_S = 2.0
"""How often to look for deliveries whose wait is over, when nothing else wakes the loop (seconds)."""
REPORT_S = 0.02
"""What has ended is reported together with what ends so soon after it: nobody waits for that report (seconds)."""
REPORT_AT_ONCE = 64
"""Or once so many have ended (deliveries)."""
MARGIN = 0.1
"""So much of its lease a delivery leaves unused: it has ended, and is reported, before another worker may take it."""
FAILURES = 3
"""So many different courses fail in a row before the destination is at fault, and left alone for a while."""
LEFT_ALONE = Backoff(first_s=1.0, longest_s=30.0)
"""For how long: its return is seen within half a minute, and meanwhile one plan at a time finds out (seconds)."""
CONFLICTS = 8
"""So often a plan is tried anew that somebody keeps changing, each time with several merges; then a person looks."""
FOR_A_PATIENT = Backoff(first_s=120.0, longest_s=3600.0)
"""How long to wait for a patient whom the destination does not know: other systems load patients there (seconds)."""
HOLD_S = 30.0
"""While the intake catches up with a backlog, courses go on changing: a plan waits so long, and is rendered once."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A delivery that a person must look at."""

    claimed: Claimed
    reason: str
    again: datetime | None = None
    """When it is tried again by itself all the same; None: never."""
    hashes: str | None = None
    """Of our content and the destination's, where a conflict between them is why."""
    remote: Mapping[str, Any] | None = None
    """What the destination may hold, where something was written before it failed."""
    writes: tuple[Write, ...] = ()
    """What was written, or failed to be, for the audit trail."""


Report = Delivered | Postponed | Refused
_KEPT_BACK = (Route.WITHHELD, Route.OTHER_SOURCE)
_OUTCOMES: dict[type[Report], str] = {Delivered: "delivered", Postponed: "retried", Refused: "parked"}


class Reconciler:
    """Brings one destination up to date, again and again."""

    def __init__(  # noqa: PLR0913 - the last is what the configuration says of this destination alone
        self,
        store: Store,
        destination: Destination,
        mappings: Mapping[str, Mappings],
        settings: DeliverySettings,
        vitals: Vitals,
        *,
        sources: Collection[str] | None = None,
        withhold: Collection[str] = (),
        take_in: TakeIn | None = None,
        learn: Learn | None = None,
    ) -> None:
        """`mappings` by source; a course with a label among `withhold` (`system|code`, or `code`) is not sent.

        Neither is one of a source that is not among `sources`, where these are given.
        `take_in` takes Tasks that clinicians completed at the destination, as the stream's events are taken; `learn`
        facts of what else they did there.
        """
        self._store = store
        self._destination = destination
        self._sources = None if sources is None else frozenset(sources)
        self._withhold = frozenset(withhold)
        self._take_in = take_in
        self._learn = learn
        self._mappings = mappings
        self._lease = timedelta(seconds=settings.lease_s)
        self._margin = MARGIN * self._lease
        self._backoff = Backoff(settings.backoff_s, settings.backoff_max_s)
        self._breaker = Breaker(FAILURES, LEFT_ALONE)
        self._vitals = vitals
        self._metrics = vitals.metrics
        self._alike: tuple[frozenset[Route], str] | None = None  # None: what is acknowledged stands
        self._as_before: set[asyncio.Task[Report]] = set()  # begun before the terms changed that `_agreed` names
        self._agreed: tuple[frozenset[Route], str] | None = None
        self._news = asyncio.Event()
        self._under_way: set[asyncio.Task[Report]] = set()
        self._ended: list[asyncio.Task[Report]] = []
        self._ended_since = 0.0  # when the first of them ended, by the loop's clock
        self._due = True
        self._looked = -LOOK_S
        self._told = State.CLOSED

    def wake(self) -> None:
        """Look at once: a course has changed."""
        self._due = True
        self._news.set()

    def agree(self, alike: Collection[Route], terms: str = "", shrunk: bool = False) -> None:  # noqa: FBT001, FBT002 - as `EhrDestination.follow` tells
        """Send again what was acknowledged: the destination takes other things.

        Not what it took under these `terms`; nor what went by routes `alike`, where the terms then are not known.
        `shrunk`: it takes less than before, which somebody should look at. What is under way may go by what it took
        before: it is looked at once more when it is acknowledged, where `terms` tell it from what went by these.
        """
        if shrunk:
            self._metrics.terms_shrunk(self._destination.name).inc()
        self._alike = self._agreed = frozenset(alike), terms
        self._as_before = {*self._under_way, *self._ended} if terms else set()
        self.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; what is under way then is finished first."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._news.set())
        try:
            while self._under_way or self._ended or not stop.is_set():
                self._vitals.turn("deliveries")
                self._tell_state()
                self._news.clear()
                if self._look_in(stop) <= 0:
                    await self._begin()
                if self._report_in(stop) <= 0 and not await self._report_ended():
                    if stop.is_set():
                        break
                    await asyncio.sleep(LOOK_S)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(self._look_in(stop), self._report_in(stop))):
                        await self._news.wait()
        finally:
            stopping.cancel()
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(stopping, *self._under_way, return_exceptions=True)
            self._vitals.health.ended("deliveries")

    def _look_in(self, stop: asyncio.Event) -> float:
        """How long until what is due is to be looked for; not while the destination is busy or left alone (seconds)."""
        if stop.is_set() or 2 * len(self._under_way) > self._destination.at_once:
            return LOOK_S
        now = self._vitals.now()
        match self._breaker.state(now):
            case State.OPEN:
                return min(LOOK_S, (self._breaker.next_at(now) - now).total_seconds())
            case State.HALF_OPEN if self._under_way:
                return LOOK_S
        if self._due and not self._vitals.backlog.catching_up:
            return 0.0
        return max(0.0, self._looked + LOOK_S - asyncio.get_running_loop().time())

    def _report_in(self, stop: asyncio.Event) -> float:
        """How long until what has ended is to be reported: at once where nothing else will end (seconds)."""
        if not self._ended:
            return LOOK_S
        if len(self._ended) >= REPORT_AT_ONCE or (stop.is_set() and not self._under_way):
            return 0.0
        return max(0.0, self._ended_since + REPORT_S - asyncio.get_running_loop().time())

    async def _begin(self) -> None:
        """Take what is due, and begin to deliver it."""
        self._due = False
        self._looked = asyncio.get_running_loop().time()
        is_trial = self._breaker.state(self._vitals.now()) is State.HALF_OPEN
        room = 1 if is_trial else self._destination.at_once - len(self._under_way)
        found = await self._claim(room)
        for claimed in found:
            task = asyncio.create_task(self._deliver(claimed))
            self._under_way.add(task)
            task.add_done_callback(self._end)
        self._due = self._due or len(found) == room

    def _end(self, task: asyncio.Task[Report]) -> None:
        self._under_way.discard(task)
        if not self._ended:
            self._ended_since = asyncio.get_running_loop().time()
        self._ended.append(task)
        self._news.set()

    async def _claim(self, most: int) -> list[Claimed]:
        name, now = self._destination.name, self._vitals.now()
        waiting_since = None
        if self._vitals.backlog.catching_up:
            waiting_since = now - timedelta(seconds=HOLD_S)
        try:
            if (alike := self._alike) is not None:
                routes, terms = alike
                again = await self._store.deliveries.want_again(
                    name, now, but_for=routes, kept_back=_KEPT_BACK, terms=terms
                )
                if self._alike is alike:
                    self._alike = None
                if again:
                    log.info("plans are sent again, as a destination takes others", destination=name, plans=again)
            return await self._store.deliveries.claim(name, now, most, self._lease, waiting_since=waiting_since)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("the database is away; deliveries wait", exc_info=error)
            return []

    async def _deliver(self, claimed: Claimed) -> Report:
        """Return how a delivery ended. Raises nothing: one course must not end the service."""
        # What is in doubt stays so, should this attempt fail before it has looked.
        progress = Progress(claimed.remote if claimed.unheard and claimed.remote else None)
        try:
            return await self._tried(claimed, progress)
        except Exception as error:
            log.exception(
                "a plan can't be delivered and is parked",
                destination=self._destination.name,
                course=claimed.course_id,
                exc_info=error,
            )
            return Refused(claimed, FAILED, remote=progress.ledger, writes=_wrote(progress))

    async def _tried(self, claimed: Claimed, progress: Progress) -> Report:
        name = self._destination.name
        started = asyncio.get_running_loop().time()
        report: Report
        try:
            left = claimed.lease.until - self._vitals.now() - self._margin
            async with asyncio.timeout(max(0.0, left.total_seconds())):
                route, ledger, respected = await self._sent(claimed, progress)
        except TimeoutError:
            # Another worker may soon take it: two must not write the same plan at once.
            message = (
                "A plan takes longer than a delivery's lease. Raise deliveries.lease_s, or the destination's rate."
            )
            report = self._postponed(claimed, Transient("too-slow", message), progress)
        except Transient as error:
            report = self._postponed(claimed, error, progress)
            if isinstance(error, Conflicting) and claimed.attempts >= CONFLICTS:
                report = Refused(
                    claimed, CONFLICT, hashes=error.hashes, remote=progress.ledger, writes=_wrote(progress)
                )
        except Exception as error:
            # Whatever else it is, trying the same again would give the same: a person must look.
            reason = error.code if isinstance(error, Permanent) else _REASONS.get(type(error), FAILED)
            again = None
            if reason == PATIENT_MISSING:
                wait = FOR_A_PATIENT.wait(claimed.attempts, None, random.random())  # noqa: S311 - spreads load
                again = self._vitals.now() + wait
            report = Refused(claimed, reason, again, remote=progress.ledger, writes=_wrote(progress))
            if isinstance(error, Permanent):
                self._breaker.succeeded(self._vitals.now())
            log.exception(
                "a plan can't be delivered and is parked", destination=name, course=claimed.course_id, exc_info=error
            )
        else:
            report = Delivered(
                claimed.course_id,
                name,
                claimed.revision,
                claimed.counter,
                route,
                ledger,
                _writes(claimed, route, progress),
                lease=claimed.lease,
            )
            if route not in _KEPT_BACK:  # what is kept back may not have asked the destination at all
                self._breaker.succeeded(self._vitals.now())
            for what in respected:
                log.info("a clinician's status is respected", course=claimed.course_id, destination=name, status=what)
        self._metrics.deliveries(name, _OUTCOMES[type(report)]).inc()
        self._metrics.delivery_seconds(name).observe(asyncio.get_running_loop().time() - started)
        return report

    def _postponed(self, claimed: Claimed, error: Transient, progress: Progress) -> Postponed:
        """Return when to try again, and note whether the destination itself is in trouble."""
        name, now = self._destination.name, self._vitals.now()
        wait = self._backoff.wait(claimed.attempts, error.retry_after, random.random())  # noqa: S311 - spreads load
        log.warning(
            "a destination did not take a plan; trying again",
            destination=name,
            course=claimed.course_id,
            code=error.code,
            attempts=claimed.attempts,
            wait_s=round(wait.total_seconds(), 1),
        )
        if error.code in {CONFLICT, DATABASE}:
            self._breaker.succeeded(now)
        elif self._breaker.failed(
            now,
            error.retry_after,
            random.random(),  # noqa: S311 - as above
            claimed.course_id,
            asks_all=error.asks_all,
        ):
            left_alone = (self._breaker.next_at(now) - now).total_seconds()
            log.warning("a destination is left alone for a while", destination=name, wait_s=round(left_alone, 1))
        return Postponed(
            claimed.course_id,
            name,
            now + wait,
            error.code,
            progress.ledger,
            claimed.revision,
            claimed.counter,
            claimed.route,
            _wrote(progress),
            lease=claimed.lease,
        )

    def _tell_state(self) -> None:
        """Put into the metrics whether the destination is delivered to; tell when it is again."""
        state = self._breaker.state(self._vitals.now())
        if state is self._told:
            return
        for each in State:
            self._metrics.breaker(self._destination.name, each).set(each is state)
        if state is State.CLOSED:
            log.info("a destination takes plans again", destination=self._destination.name)
        self._told = state

    async def _report_ended(self) -> bool:
        """Record how deliveries ended; return whether the database took it, else it is told at the next turn.

        Should this worker end before, the lease runs out, and the same plan is delivered once more. Should the lease
        have run out, the delivery is another's: what was written is kept, and the plan is sent once more.
        """
        ended = list(self._ended)
        if not ended:
            return True
        deliveries, now = self._store.deliveries, self._vitals.now()
        try:
            if delivered := [each for task in ended if isinstance(each := task.result(), Delivered)]:
                changed_meanwhile = await deliveries.acknowledge(delivered, now)
                self._due = self._due or changed_meanwhile
                self._forget(ended, Delivered)
            if postponed := [each for task in ended if isinstance(each := task.result(), Postponed)]:
                await deliveries.postpone(postponed, now)
                self._forget(ended, Postponed)
            for task in ended:
                if isinstance(each := task.result(), Refused):
                    await deliveries.park_delivery(
                        each.claimed,
                        each.reason,
                        now,
                        each.again,
                        hashes=each.hashes,
                        remote=each.remote,
                        writes=each.writes,
                    )
                    self._forget([task], Refused)
                    self._due = True  # unless it is parked, a newer revision is wanted
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("the database did not take how deliveries ended; trying again", exc_info=error)
            return False
        self._ended_since = asyncio.get_running_loop().time()
        return True

    def _forget(self, told: Sequence[asyncio.Task[Report]], how: type[Report]) -> None:
        """Forget those that ended so and are recorded: told once more, they would count as a late worker's."""
        recorded = {task for task in told if isinstance(task.result(), how)}
        self._ended = [task for task in self._ended if task not in recorded]
        if not self._as_before.isdisjoint(recorded):
            self._as_before -= recorded
            self._alike, self._due = self._agreed, True

    async def _sent(self, claimed: Claimed, progress: Progress) -> tuple[Route, Mapping[str, Any], tuple[str, ...]]:
        """Send a plan, or keep it back; return its route, what the destination holds, and what it kept of others'."""
        course = state.load(claimed.state)
        told = tuple(label for label in course.labels if not self._is_withheld(label))
        kept_back = self._kept_back(course, told)
        if kept_back is None:
            make = retract if claimed.gone else render
            plan = make(course, self._of(course))
            delivered = await self._destination.deliver(self._delivery(claimed, plan, progress))
            await self._answered(course, delivered)
            return delivered.route, delivered.ledger, delivered.respected
        if not _may_be_there(claimed):
            return kept_back, claimed.remote, ()
        # The label itself tells what it protects: the destination learns neither.
        plan = withheld(replace(course, labels=told), self._of(course))
        delivered = await self._destination.deliver(self._delivery(claimed, plan, progress))
        await self._answered(course, delivered)
        return kept_back, delivered.ledger, delivered.respected

    def _kept_back(self, course: Course, told: Collection[Code]) -> Route | None:
        """Return why a course is kept from the destination, which may be told these of its labels; None if it isn't."""
        if self._sources is not None and course.source not in self._sources:
            return Route.OTHER_SOURCE
        return Route.WITHHELD if len(told) < len(course.labels) else None

    async def _answered(self, course: Course, delivered: Answers) -> None:
        """Take in what clinicians did before the delivery is acknowledged: told twice, it counts once."""
        name, seen = self._destination.name, self._vitals.now()
        facts = [fact_of(act, course, name, seen) for act in delivered.acts]
        try:
            if self._take_in is not None and delivered.completed:
                await self._take_in(course.source, delivered.completed)
            if self._learn is not None and facts:
                await self._learn(facts)
        except Exception as error:
            if not is_transient(error):
                raise
            message = "The database does not take what clinicians did. It is tried again by itself."
            raise Transient(DATABASE, message) from None

    def _is_withheld(self, label: Code) -> bool:
        return not self._withhold.isdisjoint((label.code, f"{label.system}|{label.code}"))

    def _of(self, course: Course) -> Mappings:
        return self._mappings[course.source]

    def _delivery(self, claimed: Claimed, plan: Plan, progress: Progress) -> PlanDelivery:
        return PlanDelivery(
            course_id=claimed.course_id,
            revision=claimed.revision,
            counter=claimed.counter,
            plan=plan,
            causes=(),
            ledger=claimed.remote,
            intents=Remembered(self._store, claimed),
            progress=progress,
        )


@dataclass(frozen=True, slots=True)
class Remembered:
    """The database, as what a delivery means to create is remembered there; see `outbound/intents.py`."""

    store: Store
    claimed: Claimed

    async def remember(self, ledger: Mapping[str, Any]) -> None:
        """Return once it is there. Raises Transient where another worker has the delivery, or the database is away."""
        with _as_transient():
            is_ours = await self.store.deliveries.remember(self.claimed, ledger)
        if not is_ours:
            raise Transient(CONFLICT, "Another worker has the delivery by now. It goes on there.")

    async def may_repeat(self) -> bool:
        """Return whether a person has looked, and asked for the delivery again. Raises Transient as above."""
        with _as_transient():
            return await self.store.deliveries.may_repeat(self.claimed)


@contextlib.contextmanager
def _as_transient() -> Iterator[None]:
    """Turn what a database that is away raises into what a delivery waits for."""
    try:
        yield
    except Exception as error:
        if not is_transient(error):
            raise
        raise Transient(DATABASE, "The database does not answer. It is tried again by itself.") from None


def _may_be_there(claimed: Claimed) -> bool:
    """Return whether something of a course may be at its destination: an answer may have been lost on the way."""
    told = claimed.seen is not None or bool(claimed.remote)
    return claimed.attempts > 1 or (told and claimed.route not in _KEPT_BACK)


def _writes(claimed: Claimed, route: Route, progress: Progress) -> tuple[Write, ...]:
    """Return what a delivery wrote, for the audit trail: the resources of a FHIR server, or a topic's record."""
    if route is Route.TOPIC:
        return (Write("create" if claimed.seen is None else "update", "Bundle", claimed.course_id, None),)
    return _wrote(progress)


def _wrote(progress: Progress) -> tuple[Write, ...]:
    """Return what an attempt wrote at a FHIR server, and what it failed to."""
    return tuple(Write(*each) for each in progress.writes)
