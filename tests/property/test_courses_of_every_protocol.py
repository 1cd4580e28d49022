"""What holds of a course by any protocol: sessions counted once, phases that don't go back, an end that stands."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from service.decisions import decide, revise
from service.domain.course import Phase, SessionKind, SessionState
from service.domain.facts import PatientKey
from service.domain.projection import project
from service.sandbox.patients import PERIOD
from tests.history import encounter, phq9, session_form
from tests.property.strategies import START, patients
from tests.synthetic import facts_of

if TYPE_CHECKING:
    from service.domain.course import Course
    from service.domain.facts import Fact
    from service.domain.mappings import Mappings
    from service.remembered import Standing
    from service.sandbox.patients import SyntheticPatient

END = datetime.combine(START + PERIOD, time(), UTC)
PLACES = {phase: place for place, phase in enumerate(Phase)}


def key_of(patient: SyntheticPatient) -> PatientKey:
    """Return the key under which the patient's facts are kept."""
    return PatientKey("main", patient.patient_id)


def courses_of(patient: SyntheticPatient, mappings: Mappings) -> tuple[Course, ...]:
    """Return the patient's courses once the story is over."""
    return project(key_of(patient), facts_of(patient.events, mappings), END, mappings).courses


@given(patient=patients())
def test_no_session_is_counted_twice(patient: SyntheticPatient, mappings: Mappings) -> None:
    """Numbers run from one without a gap, and no encounter or form stands in two sessions of any course."""
    courses = courses_of(patient, mappings)
    for course in courses:
        numbers = [session.number for session in course.sessions if session.number is not None]
        assert list(range(1, course.held + 1)) == numbers
    sessions = [session for course in courses for session in course.sessions]
    for told in ([e for s in sessions for e in s.encounters], [f for s in sessions for f in s.forms]):
        assert len(told) == len(set(told))
    for session in sessions:
        counts = session.state is SessionState.HELD and session.kind is SessionKind.SESSION
        assert (session.number is not None) == (counts and not session.after_end)


@given(patient=patients())
def test_a_phase_that_goes_back_says_why(patient: SyntheticPatient, mappings: Mappings) -> None:
    """However the story is cut up: week by week each course goes forward, or its history has a reason."""
    standing: dict[str, Standing] = {}
    for week in range(0, PERIOD.days, 7):
        as_of = datetime.combine(START + timedelta(days=week), time(), UTC)
        known = facts_of([event for event in patient.events if event.time <= as_of], mappings)
        projection = project(key_of(patient), known, as_of, mappings)
        decided = revise(projection, standing, ("week",), mappings)
        if decided is None:
            decided = decide(projection, (), ("week",), mappings)
        for update in decided.update.courses:
            before = standing.get(update.course_id)
            back = before is not None and PLACES[Phase(update.phase)] < PLACES[before.phase]
            assert back == (update.reason is not None and before is not None)
        standing = dict(decided.courses)


def later(end: datetime, days: int) -> list[Fact]:
    """Return a session with its form, and a measure, so many days after the end."""
    start = end + timedelta(days=days)
    return [
        encounter("after", start),
        session_form("after-form", start + timedelta(hours=1), of="after"),
        phq9("after-measure", start, 24),
    ]


@given(patient=patients(), days=st.integers(1, 120))
def test_what_comes_after_the_end_changes_no_outcome_silently(
    patient: SyntheticPatient, days: int, mappings: Mappings
) -> None:
    """Count, phase, end, change and outcome stay; the session is shown, and a finding says so."""
    facts = list(facts_of(patient.events, mappings))
    as_of = END + timedelta(days=200)
    before = project(key_of(patient), facts, as_of, mappings).courses
    ended = [course for course in before if course.closed is not None]
    if not ended or ended[-1] is not before[-1]:
        return
    end = datetime.combine(max(ended[-1].closed or START, END.date()), time(12), UTC)
    after = project(key_of(patient), [*facts, *later(end, days)], as_of, mappings).courses
    for old in ended:
        (new,) = [course for course in after if course.id == old.id]
        assert (old.held, old.phase, old.closed, old.ending) == (new.held, new.phase, new.closed, new.ending)
        assert (old.changes, old.outcome, old.focus_areas) == (new.changes, new.outcome, new.focus_areas)
        added = [session for session in new.sessions if "after" in session.encounters]
        rules = {(finding.rule, fact) for finding in new.findings for fact in finding.facts}
        assert all(session.after_end and session.number is None for session in added)
        assert bool(added) == (("course.session-after-end", "Encounter/after") in rules)
