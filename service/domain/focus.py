"""The focus of a course: the areas of the formulation, and the patient's own goals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import FocusArea, PatientGoal
from service.domain.forms import CourseField

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.evidence import Form

_DISPUTE = "role-dispute"
"""The one area that has stages."""


def focus_areas(forms: list[Form]) -> Iterator[FocusArea]:
    """Yield the areas that the latest form to name a primary one names, each with the day it came up."""
    naming = [form for form in forms if form.values.get(CourseField.PRIMARY_FOCUS)]
    if not naming:
        return
    stage = next((s[0] for form in reversed(forms) if (s := form.values.get(CourseField.DISPUTE_STAGE))), None)
    latest = naming[-1]
    primary = latest.values[CourseField.PRIMARY_FOCUS][0]
    since = latest
    for form in reversed(naming):
        if form.values[CourseField.PRIMARY_FOCUS][0] != primary:
            break
        since = form
    yield FocusArea(primary, primary=True, since=since.start.date(), stage=_stage(primary, stage), fact=since.reference)
    for area in latest.values.get(CourseField.SECONDARY_FOCUS, ()):
        if area != primary:
            first = next(form for form in forms if area in form.values.get(CourseField.SECONDARY_FOCUS, ()))
            yield FocusArea(
                area, primary=False, since=first.start.date(), stage=_stage(area, stage), fact=first.reference
            )


def _stage(area: str, stage: str | None) -> str | None:
    return stage if area == _DISPUTE else None


def patient_goals(forms: list[Form]) -> Iterator[PatientGoal]:
    """Yield the patient's goals as the latest form to name any has them."""
    latest = next((form for form in reversed(forms) if form.values.get(CourseField.GOAL)), None)
    if latest is None:
        return
    for goal in latest.values[CourseField.GOAL]:
        first = next(form for form in forms if goal in form.values.get(CourseField.GOAL, ()))
        yield PatientGoal(goal, first.start.date(), first.reference)
