"""Phases, treatments and their findings by the adult protocol."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.domain.course import Phase, Sex
from service.domain.forms import FHIR_BASE
from service.domain.projection import project
from tests.history import (
    MONDAY,
    PATIENT,
    assessment,
    choice,
    encounter,
    ending,
    gad7,
    phq9,
    response,
    session_form,
    sessions,
    week,
)
from tests.unit.domain.test_sessions import only_course

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.mappings import Mappings


def rules(course: Course) -> list[str]:
    """Return the ids of the rules that found something, the most urgent first."""
    return [finding.rule for finding in course.findings]


def test_course_waits_for_its_first_session(mappings: Mappings) -> None:
    """An assessment form alone opens a course with nothing held."""
    course = only_course([assessment()], mappings, week(1))
    assert (Phase.ASSESSMENT_PENDING, 0) == (course.phase, course.held)


def test_phase_stays_initial_until_its_tasks_are_documented(mappings: Mappings) -> None:
    """Nine sessions do not make a middle phase; agreement does."""
    facts = [*sessions(9), assessment(ticked=["diagnosis-documented", "interpersonal-inventory"])]
    assert Phase.INITIAL == only_course(facts, mappings).phase


def test_middle_phase_begins_after_the_tasks_are_documented(mappings: Mappings) -> None:
    """The session of the day on which the last task is documented is still initial."""
    course = only_course([*sessions(4), assessment(authored=week(1))], mappings)
    assert [Phase.INITIAL, Phase.INITIAL, Phase.MIDDLE, Phase.MIDDLE] == [s.phase for s in course.sessions]
    assert Phase.MIDDLE == course.phase


def test_tasks_may_be_documented_on_session_forms(mappings: Mappings) -> None:
    """The assessment form names what was done by then; later session forms add the rest."""
    form = session_form("f", week(2), choice("phase-task", "phase-task", "agreement"), of="e-3")
    early = assessment(ticked=["diagnosis-documented", "interpersonal-inventory"])
    assert Phase.MIDDLE == only_course([*sessions(3), early, form], mappings).phase


def test_last_three_sessions_are_the_ending(mappings: Mappings) -> None:
    """Of twelve, the tenth opens the ending phase."""
    course = only_course([assessment(), *sessions(10)], mappings)
    assert (Phase.MIDDLE, Phase.ENDING) == (course.sessions[8].phase, course.sessions[9].phase)
    assert Phase.ENDING == course.phase


def test_scores_never_move_a_phase(mappings: Mappings) -> None:
    """Remission in session three is a finding, not an ending."""
    facts = [assessment(), *sessions(3), phq9("q-1", week(0), 20), phq9("q-2", week(2), 1)]
    assert Phase.MIDDLE == only_course(facts, mappings).phase


def test_initial_phase_overrun_names_what_is_missing(mappings: Mappings) -> None:
    """After four sessions without agreement a review is asked for; the phase stays."""
    course = only_course([*sessions(4), assessment(ticked=["diagnosis-documented"])], mappings)
    (overrun,) = [finding for finding in course.findings if finding.rule == "initial.overrun"]
    assert week(3).date() == overrun.raised
    assert 4 == dict(overrun.values)["held"]
    assert ("Encounter/e-1", "Encounter/e-2", "Encounter/e-3", "Encounter/e-4") == overrun.facts


def test_ending_is_due_when_three_sessions_remain(mappings: Mappings) -> None:
    """The finding opens with the ninth of twelve sessions."""
    assert "ending.due" not in rules(only_course([assessment(), *sessions(8)], mappings))
    assert "ending.due" in rules(only_course([assessment(), *sessions(9)], mappings))


def test_planned_sessions_used_up_without_ending(mappings: Mappings) -> None:
    """The service asks for a decision and takes none."""
    course = only_course([assessment(), *sessions(12)], mappings, week(12))
    assert "sessions.used-up" in rules(course)
    assert Phase.ENDING == course.phase


def test_ending_form_closes_the_course(mappings: Mappings) -> None:
    """Only a clinician's decision ends it."""
    course = only_course([assessment(), *sessions(12), ending("end", week(11), "end")], mappings, week(12))
    assert (Phase.CLOSED, week(11).date()) == (course.phase, course.closed)
    assert "sessions.used-up" not in rules(course)


def test_continuation_is_a_new_agreement(mappings: Mappings) -> None:
    """Sixteen instead of twelve: the thirteenth session is the middle again."""
    facts = [assessment(), *sessions(13), ending("go-on", week(11), "continue", planned=16)]
    course = only_course(facts, mappings, week(13))
    assert (16, Phase.MIDDLE) == (course.planned_sessions, course.phase)


def test_maintenance_follows_the_ending(mappings: Mappings) -> None:
    """Sessions after that decision belong to a course of maintenance, which refers to the finished one."""
    facts = [assessment(), *sessions(12), ending("m", week(11), "maintenance"), encounter("late", week(15))]
    first, then = project(PATIENT, facts, week(16), mappings).courses
    assert (Phase.CLOSED, 12, None) == (first.phase, first.held, first.follows)
    assert (Phase.MAINTENANCE, 1, first.id) == (then.phase, then.held, then.follows)
    assert Phase.MAINTENANCE == then.sessions[0].phase


def test_protocol_default_stands_in_until_a_number_is_agreed(mappings: Mappings) -> None:
    """The plan shows sixteen, and that nobody agreed on it."""
    course = only_course(sessions(1), mappings)
    assert (16, False) == (course.planned_sessions, course.planned_sessions_agreed)


def test_assessment_after_an_ending_opens_another_course(mappings: Mappings) -> None:
    """A patient who comes back has two courses, each with its own count."""
    facts = [
        assessment(),
        *sessions(3),
        ending("end", week(3), "end"),
        assessment("again", week(8)),
        encounter("n-1", week(9)),
    ]
    courses = project(PATIENT, facts, week(10), mappings).courses
    assert [(3, Phase.CLOSED), (1, Phase.MIDDLE)] == [(course.held, course.phase) for course in courses]


def test_half_a_year_without_anything_separates_courses(mappings: Mappings) -> None:
    """A gap of more than 182 days begins another treatment."""
    facts = [*sessions(2), encounter("later", week(1) + timedelta(days=183))]
    courses = project(PATIENT, facts, week(60), mappings).courses
    assert [2, 1] == [course.held for course in courses]


def test_episode_of_care_names_the_course(mappings: Mappings) -> None:
    """Where facts carry an EpisodeOfCare it is the anchor, whatever session is known first."""
    facts = [encounter(f"e-{n}", week(n), episodes=["EpisodeOfCare/ep"]) for n in range(3)]
    assert {"EpisodeOfCare/ep"} == {only_course(facts[n:], mappings).anchor for n in range(3)}


def test_two_episodes_are_two_courses(mappings: Mappings) -> None:
    """Sessions of interleaved episodes never mix."""
    facts = [encounter(f"e-{n}", week(n), episodes=[f"EpisodeOfCare/{n % 2}"]) for n in range(4)]
    courses = project(PATIENT, facts, week(5), mappings).courses
    assert [("EpisodeOfCare/0", 2), ("EpisodeOfCare/1", 2)] == [(course.anchor, course.held) for course in courses]


def test_course_is_named_by_its_earliest_explicit_fact(mappings: Mappings) -> None:
    """Without an episode the anchor is what came first in the patient's life, not at the door."""
    facts = [*sessions(2), assessment(authored=week(1))]
    assert "Encounter/e-1" == only_course(facts, mappings).anchor


def test_cancelled_bookings_alone_are_no_course(mappings: Mappings) -> None:
    """A patient who never came and never will has no plan."""
    assert () == project(PATIENT, [encounter("c", week(0), status="cancelled")], week(1), mappings).courses


def test_no_session_for_four_weeks_is_a_finding(mappings: Mappings) -> None:
    """It opens by time alone, at the instant that the projection announced."""
    facts = [assessment(), *sessions(2)]
    due = week(1) + timedelta(days=28)
    assert "course.stalled" not in rules(only_course(facts, mappings, due - timedelta(seconds=1)))
    assert "course.stalled" in rules(only_course(facts, mappings, due))


def test_session_ahead_means_not_stalled(mappings: Mappings) -> None:
    """A pause with a date for the next session is agreed."""
    facts = [assessment(), *sessions(2), encounter("next", week(9), status="planned")]
    assert "course.stalled" not in rules(only_course(facts, mappings, week(8)))


def test_soft_review_after_four_sessions_without_change(mappings: Mappings) -> None:
    """Less than 20 % improvement by session four is a prompt."""
    facts = [assessment(), *sessions(4), phq9("q-1", week(0), 20), phq9("q-2", week(3), 17)]
    assert "review.soft" in rules(only_course(facts, mappings))
    facts[-1] = phq9("q-2", week(3), 16)
    assert "review.soft" not in rules(only_course(facts, mappings))


def test_firm_review_after_eight_sessions_without_reliable_improvement(mappings: Mappings) -> None:
    """It names the values and facts that it rests on, and is due within a week."""
    facts = [assessment(), *sessions(8), phq9("q-1", week(0), 17), phq9("q-2", week(7), 17)]
    course = only_course(facts, mappings)
    (review,) = [finding for finding in course.findings if finding.rule == "review.firm"]
    assert (week(7).date(), (week(7) + timedelta(days=7)).date()) == (review.raised, review.due)
    assert {"first": 17, "latest": 17, "percent": 0} == {
        name: value for name, value in review.values if name in {"first", "latest", "percent"}
    }
    assert {"QuestionnaireResponse/q-1", "QuestionnaireResponse/q-2"} < set(review.facts)


def test_progress_is_reviewed_by_depression_before_anxiety(mappings: Mappings) -> None:
    """Both were cases at the start: the PHQ-9 speaks for the course."""
    facts = [assessment(), *sessions(8), gad7("g-1", week(0), 15), phq9("q-1", week(0), 17)]
    (review,) = [finding for finding in only_course(facts, mappings).findings if finding.rule == "review.firm"]
    assert "PHQ-9" == dict(review.values)["instrument"]


def test_no_review_of_a_measure_that_was_no_case_at_the_start(mappings: Mappings) -> None:
    """Nine points at the start leave little room to improve."""
    facts = [assessment(), *sessions(8), phq9("q-1", week(0), 9), phq9("q-2", week(7), 9)]
    assert not {"review.soft", "review.firm"} & set(rules(only_course(facts, mappings)))


def test_reliable_improvement_unless_the_other_measure_is_worse(mappings: Mappings) -> None:
    """Six points of PHQ-9 count, but not beside four more points of GAD-7."""
    facts = [assessment(), *sessions(3), phq9("q-1", week(0), 18), phq9("q-2", week(2), 12)]
    assert "change.improvement" in rules(only_course(facts, mappings))
    worse = [*facts, gad7("g-1", week(0), 8), gad7("g-2", week(2), 12)]
    assert "change.improvement" not in rules(only_course(worse, mappings))
    assert "change.deterioration" in rules(only_course(worse, mappings))


def test_five_points_are_no_reliable_change(mappings: Mappings) -> None:
    """One point less than the published threshold is nothing."""
    facts = [assessment(), *sessions(3), phq9("q-1", week(0), 18), phq9("q-2", week(2), 13)]
    assert not {"change.improvement", "change.deterioration"} & set(rules(only_course(facts, mappings)))


def test_safety_answer_is_found_whatever_the_total(mappings: Mappings) -> None:
    """Item 9 of a PHQ-9 with eight points calls a clinician the same day."""
    course = only_course([assessment(), *sessions(1), phq9("q-1", week(0), 8, item9=1)], mappings)
    safety = course.findings[0]
    assert ("safety.self-harm-item", week(0).date(), week(0).date()) == (safety.rule, safety.raised, safety.due)


def test_safety_answer_after_the_end_of_a_course_is_not_lost(mappings: Mappings) -> None:
    """A closed course still raises it; its outcome stays what it was."""
    facts = [
        assessment(),
        *sessions(2),
        phq9("q-1", week(0), 18),
        ending("end", week(2), "end"),
        phq9("q-2", week(4), 20, item9=3),
    ]
    course = only_course(facts, mappings)
    assert "safety.self-harm-item" == rules(course)[0]
    assert [18] == [change.latest for change in course.changes]


def test_baseline_is_taken_before_the_first_session(mappings: Mappings) -> None:
    """A questionnaire of the month before the opening is the course's first."""
    facts = [*sessions(1), phq9("q-0", MONDAY - timedelta(days=30), 21), phq9("q-1", week(1), 14)]
    (change,) = only_course(facts, mappings).changes
    assert (21, 14) == (change.first, change.latest)


def test_focus_follows_the_latest_form_and_keeps_its_first_day(mappings: Mappings) -> None:
    """The same area named again has been the focus all along."""
    facts = [
        assessment("a-1", week(0), focus="grief"),
        assessment("a-2", week(2), focus="role-dispute", secondary=["communication-patterns"], stage="impasse"),
        assessment("a-3", week(4), focus="role-dispute", secondary=["communication-patterns"]),
        *sessions(5),
    ]
    areas = only_course(facts, mappings).focus_areas
    assert [
        ("role-dispute", True, week(2).date(), "impasse"),
        ("communication-patterns", False, week(2).date(), None),
    ] == [(area.area, area.primary, area.since, area.stage) for area in areas]


def test_projected_end_follows_what_remains(mappings: Mappings) -> None:
    """Nine of twelve held: three more weeks."""
    assert week(11).date() == only_course([assessment(), *sessions(9)], mappings).projected_end


def test_sex_and_age_are_those_of_the_latest_form_that_gives_them(mappings: Mappings) -> None:
    """Some cut-offs and protocols go by them; neither is needed."""
    known = assessment("a", sex="female", age=34)
    course = project(PATIENT, [known, assessment("b", week(1))], week(2), mappings).courses[0]
    assert (Sex.FEMALE, 34) == (course.sex, course.age)
    course = project(PATIENT, [assessment()], week(2), mappings).courses[0]
    assert (None, None) == (course.sex, course.age)


def test_a_treatment_that_stops_early_says_why(mappings: Mappings) -> None:
    """In the words of the ending form."""
    answers = [choice("decision", "decision", "end"), choice("stopped-because", "stopped-because", "moved-away")]
    facts = [*sessions(2), response("z", f"{FHIR_BASE}/Questionnaire/ipt-ending", week(2), answers)]
    ended = project(PATIENT, facts, week(3), mappings).courses[0].ending
    assert ended is not None
    assert "moved-away" == ended.stopped_because
