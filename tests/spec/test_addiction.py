"""Addiction beside mental illness: a goal, its trajectory, use, coping and care. IPT is no treatment of it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

from service.domain.facts import PatientKey
from service.domain.projection import project
from service.outbound.careplan import render
from service.outbound.narrative import lines, markup
from service.outbound.wording import NO_TREATMENT_OF_USE
from service.sandbox.patients import PERIOD, generate
from service.sandbox.stories import STORIES, Archetype
from tests import courses
from tests.history import assessment, choice, course_of, found, session_form, sessions, week
from tests.synthetic import facts_of

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings

START = date(2026, 1, 5)
END = datetime.combine(START + PERIOD, time(), UTC)
CLAIM = re.compile(r"\b(treat\w*|cure\w*|therapy for)\b[^.;]{0,40}\b(substance|alcohol|drug|addict)", re.IGNORECASE)
CARE = choice("addiction-care", "addiction-care", "under-way")
LESS = choice("use-since-last", "use-since-last", "less")


def demo(archetype: Archetype, mappings: Mappings) -> Course:
    """Return the course of a demo patient, its story played to the end."""
    patient = next(each for each in generate(7, len(STORIES), START) if each.story.archetype is archetype)
    key = PatientKey("main", patient.patient_id)
    return project(key, facts_of(patient.events, mappings), END, mappings).courses[0]


def test_the_goal_has_a_target_and_follows_the_audit(mappings: Mappings) -> None:
    """Below 8, where the hazardous band begins. No reliable change of the AUDIT is published, so none is claimed."""
    course = courses.states()["addiction"]
    goal = dict(render(course, mappings).resources)["goal/patient/reduce-alcohol-use"]
    quantity = goal["target"][0]["detailQuantity"]
    assert ("<", 8) == (quantity["comparator"], quantity["value"])
    assert "in-progress" == goal["achievementStatus"]["coding"][0]["code"]
    reached = courses.course(goals=course.goals, changes=(courses.change("audit", 18, 6),))
    goal = dict(render(reached, mappings).resources)["goal/patient/reduce-alcohol-use"]
    assert "achieved" == goal["achievementStatus"]["coding"][0]["code"]


def test_care_that_no_form_notes_is_asked_for_until_one_does(mappings: Mappings) -> None:
    """For information: how it stands, not that there must be any."""
    facts = [assessment(goals=["reduce-alcohol-use"]), *sessions(3)]
    (told,) = found(course_of(facts, week(3), mappings), "substance.care-not-noted")
    assert (week(0).date(), None, "info") == (told.raised, told.closed, told.severity)
    noted = session_form("s-3", week(2), CARE, of="e-3")
    (told,) = found(course_of([*facts, noted], week(3), mappings), "substance.care-not-noted")
    assert week(2).date() == told.closed


def test_use_that_a_session_form_tells_of_asks_for_it_too(mappings: Mappings) -> None:
    """Without a goal; where the answer is that there was none, nothing asks."""
    use = session_form("s-2", week(1), LESS, of="e-2")
    none = session_form("s-2", week(1), choice("use-since-last", "use-since-last", "none"), of="e-2")
    told = [
        bool(found(course_of([assessment(), *sessions(2), form], week(2), mappings), "substance.care-not-noted"))
        for form in (use, none)
    ]
    assert [True, False] == told


def test_use_and_care_stand_in_the_narrative_with_what_ipt_is_not(mappings: Mappings) -> None:
    """In the demo's patient who drinks and is in addiction care."""
    course = demo(Archetype.ADDICTION, mappings)
    (line,) = [each for each in lines(course, mappings).work if each.label == "Substance use"]
    assert (f"less since the last session; addiction care under way. {NO_TREATMENT_OF_USE[:-1]}",) == line.items
    assert any("Alcohol use (AUDIT)" in score for score in lines(course, mappings).scores)
    assert [False] == [each.closed is None for each in found(course, "substance.care-not-noted")]


def test_no_text_of_ours_claims_that_ipt_treats_substance_use(mappings: Mappings) -> None:
    """Neither the mappings' words nor any plan: the fixed sentence, which denies it, alone pairs the two."""
    said = [*mappings.displays.values(), *(rule.sentence for rule in mappings.rules.values())]
    said += [text for area in mappings.focus_areas.values() for text in (area.goal, *area.therapist_tasks)]
    said += [text for area in mappings.focus_areas.values() for text in area.patient_goals]
    known = [*courses.states().values(), *(demo(each, mappings) for each in (Archetype.ALCOHOL, Archetype.ADDICTION))]
    for course in known:
        said.append(markup(lines(course, mappings)))
        for _, resource in render(course, mappings).resources:
            said.append(resource.get("text", {"div": ""})["div"])
            said.append(resource.get("description", "") if isinstance(resource.get("description"), str) else "")
    assert [] == [text for text in said if CLAIM.search(text.replace(NO_TREATMENT_OF_USE, ""))]
    assert CLAIM.search("IPT treats alcohol use.")
    assert CLAIM.search(NO_TREATMENT_OF_USE)


def test_every_goal_about_use_says_so(mappings: Mappings) -> None:
    """In the chart, beside the goal itself."""
    for goal in ("reduce-alcohol-use", "reduce-substance-use"):
        course = course_of([assessment(goals=[goal]), *sessions(1)], week(1), mappings)
        assert NO_TREATMENT_OF_USE in dict(render(course, mappings).resources)[f"goal/patient/{goal}"]["text"]["div"]
