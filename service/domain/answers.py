"""What clinicians did to a patient's plans, by course: Tasks completed, by the finding, and other acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import Answered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from service.domain.evidence import PlanAct, TaskDone
    from service.domain.treatments import Treatment


def answers_by_course(done: Iterable[TaskDone], courses: Sequence[str]) -> Iterator[Mapping[str, Answered]]:
    """Yield for each of a patient's courses, all of them by id, the answers to its findings by the finding's id.

    Of several answers the first counts. A Task of a course that goes by another id by now, since a late fact
    moved its anchor, answers in every course: a finding's id names its rule and its day or facts.
    """
    by_course: dict[str | None, dict[str, Answered]] = {}
    for task in sorted(done, key=lambda task: (task.start, task.reference)):
        course = task.course if task.course in courses else None
        answered = Answered(task.start.date(), task.by, task.reference)
        by_course.setdefault(course, {}).setdefault(task.finding, answered)
    for course in courses:
        yield by_course.get(None, {}) | by_course.get(course, {})


def acts_by_course(
    acts: Iterable[PlanAct], courses: Sequence[str], treatments: Sequence[Treatment]
) -> Iterator[tuple[PlanAct, ...]]:
    """Yield for each of a patient's courses, by id and by opening, what was done to its plan, by time.

    What was done to the plan of a course that goes by another id by now is of the latest one that was open by then,
    else of the first: a clinician acts on the plan that they see.
    """
    by_course: dict[str, list[PlanAct]] = {course: [] for course in courses}
    for act in sorted(acts, key=lambda act: (act.start, act.reference)):
        course = act.course
        if course not in by_course and courses:
            opened = [place for place, each in enumerate(treatments) if each.opened <= act.start]
            course = courses[opened[-1] if opened else 0]
        by_course.setdefault(course, []).append(act)
    for course in courses:
        yield tuple(by_course[course])
