"""Which protocol a course follows, and what follows from it.

Adult standard: 12 to 16 weekly sessions. Adolescent (IPT-A): 12 to 16, not for active substance misuse, acute
suicidality, psychosis or bipolar disorder. Brief (IPT-B): 8 after one engagement meeting. WHO group: 8 of the group
after one individual meeting. Maintenance: further apart, up to two years, after a finished course.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from service.domain.codes import SNOMED_CT
from service.domain.course import ChosenBy, Decision, Phase, SessionKind
from service.domain.facts import Code
from service.domain.mapping_files import parse
from service.domain.projection import project
from service.outbound.explain import explain
from service.outbound.narrative import lines
from tests.history import (
    IPT,
    MONDAY,
    PATIENT,
    assessment,
    course_of,
    encounter,
    ending,
    found,
    phq9,
    session_form,
    sessions,
    week,
)

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings

GROUP = Code(SNOMED_CT, "76168009")
TEEN_CLINIC = Code("https://clinic.example/fhir/service", "CAMHS")
SITE = """
[[protocols]]
protocol = "adolescent"
codes = ["https://clinic.example/fhir/service|CAMHS"]

[[protocols]]
protocol = "adolescent"
age_from = 12
age_below = 18
"""


@pytest.fixture(scope="module")
def clinic(mapping_files: dict[str, bytes]) -> Mappings:
    """Return the mappings of a clinic whose adolescents, by service or by age, are treated by IPT-A."""
    return parse(mapping_files | {"sites/clinic.toml": SITE.encode()}, "clinic")


def two_courses(facts: list[Fact], weeks: float, mappings: Mappings) -> tuple[Course, Course]:
    """Return a finished course and the one that follows it."""
    first, second = project(PATIENT, facts, week(weeks), mappings).courses
    return first, second


# --- the choice


@pytest.mark.parametrize(
    ("protocol", "planned"),
    [("adult-standard", 16), ("adolescent", 12), ("brief", 8), ("who-group", 8), ("maintenance", 24)],
)
def test_the_assessment_form_chooses_the_protocol(protocol: str, planned: int, mappings: Mappings) -> None:
    """With the number of sessions that stands in until one is agreed."""
    course = course_of([assessment(protocol=protocol, planned=None), *sessions(1)], week(1), mappings)
    assert (protocol, planned) == (course.protocol, course.planned_sessions)
    assert ("QuestionnaireResponse/assessment", ChosenBy.FORM) == (course.protocols[0].fact, course.protocols[0].by)


def test_without_a_choice_a_course_is_adult_standard(mappings: Mappings) -> None:
    """And says that this is only the default."""
    course = course_of(sessions(1), week(1), mappings)
    assert ("adult-standard", ChosenBy.DEFAULT) == (course.protocol, course.protocols[0].by)


def test_the_site_chooses_by_service(clinic: Mappings) -> None:
    """The encounter of the adolescents' service decides, and is named."""
    visits = [encounter("e-1", week(0), types=[IPT, TEEN_CLINIC]), encounter("e-2", week(1))]
    (span,) = course_of(visits, week(2), clinic).protocols
    assert ("adolescent", ChosenBy.SITE, "Encounter/e-1") == (span.protocol, span.by, span.fact)


@pytest.mark.parametrize(
    ("age", "expected"), [(11, "adult-standard"), (12, "adolescent"), (17, "adolescent"), (18, "adult-standard")]
)
def test_the_site_chooses_by_age(age: int, expected: str, clinic: Mappings) -> None:
    """From twelve, and below eighteen."""
    assert expected == course_of([assessment(age=age), *sessions(1)], week(1), clinic).protocol


def test_an_unknown_age_fits_no_rule_of_the_site(clinic: Mappings) -> None:
    """Nobody is taken for an adolescent."""
    assert "adult-standard" == course_of([assessment(), *sessions(1)], week(1), clinic).protocol


def test_the_form_goes_before_the_site(clinic: Mappings) -> None:
    """A clinician's choice counts."""
    assert "brief" == course_of([assessment(age=15, protocol="brief"), *sessions(1)], week(1), clinic).protocol


# --- a change in mid-course


def changed() -> list[Fact]:
    """Return a course of twelve, shortened to brief IPT after its sixth session."""
    return [
        assessment(protocol="adult-standard"),
        *sessions(8),
        assessment("again", week(5), protocol="brief", planned=8),
    ]


def test_a_change_of_protocol_is_told_and_explained(mappings: Mappings) -> None:
    """Both protocols, their days and the forms that name them."""
    course = course_of(changed(), week(8), mappings)
    assert ["adult-standard", "brief"] == [span.protocol for span in course.protocols]
    (told,) = found(course, "protocol.changed")
    assert week(5).date() == told.raised
    assert ("QuestionnaireResponse/assessment", "QuestionnaireResponse/again") == told.facts


def test_sessions_before_a_change_keep_their_phase(mappings: Mappings) -> None:
    """The sixth was a middle one of twelve; the eighth is the last of eight."""
    course = course_of(changed(), week(8), mappings)
    assert (Phase.MIDDLE, Phase.ENDING) == (course.sessions[5].phase, course.sessions[7].phase)
    assert (8, Phase.ENDING) == (course.planned_sessions, course.phase)


def test_naming_the_same_protocol_again_changes_nothing(mappings: Mappings) -> None:
    """One span, no finding."""
    facts = [assessment(protocol="brief"), assessment("again", week(3), protocol="brief"), *sessions(4)]
    course = course_of(facts, week(4), mappings)
    assert (1, []) == (len(course.protocols), found(course, "protocol.changed"))


def test_the_explanation_names_each_protocol_with_what_chose_it(mappings: Mappings) -> None:
    """Day, form and source."""
    reasons = [
        r for r in explain(course_of(changed(), week(8), mappings), mappings) if r.text.startswith("Protocol since")
    ]
    assert [("QuestionnaireResponse/assessment",), ("QuestionnaireResponse/again",)] == [r.facts for r in reasons]
    assert all("(named by a form)" in reason.text and reason.source for reason in reasons)


def test_the_plan_names_the_protocol_where_it_is_not_the_default_one(mappings: Mappings) -> None:
    """In its first sentence."""
    course = course_of([assessment(protocol="brief", planned=8), *sessions(3)], week(3), mappings)
    expected = "Brief interpersonal psychotherapy (IPT-B), session 3 of 8 (middle phase)."
    assert expected == lines(course, mappings).headline


# --- exclusions of IPT-A


def test_what_speaks_against_ipt_a_is_told(mappings: Mappings) -> None:
    """From the form, and from the reason of an encounter; the protocol stays as it was chosen."""
    bipolar = Code("http://hl7.org/fhir/sid/icd-10-cm", "F31.9")
    facts = [
        assessment(protocol="adolescent", exclusions=["psychosis"]),
        encounter("e-1", week(0)),
        encounter("e-2", week(1), reasons=[bipolar]),
    ]
    course = course_of(facts, week(2), mappings)
    assert [("psychosis", "QuestionnaireResponse/assessment"), ("bipolar-disorder", "Encounter/e-2")] == [
        (each.task, each.fact) for each in course.exclusions
    ]
    assert 2 == len(found(course, "protocol.exclusion"))
    assert "adolescent" == course.protocol


def test_the_adult_protocol_excludes_nothing(mappings: Mappings) -> None:
    """The same form raises nothing there."""
    course = course_of([assessment(exclusions=["psychosis"]), *sessions(1)], week(1), mappings)
    assert ((), []) == (course.exclusions, found(course, "protocol.exclusion"))


def test_another_protocol_closes_what_speaks_against_the_one_before(mappings: Mappings) -> None:
    """It stays in the history; and where the protocol it speaks against comes later, it is told then."""
    away = [assessment(protocol="adolescent", exclusions=["psychosis"]), *sessions(4)]
    (told,) = found(course_of(away, week(2), mappings), "protocol.exclusion")
    (closed,) = found(
        course_of([*away, assessment("again", week(3), protocol="adult-standard")], week(4), mappings),
        "protocol.exclusion",
    )
    assert (told.id, told.raised, week(3).date()) == (closed.id, closed.raised, closed.closed)

    toward = [assessment(exclusions=["psychosis"], protocol="adult-standard"), *sessions(4)]
    (late,) = found(
        course_of([*toward, assessment("again", week(3), protocol="adolescent")], week(4), mappings),
        "protocol.exclusion",
    )
    assert (week(3).date(), None) == (late.raised, late.closed)


# --- the WHO's group


def test_the_individual_meeting_before_a_group_is_not_counted(mappings: Mappings) -> None:
    """However it is coded: nine meetings are eight sessions."""
    group = [encounter(f"g-{number}", week(number), types=[IPT, GROUP]) for number in range(1, 9)]
    course = course_of([assessment(protocol="who-group"), encounter("before", MONDAY), *group], week(9), mappings)
    assert (SessionKind.PREPARATION, None) == (course.sessions[0].kind, course.sessions[0].number)
    assert (8, 8) == (course.held, course.sessions[-1].number)


def test_a_form_of_the_preparatory_meeting_makes_no_session(mappings: Mappings) -> None:
    """Written on its day without naming it."""
    form = session_form("f", MONDAY + timedelta(hours=1))
    course = course_of([assessment(protocol="who-group"), encounter("before", MONDAY), form], week(1), mappings)
    assert (0, ("f",)) == (course.held, course.sessions[0].forms)


# --- maintenance


def maintained(*later: Fact) -> list[Fact]:
    """Return a finished course of twelve whose ending form decides on maintenance."""
    return [assessment(), *sessions(12), ending("z", week(11) + timedelta(hours=1), "maintenance"), *later]


def test_maintenance_is_a_course_that_follows_the_finished_one(mappings: Mappings) -> None:
    """The finished one is closed with its count; the next begins at once and refers to it."""
    first, second = two_courses(maintained(encounter("m-1", week(15))), 16, mappings)
    assert (Phase.CLOSED, 12, week(11).date()) == (first.phase, first.held, first.closed)
    assert (first.id, "maintenance", Phase.MAINTENANCE) == (second.follows, second.protocol, second.phase)
    assert [1] == [session.number for session in second.sessions]
    assert "QuestionnaireResponse/z" == second.protocols[0].fact


def test_an_ending_form_may_open_both_courses(mappings: Mappings) -> None:
    """If it is all that is known, their ids still differ."""
    first, second = two_courses([ending("z", week(0), "maintenance")], 1, mappings)
    assert first.id != second.id
    assert first.id == second.follows


def test_one_episode_may_hold_both_courses(mappings: Mappings) -> None:
    """The EpisodeOfCare names the finished course; maintenance has a name of its own."""
    episode = ["EpisodeOfCare/1"]
    facts = [encounter(f"e-{n}", week(n), episodes=episode) for n in range(3)]
    facts += [ending("z", week(2), "maintenance"), encounter("m-1", week(6), episodes=episode)]
    first, second = two_courses(facts, 7, mappings)
    assert ("EpisodeOfCare/1", 3, 1) == (first.anchor, first.held, second.held)


def test_a_session_form_of_the_last_session_stays_with_it(mappings: Mappings) -> None:
    """Written two days after the decision, it names its encounter."""
    late = session_form("late", week(11) + timedelta(days=2), of="e-12")
    first, second = two_courses(maintained(late), 12, mappings)
    assert (12, ("late",), 0) == (first.held, first.sessions[-1].forms, second.held)


def test_a_late_form_of_the_last_session_is_no_session_of_maintenance(mappings: Mappings) -> None:
    """Even if it names no encounter; once the session has its form, the next one is maintenance."""
    late = session_form("late", week(11) + timedelta(days=2))
    first, second = two_courses(maintained(late), 12, mappings)
    assert (12, ("late",), 0) == (first.held, first.sessions[-1].forms, second.held)
    first, second = two_courses(maintained(late, session_form("next", week(12))), 13, mappings)
    assert (12, 1) == (first.held, second.held)


def test_the_number_on_the_deciding_form_is_that_of_maintenance(mappings: Mappings) -> None:
    """Ten sessions of maintenance; the finished course keeps its twelve."""
    facts = [assessment(), *sessions(12), ending("z", week(11), "maintenance", planned=10)]
    first, second = two_courses(facts, 12, mappings)
    assert (12, 10, True) == (first.planned_sessions, second.planned_sessions, second.planned_sessions_agreed)


def test_monthly_sessions_are_not_stalled_and_stay_in_one_course(mappings: Mappings) -> None:
    """Five weeks apart nothing is asked; a visit after 34 weeks is still maintenance."""
    monthly = [encounter(f"m-{n}", week(11 + 5 * n)) for n in (1, 2, 3)]
    _, second = two_courses(maintained(*monthly), 27, mappings)
    assert [] == found(second, "course.stalled")
    _, second = two_courses(maintained(*monthly, encounter("m-4", week(26 + 34))), 61, mappings)
    assert 4 == second.held


def test_maintenance_ends_by_an_ending_form_of_its_own(mappings: Mappings) -> None:
    """Which leaves the finished course as it is; deciding on maintenance once more goes on with it."""
    visits = [encounter("m-1", week(15)), encounter("m-2", week(19))]
    on = ending("on", week(15), "maintenance")
    first, second = two_courses(maintained(*visits, on), 20, mappings)
    assert (Phase.CLOSED, Phase.MAINTENANCE, None) == (first.phase, second.phase, second.closed)
    first, second = two_courses(maintained(*visits, on, ending("end", week(19), "end")), 20, mappings)
    assert (week(11).date(), week(19).date()) == (first.closed, second.closed)


def test_maintenance_after_a_treatment_elsewhere_is_one_course(mappings: Mappings) -> None:
    """The assessment form names the protocol; deciding on maintenance once more opens no other course."""
    facts = [assessment(protocol="maintenance"), *sessions(2), ending("on", week(1), "maintenance")]
    course = course_of([*facts, encounter("m-3", week(5))], week(6), mappings)
    assert (Phase.MAINTENANCE, 3, None) == (course.phase, course.held, course.follows)


def test_a_corrected_decision_takes_maintenance_back(mappings: Mappings) -> None:
    """A second ending form of the same day says end."""
    facts = maintained(ending("z-2", week(11) + timedelta(hours=2), "end"))
    assert Decision.END == getattr(course_of(facts, week(12), mappings).ending, "decision", None)


def test_a_measure_after_the_decision_belongs_to_maintenance(mappings: Mappings) -> None:
    """So that a safety answer is never without a course."""
    first, second = two_courses(maintained(phq9("q", week(14), 12, item9=1)), 15, mappings)
    assert (0, 1) == (len(first.measures), len(second.measures))
    assert found(second, "safety.self-harm-item")


def test_relapse_in_maintenance_may_begin_another_course(mappings: Mappings) -> None:
    """An assessment form that names another protocol opens it."""
    again = [assessment("again", week(20), protocol="brief"), encounter("n-1", week(21))]
    courses = project(PATIENT, maintained(encounter("m-1", week(15)), *again), week(22), mappings).courses
    assert ["adult-standard", "maintenance", "brief"] == [course.protocol for course in courses]


def test_an_overrun_initial_phase_stays_in_the_history_of_a_course_that_changed_its_protocol(
    mappings: Mappings,
) -> None:
    """Two sessions are the brief protocol's initial phase; the adult standard allows four."""
    brief = [assessment(protocol="brief", focus=None), *sessions(5)]
    changed = [*brief, assessment("again", week(2), protocol="adult-standard", focus=None, ticked=())]
    (lived,) = found(course_of(brief, week(1.5), mappings), "initial.overrun")
    first, second = found(course_of(changed, week(5), mappings), "initial.overrun")
    assert (lived.id, lived.raised, week(2).date()) == (first.id, first.raised, first.closed)
    assert (week(3).date(), None) == (second.raised, second.closed)


def test_the_meeting_before_a_group_is_no_session_when_the_course_changes_to_another_protocol(
    mappings: Mappings,
) -> None:
    """Nor does a change to the group make one of a session that was counted."""
    group = [assessment(protocol="who-group"), *sessions(4)]
    adult = [assessment(protocol="adult-standard"), *sessions(4)]
    for facts, other, held in ((group, "adult-standard", 3), (adult, "who-group", 4)):
        changed = [*facts, assessment("again", week(3), protocol=other)]
        assert held == course_of(facts, week(3.5), mappings).held == course_of(changed, week(3.5), mappings).held
