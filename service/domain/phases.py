"""Phases: what decides where a course stands. Documents and counts, never a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.domain.course import Decision, Documented, Ending, Phase
from service.domain.forms import CourseField, FormKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from service.domain.evidence import Form
    from service.domain.protocols import Protocol

_BOXES = (
    CourseField.DIAGNOSIS,
    CourseField.INVENTORY,
    CourseField.PRIMARY_FOCUS,
    CourseField.FORMULATION,
    CourseField.AGREEMENT,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """What decides the phase of a course and of each of its sessions."""

    planned: int
    ending_sessions: int
    complete: date | None
    ending: Ending | None

    def of_session(self, number: int, day: date) -> Phase:
        """Return the phase in which the session of this number was held."""
        if self.ending is not None and self.ending.decision is Decision.MAINTENANCE and day > self.ending.on:
            return Phase.MAINTENANCE
        if number == 1 or self.complete is None or day <= self.complete:
            return Phase.INITIAL
        return Phase.ENDING if number > self.planned - self.ending_sessions else Phase.MIDDLE

    def of_course(self, held: int) -> Phase:
        """Return the phase of a course of so many held sessions."""
        if self.ending is not None and self.ending.decision is Decision.END:
            return Phase.CLOSED
        if self.ending is not None and self.ending.decision is Decision.MAINTENANCE:
            return Phase.MAINTENANCE
        if held == 0:
            return Phase.ASSESSMENT_PENDING
        if self.complete is None:
            return Phase.INITIAL
        return Phase.ENDING if held > self.planned - self.ending_sessions else Phase.MIDDLE


def planned_sessions(forms: list[Form], protocol: Protocol) -> tuple[int, bool]:
    """Return how many sessions are planned, and whether the number was agreed with the patient."""
    for form in reversed(forms):
        if CourseField.PLANNED_SESSIONS in form.numbers:
            return form.numbers[CourseField.PLANNED_SESSIONS], True
    return protocol.sessions.default.count, False


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
    """Return when the last of the initial phase's tasks was documented; None while one is missing."""
    days = {document.task: document.on for document in documented}
    if any(task not in days for task in protocol.initial.tasks):
        return None
    return max(days[task] for task in protocol.initial.tasks)


def ending_of(forms: list[Form]) -> Ending | None:
    """Return what the latest ending form says, if it says what comes next."""
    for form in reversed(forms):
        decided = form.values.get(CourseField.DECISION, ())
        if form.kind is FormKind.ENDING and decided:
            return Ending(
                on=form.start.date(),
                decision=Decision(decided[0]),
                gains=form.values.get(CourseField.GAIN, ()),
                relapse_prevention_plan=bool(form.values.get(CourseField.RELAPSE_PREVENTION)),
                fact=form.reference,
                stopped_because=next(iter(form.values.get(CourseField.STOPPED_BECAUSE, ())), None),
            )
    return None
