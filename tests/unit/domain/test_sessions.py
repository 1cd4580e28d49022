"""Sessions: what is counted, once each, and what is only shown."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.domain.course import SessionKind, SessionState
from service.domain.facts import Code
from service.domain.mapping_files import parse
from service.domain.projection import project
from tests.history import CPT_45, PATIENT, assessment, choice, encounter, session_form, sessions, week

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from service.domain.course import Course
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings

CRISIS = Code("http://www.ama-assn.org/go/cpt", "90839")
EVALUATION = Code("http://www.ama-assn.org/go/cpt", "90791")
DID_NOT_ATTEND = Code("http://snomed.info/sct", "281399006")


def only_course(facts: Iterable[Fact], mappings: Mappings, as_of: datetime | None = None) -> Course:
    """Return the patient's one course."""
    (course,) = project(PATIENT, facts, as_of or week(10), mappings).courses
    return course


def test_held_sessions_are_numbered_by_time(mappings: Mappings) -> None:
    """Numbers follow the calendar, not the order of arrival."""
    course = only_course(reversed(sessions(3)), mappings)
    assert [(1, week(0)), (2, week(1)), (3, week(2))] == [(s.number, s.start) for s in course.sessions]


def test_only_held_sessions_count(mappings: Mappings) -> None:
    """Planned, cancelled, missed and running ones are shown and not counted."""
    facts = [
        *sessions(1),
        encounter("cancelled", week(1), status="cancelled"),
        encounter("missed", week(2), status="cancelled", reasons=[DID_NOT_ATTEND]),
        encounter("running", week(9.99), status="in-progress"),
        encounter("planned", week(11), status="planned"),
    ]
    course = only_course(facts, mappings)
    assert [
        (1, SessionState.HELD),
        (None, SessionState.CANCELLED),
        (None, SessionState.NO_SHOW),
        (None, SessionState.IN_PROGRESS),
        (None, SessionState.PLANNED),
    ] == [(session.number, session.state) for session in course.sessions]
    assert 1 == course.held


def test_planned_session_whose_time_has_passed_is_unrecorded(mappings: Mappings) -> None:
    """Two days later nobody knows what became of it."""
    facts = [*sessions(1), encounter("planned", week(1), status="planned")]
    before = only_course(facts, mappings, week(1) + timedelta(days=2, seconds=-1))
    after = only_course(facts, mappings, week(1) + timedelta(days=2))
    assert [SessionState.PLANNED, SessionState.UNRECORDED] == [before.sessions[1].state, after.sessions[1].state]


def test_two_encounters_of_a_day_are_one_session(mappings: Mappings) -> None:
    """One meeting documented twice raises the count by one, and is pointed out."""
    facts = [encounter("a", week(0)), encounter("b", week(0) + timedelta(hours=2))]
    course = only_course(facts, mappings)
    assert 1 == course.held
    assert ("a", "b") == course.sessions[0].encounters
    assert ["data.same-day"] == [finding.rule for finding in course.findings if finding.rule.startswith("data")]


def test_stay_is_counted_by_the_meetings_within_it(mappings: Mappings) -> None:
    """Two contacts in a stay of days are two sessions, and their visit within the stay none of its own."""
    day = timedelta(days=1)
    facts = [
        encounter("stay", week(0), minutes=20_000),
        encounter("visit", week(0) + day, part_of="Encounter/stay"),
        encounter("first", week(0) + 2 * day, part_of="Encounter/visit"),
        encounter("second", week(0) + 5 * day, part_of="Encounter/stay"),
    ]

    for arrived in (facts, facts[::-1]):
        held = only_course(arrived, mappings).sessions
        assert [("first", "visit", "stay"), ("second",)] == [each.encounters for each in held]


def test_visit_whose_meetings_were_not_held_counts_itself(mappings: Mappings) -> None:
    """A contact that was cancelled says nothing against the visit."""
    facts = [
        encounter("visit", week(0)),
        encounter("contact", week(0) + timedelta(days=1), status="cancelled", part_of="Encounter/visit"),
    ]
    assert [1, None] == [each.number for each in only_course(facts, mappings).sessions]


def test_encounters_that_are_parts_of_each_other_count_once(mappings: Mappings) -> None:
    """And one that is a part of itself counts like any other."""
    facts = [
        encounter("a", week(0), part_of="Encounter/b"),
        encounter("b", week(0) + timedelta(days=1), part_of="Encounter/a"),
        encounter("c", week(1), part_of="Encounter/c"),
    ]
    assert [("a", "b"), ("c",)] == [each.encounters for each in only_course(facts, mappings).sessions]


def test_cancelled_and_rescheduled_session_of_a_day_counts_once(mappings: Mappings) -> None:
    """The cancelled booking stays visible beside the session that was held."""
    facts = [encounter("a", week(0), status="cancelled"), encounter("b", week(0) + timedelta(hours=3))]
    course = only_course(facts, mappings)
    assert [SessionState.CANCELLED, SessionState.HELD] == [session.state for session in course.sessions]
    assert 1 == course.held


def test_session_told_by_encounter_and_form_counts_once(mappings: Mappings) -> None:
    """A form that names its encounter joins it."""
    course = only_course([*sessions(1), session_form("f", week(0) + timedelta(days=9), of="e-1")], mappings)
    assert 1 == course.held
    assert ("f",) == course.sessions[0].forms


def test_form_without_encounter_joins_the_session_of_its_day(mappings: Mappings) -> None:
    """The form that names no encounter was written on the day of the session."""
    course = only_course([*sessions(2), session_form("f", week(1) + timedelta(hours=5))], mappings)
    assert [(), ("f",)] == [session.forms for session in course.sessions]


def test_form_written_days_later_joins_the_last_session(mappings: Mappings) -> None:
    """Documentation may take up to three days."""
    course = only_course([*sessions(2), session_form("f", week(1) + timedelta(days=2))], mappings)
    assert [(), ("f",)] == [session.forms for session in course.sessions]
    assert 2 == course.held


def test_form_of_an_unknown_encounter_is_a_session_by_itself(mappings: Mappings) -> None:
    """A documented session counts even if its Encounter never came."""
    course = only_course([*sessions(1), session_form("f", week(3), of="lost")], mappings)
    assert [("e-1",), ()] == [session.encounters for session in course.sessions]
    assert 2 == course.held


def test_form_of_a_cancelled_session_is_pointed_out_and_not_counted(mappings: Mappings) -> None:
    """Contradictory records are for a person to settle."""
    facts = [*sessions(1), encounter("c", week(1), status="cancelled"), session_form("f", week(1), of="c")]
    course = only_course(facts, mappings)
    assert 1 == course.held
    assert "data.form-of-cancelled" in [finding.rule for finding in course.findings]


def test_finished_form_of_a_running_encounter_makes_it_held(mappings: Mappings) -> None:
    """The therapist has documented the session; the EHR's status lags behind."""
    facts = [encounter("r", week(0), status="in-progress"), session_form("f", week(0) + timedelta(hours=1), of="r")]
    assert 1 == only_course(facts, mappings).held


def test_general_psychotherapy_counts_inside_a_course_with_the_same_therapist(mappings: Mappings) -> None:
    """A CPT code says psychotherapy, not IPT: the practitioner makes the link."""
    facts = [
        *sessions(1),
        encounter("ours", week(1), types=[CPT_45]),
        encounter("other", week(2), types=[CPT_45], by=["Practitioner/other"]),
        encounter("nobody", week(3), types=[CPT_45], by=[]),
    ]
    assert [("e-1",), ("ours",)] == [session.encounters for session in only_course(facts, mappings).sessions]


def test_general_psychotherapy_alone_opens_no_course(mappings: Mappings) -> None:
    """Most psychotherapy in a hospital is not IPT."""
    assert () == project(PATIENT, [encounter("x", week(0), types=[CPT_45])], week(1), mappings).courses


def test_general_psychotherapy_named_by_a_session_form_counts(mappings: Mappings) -> None:
    """The IPT session form makes its encounter an IPT session, whoever held it."""
    facts = [
        assessment(),
        encounter("x", week(1), types=[CPT_45], by=["Practitioner/other"]),
        session_form("f", week(1), of="x"),
    ]
    assert [("x",)] == [session.encounters for session in only_course(facts, mappings).sessions]


def test_crisis_and_evaluation_are_shown_and_never_counted(mappings: Mappings) -> None:
    """A crisis contact is no planned session."""
    facts = [
        *sessions(1),
        encounter("crisis", week(1), types=[CRISIS]),
        encounter("evaluation", week(0) - timedelta(days=10), types=[EVALUATION]),
    ]
    course = only_course(facts, mappings)
    assert [SessionKind.ASSESSMENT, SessionKind.SESSION, SessionKind.CRISIS] == [s.kind for s in course.sessions]
    assert 1 == course.held


def test_encounter_recorded_as_held_in_the_future_counts_from_then_on(mappings: Mappings) -> None:
    """A slip of the year neither counts today nor is lost."""
    facts = [*sessions(1), encounter("slip", week(20))]
    course = only_course(facts, mappings)
    assert 1 == course.held
    assert "data.future" in [finding.rule for finding in course.findings]
    assert 2 == only_course(facts, mappings, week(20)).held


def test_session_without_a_period_counts_at_the_time_of_its_record(mappings: Mappings) -> None:
    """Status and code say that it was held; when, the record's own time tells."""
    assert 2 == only_course([*sessions(1), encounter("x", None)], mappings).held


def test_end_before_start_is_a_finding_and_no_duration(mappings: Mappings) -> None:
    """The session was held; its length is unknown."""
    course = only_course([encounter("x", week(0), minutes=-660)], mappings)
    assert (1, None) == (course.held, course.sessions[0].minutes)
    assert "data.duration" in [finding.rule for finding in course.findings]


def test_encounter_in_error_is_none(mappings: Mappings) -> None:
    """What was entered in error never happened."""
    facts = [*sessions(2), encounter("x", week(5), status="entered-in-error")]
    assert 2 == only_course(facts, mappings).held


def test_what_a_session_form_documents_stays_with_its_session(mappings: Mappings) -> None:
    """Patterns' effect, work at home, harmful coping and its trend, substance use and its care."""
    answers = [
        choice("pattern-effect", "pattern-effect", "lower-mood"),
        choice("technique-at-home", "technique", "role-play"),
        choice("maladaptive-coping", "maladaptive-coping", "alcohol"),
        choice("coping-trend", "coping-trend", "less"),
        choice("use-since-last", "use-since-last", "less"),
        choice("addiction-care", "addiction-care", "under-way"),
    ]
    (session,) = only_course([encounter("e-1", week(0)), session_form("f", week(0), *answers)], mappings).sessions
    assert (("lower-mood",), ("role-play",)) == (session.effects, session.techniques_at_home)
    assert (("alcohol",), "less") == (session.maladaptive_coping, session.coping_trend)
    assert ("less", "under-way") == (session.use_since_last, session.addiction_care)


def test_the_latest_instant_is_of_what_happened(mappings: Mappings) -> None:
    """A booking is none; a form is, when it was written."""
    facts = [
        encounter("e-1", week(0)),
        encounter("e-2", week(1), status="planned"),
        session_form("f", week(0.5)),
    ]
    assert week(0.5) == only_course(facts, mappings, as_of=week(3)).latest


def test_a_preparatory_meeting_is_shown_and_not_counted(mapping_files: dict[str, bytes]) -> None:
    """Where the site has a code for it."""
    code = Code("https://clinic.example/fhir/visit-type", "PRE")
    site = f'[[encounters.preparation]]\nsystem = "{code.system}"\ncode = "{code.code}"\ndisplay = "Pre-group"\n'
    mappings = parse(mapping_files | {"sites/clinic.toml": site.encode()}, "clinic")
    course = only_course([encounter("e-0", week(-1), types=[code]), *sessions(1)], mappings)
    assert [(SessionKind.PREPARATION, None), (SessionKind.SESSION, 1)] == [(s.kind, s.number) for s in course.sessions]
    assert 1 == course.held
