"""What a clinician reads of a course, in each state that it can be in."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.domain.course import (
    Classification,
    Decision,
    FindingState,
    FocusArea,
    Outcome,
    PatientGoal,
    Phase,
    Severity,
)
from service.outbound.careplan import render
from service.outbound.narrative import MOST_NOTES, lines, markup
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

EXAMPLES = Path(__file__).parent / "narratives"
XHTML = "{http://www.w3.org/1999/xhtml}"
# What a code, an id or a mapping's text could hold at worst: markup, entities, places of values, control characters.
HOSTILE = st.text(min_size=1, max_size=20) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "&lt;b&gt;&nbsp;",
        "]]><!--",
        "{on.__class__}",
        "\x00\x1b[31m",
        "</p></div>",
        "'",
    ]
)


@pytest.mark.parametrize("state", courses.states())
def test_reads_as_its_example(state: str, mappings: Mappings) -> None:
    """One line for each paragraph, as `narratives/` holds them for a person to judge."""
    narrative = render(courses.states()[state], mappings).resources[0][1]["text"]["div"]
    blocks = [element for element in ET.fromstring(narrative).iter() if element.tag in {f"{XHTML}p", f"{XHTML}li"}]  # noqa: S314 - our own markup
    shown = "".join(f"{''.join(block.itertext())}\n" for block in blocks)
    assert (EXAMPLES / f"{state}.txt").read_text() == shown


def test_scores_of_an_instrument_without_a_threshold_come_last(mappings: Mappings) -> None:
    """What the treatment is judged by stands first."""
    said = lines(courses.states()["ending"], mappings).scores
    assert ["Depression", "Anxiety", "Alcohol use"] == [score.partition(" (")[0] for score in said]


def test_a_finding_that_is_made_again_is_said_once_with_its_latest_date(mappings: Mappings) -> None:
    """Six answers on self-harm are one matter to attend to, not six lines to read."""
    found = [
        courses.finding(
            "safety.self-harm-item",
            Severity.CRITICAL,
            date(2026, 1, day),
            due=date(2026, 1, day),
            instrument="PHQ-9",
            item=9,
            score=1,
            on=f"2026-01-{day}",
        )
        for day in (13, 20, 27)
    ]
    said = lines(courses.course(findings=tuple(found)), mappings).attention
    expected = (
        "PHQ-9 item 9 on self-harm was answered 1 on 27 Jan 2026: contact the patient the same day; "
        "due 27 Jan 2026 (3 times since 13 Jan 2026)."
    )
    assert (expected,) == said


def test_findings_that_need_a_person_are_never_cut(mappings: Mappings) -> None:
    """Notes for information are, so that the screen stays one screen."""
    needed = [
        courses.finding(f"urgent-{number}", Severity.WARNING, date(2026, 1, 6)) for number in range(MOST_NOTES + 3)
    ]
    told = [courses.finding(f"note-{number}", Severity.INFO, date(2026, 1, 6)) for number in range(MOST_NOTES + 3)]
    said = lines(courses.course(findings=(*needed, *told)), mappings)
    assert len(needed) == len(said.attention)
    assert "And 3 more." == said.notes[-1]


@pytest.mark.parametrize("state", [FindingState.ANSWERED, FindingState.CLOSED])
def test_what_is_answered_or_over_asks_for_nothing(state: FindingState, mappings: Mappings) -> None:
    """Neither for attention nor for information."""
    course = courses.states()["middle"]
    over = lines(replace(course, findings=tuple(replace(each, state=state) for each in course.findings)), mappings)
    assert lines(course, mappings).attention
    assert ((), ()) == (over.attention, over.notes)


def test_an_ended_course_says_how_it_turned_out(mappings: Mappings) -> None:
    """By the measure that it is judged by."""
    outcome = Outcome(date(2026, 3, 24), Classification.RESPONSE, Decision.MAINTENANCE, "phq-9", ())
    said = lines(replace(courses.states()["closed"], outcome=outcome), mappings).ending
    assert "Outcome by PHQ-9: response." in said


def test_more_sessions_than_planned_are_said_to_be_more(mappings: Mappings) -> None:
    """Not "session 14 of 12"."""
    said = lines(courses.course(held=14), mappings).headline
    assert "Interpersonal psychotherapy, session 14, 12 were planned (middle phase)." == said


def test_before_the_first_session_the_planned_number_stands_alone(mappings: Mappings) -> None:
    """An agreed plan of which nothing was held yet."""
    said = lines(courses.course(held=0, phase=Phase.INITIAL), mappings).headline
    assert "Interpersonal psychotherapy, no session held of 12 planned (initial phase)." == said


@given(hostile=HOSTILE)
def test_nothing_hostile_reaches_the_chart_as_markup(hostile: str, mappings: Mappings) -> None:
    """Whatever codes and values hold: the narrative is well-formed XHTML of five elements without attributes."""
    held = courses.session(9, techniques=(hostile,), patterns=(hostile,), coping=(hostile,), next_steps=(hostile,))
    hurt = replace(
        courses.course(),
        sessions=(held,),
        focus_areas=(FocusArea(hostile, True, date(2026, 1, 6), hostile, "QuestionnaireResponse/a"),),  # noqa: FBT003 - the primary one
        goals=(PatientGoal("express-needs", date(2026, 1, 6), "QuestionnaireResponse/a"),),
        changes=(courses.change(hostile, 10, 9),),
        measures=(courses.measure(hostile, 0, None),),
        findings=(
            courses.finding(
                "change.improvement", Severity.WARNING, date(2026, 1, 6), instrument=hostile, first=hostile
            ),
            courses.finding(hostile, Severity.INFO, date(2026, 1, 6)),
        ),
    )
    root = ET.fromstring(  # noqa: S314 - what is tested
        f'<div xmlns="http://www.w3.org/1999/xhtml">{markup(lines(hurt, mappings))}</div>'
    )
    assert {element.tag.removeprefix(XHTML) for element in root.iter()} <= {"div", "p", "b", "ul", "li"}
    assert [] == [element.attrib for element in root.iter() if element.attrib]
