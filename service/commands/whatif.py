"""What other mappings would change: every stored fact projected twice, nothing written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.domain.compare import Side, differences
from service.domain.projection import project
from service.outbound.goals import goals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    from service.domain.compare import Difference, What
    from service.domain.course import Course
    from service.domain.facts import Code, Fact, PatientKey
    from service.domain.mappings import Mappings
    from service.store import Store

PAGE = 50
"""Patients held in memory at a time: their facts, and their courses of both projections."""
LIMIT = (
    "What the present mappings found irrelevant was never stored: "
    "codes and questionnaires that only the others know find nothing here."
)


@dataclass(frozen=True, slots=True)
class Changed:
    """A patient whose courses would say otherwise."""

    patient: PatientKey
    differences: tuple[Difference, ...]
    labels: tuple[Code, ...]
    """Security labels of the courses compared, sorted."""


@dataclass(slots=True)
class Summary:
    """How much was compared, and how many courses differ in what."""

    patients: int = 0
    courses: int = 0
    patients_changed: int = 0
    courses_changed: int = 0
    by_what: dict[What, int] = field(default_factory=dict)

    def add(self, changed: Changed) -> None:
        """Count a patient's differences: each course once for each thing that differs."""
        self.patients_changed += 1
        self.courses_changed += len({each.course for each in changed.differences})
        for what in sorted({(each.what, each.course) for each in changed.differences}):
            self.by_what[what[0]] = self.by_what.get(what[0], 0) + 1


async def whatif(  # noqa: PLR0913, PLR0917 - what is compared, as of when, and who is told
    store: Store,
    present: Mapping[str, Mappings],
    other: Mapping[str, Mappings],
    since: date | None,
    as_of: datetime,
    summary: Summary,
    told: Callable[[int], object],
) -> AsyncIterator[Changed]:
    """Yield each patient whose courses would differ under the other mappings, in the order of their keys.

    Both projections are as of the same instant, so that the mappings alone make the difference. `since` leaves out
    courses with nothing held, taken or written on that day or later. `summary` is filled on the way; `told` hears
    how many patients are compared.
    """
    page = await store.operators.patients(None, PAGE)
    while page:
        for patient, facts in (await store.operators.facts_of(page)).items():
            sides = [_sides(patient, facts, as_of, mappings[patient.source], since) for mappings in (present, other)]
            summary.patients += 1
            summary.courses += len(sides[0])
            found = tuple(differences(*sides))
            if found:
                labels = sorted({label for side in (*sides[0], *sides[1]) for label in side.course.labels})
                changed = Changed(patient, found, tuple(labels))
                summary.add(changed)
                yield changed
        told(summary.patients)
        page = await store.operators.patients(page[-1], PAGE)


def _sides(
    patient: PatientKey, facts: Sequence[Fact], as_of: datetime, mappings: Mappings, since: date | None
) -> list[Side]:
    courses = project(patient, facts, as_of, mappings).courses
    return [Side(course, dict(_goals(course, mappings))) for course in courses if _within(course, since)]


def _within(course: Course, since: date | None) -> bool:
    latest = course.opened if course.latest is None else course.latest.date()
    return since is None or latest >= since


def _goals(course: Course, mappings: Mappings) -> Iterator[tuple[str, str]]:
    for role, goal in goals(course, mappings):
        achieved = goal.get("achievementStatus")
        standing = (
            f"{goal['lifecycleStatus']}, {achieved['coding'][0]['code']}" if achieved else goal["lifecycleStatus"]
        )
        yield role, f"{goal['description']['text']} ({standing})"
