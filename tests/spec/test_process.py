"""The five steps of the process, each visible in the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.outbound.careplan import render
from service.outbound.narrative import lines
from tests.history import assessment, choice, course_of, encounter, session_form, sessions, week

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings


def activities(course: Course, mappings: Mappings) -> list[dict[str, object]]:
    """Return the activities of the course's plan."""
    found: list[dict[str, object]] = dict(render(course, mappings).resources)["careplan"]["activity"]
    return found


def descriptions(course: Course, mappings: Mappings) -> list[str]:
    """Return what the plan's activities say of themselves."""
    return [each["detail"]["description"] for each in activities(course, mappings)]  # type: ignore[index]  # JSON


def progress(course: Course, mappings: Mappings) -> str:
    """Return what the plan notes of the one session that has a form."""
    (noted,) = [each["progress"] for each in activities(course, mappings) if "progress" in each]
    return str(noted[0]["text"])  # type: ignore[index]  # JSON


def labelled(course: Course, mappings: Mappings) -> dict[str, tuple[str, ...]]:
    """Return the narrative's lines on the work, by their label."""
    return {line.label: line.items for line in lines(course, mappings).work}


def test_step_1_the_assessment_is_a_checklist_with_dates(mappings: Mappings) -> None:
    """In the plan and in the narrative, with what is missing."""
    some = assessment(ticked=["diagnosis-documented", "formulation"], focus="grief")
    course = course_of([some, *sessions(2)], week(1.5), mappings)
    checklist = (
        "Assessment and formulation: diagnosis 5 Jan 2026, focus area 5 Jan 2026 and formulation 5 Jan 2026. "
        "Not documented yet: interpersonal inventory and agreement."
    )
    assert checklist in descriptions(course, mappings)
    told = "diagnosis 5 Jan 2026 and focus area 5 Jan 2026; not documented yet: interpersonal inventory and agreement."
    assert told == lines(course, mappings).assessment


def test_step_1_is_complete_on_the_day_of_its_last_task(mappings: Mappings) -> None:
    """One date is enough for a reader, from then on."""
    course = course_of([assessment(authored=week(1)), *sessions(3)], week(2.5), mappings)
    assert "complete since 12 Jan 2026." == lines(course, mappings).assessment
    assert "completed" in [each["detail"]["status"] for each in activities(course, mappings)][-1:]  # type: ignore[index]  # JSON


def test_step_2_the_next_session_is_aimed_at_an_area_and_a_goal(mappings: Mappings) -> None:
    """The rest of treatment planning stands in `test_planning`."""
    course = course_of([assessment(focus="grief", goals=["mourn-loss"]), *sessions(3)], week(2.5), mappings)
    assert (
        "Session 4, due 26 Jan 2026 and not booked, aimed at grief and loss: mourn the loss."
        == (lines(course, mappings).next[0])
    )


def test_step_3_patterns_stand_with_their_effect(mappings: Mappings) -> None:
    """On emotion and on behaviour."""
    form = session_form(
        "s-2",
        week(1),
        choice("pattern", "pattern", "withdraws-from-conflict"),
        choice("pattern-effect", "pattern-effect", "lower-mood"),
        choice("pattern-effect", "pattern-effect", "avoids-others"),
        of="e-2",
    )
    course = course_of([assessment(), *sessions(2), form], week(1.5), mappings)
    assert "Patterns: withdraws from conflict. Their effect: mood falls and avoids others." == progress(
        course, mappings
    )
    work = labelled(course, mappings)
    assert (("withdraws from conflict 1×",), ("mood falls and avoids others",)) == (
        work["Patterns"],
        work["Their effect"],
    )


def test_step_4_a_technique_is_practised_in_session_or_at_home(mappings: Mappings) -> None:
    """Told apart."""
    form = session_form(
        "s-2",
        week(1),
        choice("technique", "technique", "communication-analysis"),
        choice("technique-at-home", "technique", "role-play"),
        of="e-2",
    )
    course = course_of([assessment(), *sessions(2), form], week(1.5), mappings)
    assert "Techniques: communication analysis. At home: role play." == progress(course, mappings)


def test_step_5_coping_stands_with_less_reliance_on_what_harms(mappings: Mappings) -> None:
    """What the patient did instead, and the trend as the latest form has it."""
    form = session_form(
        "s-2",
        week(1),
        choice("coping-strategy", "coping-strategy", "physical-activity"),
        choice("maladaptive-coping", "maladaptive-coping", "alcohol"),
        choice("coping-trend", "coping-trend", "less"),
        of="e-2",
    )
    work = labelled(course_of([assessment(), *sessions(2), form], week(1.5), mappings), mappings)
    assert (("walk or other physical activity 1×",), ("alcohol, less than before",)) == (
        work["Coping"],
        work["Maladaptive coping"],
    )


def test_a_session_without_a_form_and_a_form_without_an_encounter_say_so(mappings: Mappings) -> None:
    """Both are kept and counted."""
    facts = [assessment(), encounter("e-1", week(0)), session_form("s-2", week(1))]
    told = descriptions(course_of(facts, week(1.5), mappings), mappings)
    assert "Session 1, initial phase, 50 minutes, without a session form" == told[0]
    assert told[1].startswith("Session 2, middle phase, known by its form alone")
