"""Answers: the Tasks of a patient's plans that clinicians completed, by the course and finding that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import Answered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from service.domain.evidence import TaskDone


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
