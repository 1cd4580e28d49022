"""Phases: what decides where a course stands. Documents and counts, never a score."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from service.domain.course import Decision, Documented, Ending, Phase
from service.domain.forms import CourseField, FormKind
from service.domain.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from service.domain.course import ProtocolSpan
    from service.domain.evidence import Form
    from service.domain.protocols import Protocol

_DECISIONS = {decision.value: decision for decision in Decision}
_PLANNED = CourseField.PLANNED_SESSIONS  # an enum's member costs a call wherever it is named
_BOXES = (
    CourseField.DIAGNOSIS,
    CourseField.INVENTORY,
    CourseField.PRIMARY_FOCUS,
    CourseField.FORMULATION,
    CourseField.AGREEMENT,
)


class Stage(Value, frozen=True):
    """What decides the phase of a course and of each of its sessions."""

    plans: tuple[Plan, ...]
    """By the day on which they were made; never empty."""
    complete: date | None
    closed: date | None

    def of_session(self, number: int, day: date) -> Phase:
        """Return the phase in which the session of this number was held, by what was planned at the time."""
        plan = self.plans[0]
        for later in self.plans[1:]:
            # What is agreed in a session holds from the next one on.
            if later.since < day:
                plan = later
        return plan.only_phase or self._phase(
            number, plan, number == 1 or self.complete is None or day <= self.complete
        )

    def of_course(self, held: int) -> Phase:
        """Return the phase of a course of so many held sessions."""
        if self.closed is not None:
            return Phase.CLOSED
        plan = self.plans[-1]
        if plan.only_phase is not None:
            return plan.only_phase
        if held == 0:
            return Phase.ASSESSMENT_PENDING
        return self._phase(held, plan, self.complete is None)

    @staticmethod
    def _phase(number: int, plan: Plan, initial: bool) -> Phase:  # noqa: FBT001 - private, and named at each call
        if initial:
            return Phase.INITIAL
        return Phase.ENDING if number > plan.sessions - plan.ending else Phase.MIDDLE


class Plan(NamedTuple):
    """How many sessions were planned from a day on, and how many of the last are the ending phase."""

    since: date
    sessions: int
    ending: int
    only_phase: Phase | None


def plans(forms: list[Form], spans: tuple[ProtocolSpan, ...], protocols: Mapping[str, Protocol]) -> tuple[Plan, ...]:
    """Return what was planned, by day: the protocol's number stands in until another is agreed.

    A number outlives a change of protocol only if it is agreed on the day of the change or after.
    """
    found: list[Plan] = []
    for place, span in enumerate(spans):
        protocol = protocols[span.protocol]
        since = span.since if place else date.min
        until = spans[place + 1].since if place + 1 < len(spans) else date.max
        ending, only = protocol.ending.count, protocol.only_phase
        found.append(Plan(since, protocol.sessions.default.count, ending, only))
        found += [
            Plan(form.start.date(), form.numbers[_PLANNED], ending, only)
            for form in forms
            if form.numbers and _PLANNED in form.numbers and since <= form.start.date() < until
        ]
    return tuple(found)


def agreed(forms: list[Form], spans: tuple[ProtocolSpan, ...]) -> bool:
    """Whether the number of sessions was agreed under the protocol that the course follows at present."""
    since = spans[-1].since if len(spans) > 1 else date.min
    return any(_PLANNED in form.numbers and form.start.date() >= since for form in forms if form.numbers)


def documented(forms: list[Form]) -> Iterator[Documented]:
    """Yield the first documentation of each task of a phase."""
    seen: set[str] = set()
    for form in forms:
        tasks = [str(box) for box in _BOXES if form.values.get(box)]
        for task in (*tasks, *form.values.get(CourseField.PHASE_TASK, ())):
            if task not in seen:
                seen.add(task)
                yield Documented(task, form.start.date(), form.reference)


def complete_on(documented: Iterable[Documented], protocol: Protocol) -> date | None:
    """Return when the last of the initial phase's tasks was documented; None before, or if it has none."""
    if not protocol.initial.tasks:
        return None
    days = {document.task: document.on for document in documented}
    if any(task not in days for task in protocol.initial.tasks):
        return None
    return max(days[task] for task in protocol.initial.tasks)


def ending_of(forms: list[Form], protocol: Protocol | None = None) -> Ending | None:
    """Return what the ending forms say, by time, if they say what comes next.

    The forms of the day of the first end correct each other. After that day an end stands: another form that ends
    the course again changes nothing, one that decides otherwise does. Whatever follows a decision on maintenance
    belongs to the course that follows; in maintenance itself the decision means to go on.
    """
    found: Ending | None = None
    maintained = protocol is not None and protocol.only_phase is Phase.MAINTENANCE
    for form in forms:
        decision = decision_of(form)
        if decision is None:
            continue
        if maintained and decision is Decision.MAINTENANCE:
            decision = Decision.CONTINUE
        if found is not None and form.start.date() > found.on:
            if found.decision is Decision.MAINTENANCE:
                break
            if found.decision is decision is Decision.END:
                continue
        found = Ending(
            on=form.start.date(),
            decision=decision,
            gains=form.values.get(CourseField.GAIN, ()),
            relapse_prevention_plan=bool(form.values.get(CourseField.RELAPSE_PREVENTION)),
            fact=form.reference,
            stopped_because=next(iter(form.values.get(CourseField.STOPPED_BECAUSE, ())), None),
        )
    return found


def decision_of(form: Form) -> Decision | None:
    """Return what an ending form says comes next: its decision, else the end where it says why treatment stopped."""
    if form.kind is not FormKind.ENDING:
        return None
    for code in form.values.get(CourseField.DECISION, ()):
        if code in _DECISIONS:
            return _DECISIONS[code]
    return Decision.END if form.values.get(CourseField.STOPPED_BECAUSE) else None
