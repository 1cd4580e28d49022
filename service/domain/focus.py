"""The focus of a course: the areas of the formulation, the patient's own goals, and life beside the symptoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import FocusArea, FocusSpan, PatientGoal, WellBeing
from service.domain.forms import CourseField

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from service.domain.evidence import Form

_DISPUTE = "role-dispute"
"""The one area that has stages."""
SUBSTANCE_GOALS = {"reduce-alcohol-use": ("audit", "audit-c"), "reduce-substance-use": ("dast-10",)}
"""The patient's goals about substance use, each with the instruments that follow it, the fullest first."""
_WELL_BEING = (CourseField.FUNCTION, CourseField.COMMUNICATION, CourseField.SUPPORT)
_NAMING = frozenset({CourseField.PRIMARY_FOCUS, CourseField.DISPUTE_STAGE})


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


def focus_history(forms: list[Form]) -> Iterator[FocusSpan]:
    """Yield each area in each rank and stage, by its beginning and area, with the day until which it held.

    A form that names a primary area replaces all areas before it; one that names a dispute's stage alone changes that.
    What was replaced on the day on which it was written is left out.
    """
    current: dict[str, tuple[bool, str | None, date, str]] = {}
    past: list[FocusSpan] = []
    stage: str | None = None
    for form in forms:
        if _NAMING.isdisjoint(form.values):
            continue
        stage = next(iter(form.values.get(CourseField.DISPUTE_STAGE, ())), stage)
        primary = form.values.get(CourseField.PRIMARY_FOCUS, ())[:1]
        named = dict.fromkeys(form.values.get(CourseField.SECONDARY_FOCUS, ()), False) if primary else {}
        named |= dict.fromkeys(primary, True) or {area: rank for area, (rank, *_) in current.items()}
        on = form.start.date()
        for area in [area for area in current if (named.get(area), _stage(area, stage)) != current[area][:2]]:
            rank, before, since, fact = current.pop(area)
            if since < on:
                past.append(FocusSpan(area, rank, since, on, before, fact))
        for area, rank in named.items():
            current.setdefault(area, (rank, _stage(area, stage), on, form.reference))
    spans = [*past, *(FocusSpan(area, r, since, None, at, fact) for area, (r, at, since, fact) in current.items())]
    yield from sorted(spans, key=lambda span: (span.since, span.until is None, not span.primary, span.area))


def well_being(forms: list[Form]) -> Iterator[WellBeing]:
    """Yield how the forms first and latest rate each aspect of life that they rate."""
    for aspect in _WELL_BEING:
        rated = [(form, codes[0]) for form in forms if (codes := form.values.get(aspect))]
        if rated:
            (first, was), (latest, is_now) = rated[0], rated[-1]
            days = first.start.date(), latest.start.date()
            yield WellBeing(str(aspect), was, is_now, *days, first.reference, latest.reference)


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
