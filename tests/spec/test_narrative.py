"""The narrative: what needs attention first, the four benefits visible, short enough for ten seconds."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

import pytest

from service.domain.facts import PatientKey
from service.domain.projection import project
from service.outbound.narrative import lines, markup
from service.sandbox.patients import PERIOD, generate
from service.sandbox.stories import STORIES
from tests import courses
from tests.synthetic import facts_of

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings

START = date(2026, 1, 5)
END = datetime.combine(START + PERIOD, time(), UTC)
WORDS = 230
"""At most, in any course of the demo: one screen. The first three parts are what ten seconds are for."""
SCALES = 3
"""Instruments that a course is usually followed by, at most: each has a line."""
FIRST_WORDS = 75
"""At most, of where it stands, what needs attention and how scores move, where no more than two findings ask."""


@pytest.fixture(scope="module")
def demo(mappings: Mappings) -> list[Course]:
    """Return the courses of the demo's patients, their stories played to the end."""
    return [
        course
        for patient in generate(7, len(STORIES), START)
        for course in project(
            PatientKey("main", patient.patient_id), facts_of(patient.events, mappings), END, mappings
        ).courses
    ]


def test_what_needs_attention_comes_right_after_where_the_course_stands(mappings: Mappings) -> None:
    """Before scores and work."""
    told = markup(lines(courses.course(), mappings))
    places = [told.index(part) for part in ("session 9 of 12", "Needs attention", "Depression (PHQ-9)", "Worked on")]
    assert sorted(places) == places


def test_it_is_short(mappings: Mappings, demo: list[Course]) -> None:
    """Whatever a course holds: nothing grows with the number of its sessions."""
    for course in demo:
        told = lines(course, mappings)
        first = " ".join((told.headline, told.focus, *told.attention, *told.scores))
        rest = [*told.notes, told.assessment, *told.ending, *told.next, told.basis]
        rest += [f"{line.label} {' '.join(line.items)}" for line in told.work]
        assert len(told.attention) > 2 or len(told.scores) > SCALES or len(first.split()) <= FIRST_WORDS, first
        whole = " ".join((first, *rest)).split()
        assert len(told.attention) > 2 or len(told.scores) > SCALES or len(whole) <= WORDS, rest


def test_targeted_the_focus_area_with_its_stage(mappings: Mappings) -> None:
    """In the second sentence."""
    expected = "Focus: interpersonal dispute (stage: impasse); secondary: communication patterns."
    assert expected == lines(courses.course(), mappings).focus


def test_effective_the_change_with_its_reliability(mappings: Mappings) -> None:
    """What it was, what it is, and whether that is more than chance."""
    better = courses.course(changes=(courses.change("phq-9", 17, 6, reliable=-1),))
    expected = "Depression (PHQ-9): 6 (mild) on 3 Mar 2026, down from 17, reliably better."
    assert (expected,) == lines(better, mappings).scores


def test_effective_recovery_and_outcome_are_said(mappings: Mappings, demo: list[Course]) -> None:
    """Of a course that ended well."""
    ended = next(course for course in demo if course.closed is not None and course.outcome is not None)
    assert any(text.startswith("Outcome by PHQ-9: ") for text in lines(ended, mappings).ending)


def test_time_limited_the_session_of_the_planned_number_and_the_projected_end(mappings: Mappings) -> None:
    """In the first sentence, and in the last."""
    told = lines(courses.course(), mappings)
    assert "Interpersonal psychotherapy, session 9 of 12 (middle phase)." == told.headline
    assert "Projected end: 24 Mar 2026." == told.next[-1]


def test_holistic_life_beside_symptoms(mappings: Mappings) -> None:
    """Function, communication, support and coping, against how they were at first."""
    work = {line.label: line.items for line in lines(courses.course(), mappings).work}
    assert ("function fair (was poor)", "support fair") == work["Well-being"]
    assert ("avoidance, less than before",) == work["Maladaptive coping"]
