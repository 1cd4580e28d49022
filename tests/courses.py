"""Courses by hand: every state that a plan has to tell of, without facts or projection."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from service.domain.course import (
    Change,
    Course,
    Decision,
    Documented,
    Ending,
    Finding,
    FocusArea,
    Measure,
    PatientGoal,
    Phase,
    PlannedSession,
    Session,
    SessionKind,
    SessionState,
    Severity,
    WellBeing,
    course_id,
)
from service.domain.facts import PatientKey

FIRST_SESSION = datetime(2026, 1, 6, 9, 0, tzinfo=UTC)

_RATED = (date(2026, 1, 6), date(2026, 3, 3), "QuestionnaireResponse/a", "QuestionnaireResponse/f-9")
SAFETY = Finding(
    id="safety.self-harm-item/x",
    rule="safety.self-harm-item",
    version=1,
    severity=Severity.CRITICAL,
    raised=date(2026, 3, 4),
    due=date(2026, 3, 4),
    values=(("instrument", "phq-9"), ("on", "2026-03-04"), ("item", 9)),
    facts=("QuestionnaireResponse/x",),
    source="kroenke-2001",
)
"""Of an answer about self-harm: a plan with it has a Task and a Flag."""


def session(place: int, **fields: Any) -> Session:  # noqa: ANN401 - any field of a session
    """Return a held session of 50 minutes: the one of this place, from 1, each a week after the one before it."""
    defaults: dict[str, Any] = {
        "state": SessionState.HELD,
        "kind": SessionKind.SESSION,
        "start": FIRST_SESSION + timedelta(weeks=place - 1),
        "number": place,
        "phase": Phase.INITIAL if place <= 3 else Phase.MIDDLE,
        "minutes": 50,
        "encounters": (f"e-{place}",),
        "forms": (),
        "telehealth": False,
        "group": False,
        "worked_on": (),
        "patterns": (),
        "techniques": (),
        "coping": (),
        "next_steps": (),
    }
    return Session(**(defaults | fields))


def not_held(place: int, state: SessionState, **fields: Any) -> Session:  # noqa: ANN401 - any field of a session
    """Return a session that did not take place, in the week of session `place`."""
    return session(place, state=state, number=None, phase=None, **fields)


def measure(instrument: str, week: int, total: int | None, **fields: Any) -> Measure:  # noqa: ANN401 - any field of a measure
    """Return a measure taken in a week of the course, the first being week 0."""
    defaults: dict[str, Any] = {
        "instrument": instrument,
        "taken": FIRST_SESSION + timedelta(weeks=week),
        "total": total,
        "stated_total": None,
        "items": (),
        "band": None,
        "safety": None,
        "safety_unanswered": False,
        "contradicted": (),
        "fact": f"QuestionnaireResponse/{instrument}-{week}",
    }
    return Measure(**(defaults | fields))


def change(instrument: str, first: int, latest: int, *, weeks: int = 8, reliable: int = 0) -> Change:
    """Return a change between week 0 and another."""
    return Change(
        instrument=instrument,
        first=first,
        latest=latest,
        first_on=FIRST_SESSION.date(),
        latest_on=FIRST_SESSION.date() + timedelta(weeks=weeks),
        reliable=reliable,
        percent=100 * (first - latest) // first if first else 0,
        first_fact=f"QuestionnaireResponse/{instrument}-0",
        latest_fact=f"QuestionnaireResponse/{instrument}-{weeks}",
    )


def finding(
    rule: str,
    severity: Severity,
    raised: date,
    *,
    due: date | None = None,
    facts: tuple[str, ...] = (),
    **values: str | float,
) -> Finding:
    """Return a finding with these values."""
    return Finding(f"{rule}-{raised}", rule, 1, severity, raised, due, tuple(values.items()), facts, "design")


def ending(decision: Decision) -> Ending:
    """Return an ending form's statement, written with the twelfth session."""
    return Ending(
        date(2026, 3, 24),
        decision,
        ("expresses-needs",),
        relapse_prevention_plan=True,
        fact="QuestionnaireResponse/end",
    )


def course(patient: str = "p-12", **fields: Any) -> Course:  # noqa: ANN401 - any field of a course
    """Return a course in its middle phase: nine sessions of twelve held, a dispute at an impasse, no improvement."""
    worked = {"worked_on": ("role-dispute",), "techniques": ("communication-analysis",), "forms": ("f-4",)}
    sessions = [session(number) for number in range(1, 10)]
    sessions[3] = session(4, **worked)
    sessions[4] = session(
        5,
        techniques=("communication-analysis", "role-play"),
        techniques_at_home=("role-play",),
        patterns=("withdraws-from-conflict",),
        effects=("lower-mood",),
        coping=("activity-instead-of-drinking",),
    )
    sessions[8] = session(
        9,
        next_steps=("practise-conversation",),
        coping=("activity-instead-of-drinking",),
        maladaptive_coping=("avoidance",),
        coping_trend="less",
    )
    defaults: dict[str, Any] = {
        "id": course_id(PatientKey("main", patient), "Encounter/e-1"),
        "source": "main",
        "patient_id": patient,
        "anchor": "Encounter/e-1",
        "protocol": "adult-standard",
        "phase": Phase.MIDDLE,
        "opened": FIRST_SESSION.date(),
        "closed": None,
        "planned_sessions": 12,
        "planned_sessions_agreed": True,
        "held": 9,
        "sessions": (
            *sessions[:6],
            not_held(6, SessionState.NO_SHOW, start=FIRST_SESSION + timedelta(weeks=5, days=2), encounters=("e-6a",)),
            *sessions[6:],
            not_held(10, SessionState.PLANNED),
        ),
        "documented": tuple(
            Documented(task, date(2026, 1, day), f"QuestionnaireResponse/{'ab'[day > 6]}")
            for task, day in (
                ("diagnosis-documented", 6),
                ("interpersonal-inventory", 13),
                ("primary-focus-area", 13),
                ("agreement", 20),
            )
        ),
        "focus_areas": (
            FocusArea("role-dispute", True, date(2026, 1, 13), "impasse", "QuestionnaireResponse/a"),  # noqa: FBT003 - the primary one
            FocusArea("communication-patterns", False, date(2026, 1, 13), None, "QuestionnaireResponse/a"),  # noqa: FBT003 - a secondary one
        ),
        "goals": (PatientGoal("express-needs", date(2026, 1, 13), "QuestionnaireResponse/a"),),
        "measures": (
            measure("phq-9", 0, 17),
            measure("gad-7", 0, 11),
            measure("phq-9", 8, 17),
            measure("gad-7", 8, 9),
        ),
        "changes": (change("gad-7", 11, 9), change("phq-9", 17, 17)),
        "ending": None,
        "findings": (
            finding(
                "review.firm",
                Severity.WARNING,
                date(2026, 2, 24),
                due=date(2026, 3, 3),
                facts=("Encounter/e-8", "QuestionnaireResponse/phq-9-0", "QuestionnaireResponse/phq-9-8"),
                instrument="PHQ-9",
                first=17,
                latest=17,
                by="session 8",
                threshold=25,
            ),
        ),
        "projected_end": date(2026, 3, 24),
        "practitioners": ("Practitioner/t-1",),
        "conditions": (),
        "encounters": 11,
        "responses": 6,
        "labels": (),
        "planned": (
            PlannedSession(10, date(2026, 3, 10), "communication-patterns", "express-needs", "e-10"),
            PlannedSession(11, date(2026, 3, 17), "role-dispute", "express-needs"),
            PlannedSession(12, date(2026, 3, 24), "communication-patterns", "express-needs"),
        ),
        "well_being": (
            WellBeing("function", "poor", "fair", *_RATED),
            WellBeing("support", "fair", "fair", *_RATED),
        ),
    }
    return Course(**(defaults | fields))


def states() -> dict[str, Course]:
    """Return a course in each state that it can be in, by a name for it."""
    middle = course()
    return {
        "assessment-pending": replace(
            middle,
            phase=Phase.ASSESSMENT_PENDING,
            held=0,
            sessions=(not_held(1, SessionState.PLANNED),),
            planned_sessions=16,
            planned_sessions_agreed=False,
            documented=(),
            planned=(),
            well_being=(),
            focus_areas=(),
            goals=(),
            measures=(),
            changes=(),
            findings=(),
            projected_end=None,
            practitioners=(),
            encounters=1,
            responses=0,
        ),
        "initial": replace(
            middle,
            phase=Phase.INITIAL,
            held=1,
            sessions=(
                session(
                    1,
                    kind=SessionKind.ASSESSMENT,
                    number=None,
                    phase=None,
                    encounters=("e-0",),
                    start=FIRST_SESSION - timedelta(days=7),
                ),
                session(1, telehealth=True, minutes=None),
                not_held(2, SessionState.IN_PROGRESS),
            ),
            planned_sessions=16,
            planned_sessions_agreed=False,
            documented=middle.documented[:1],
            planned=(PlannedSession(2, date(2026, 1, 13), encounter="e-2"),),
            well_being=(),
            focus_areas=(),
            goals=(),
            measures=(measure("phq-9", 0, 22, safety=2), measure("gad-7", 0, None)),
            changes=(change("phq-9", 22, 22, weeks=0),),
            findings=(
                finding(
                    "safety.self-harm-item",
                    Severity.CRITICAL,
                    FIRST_SESSION.date(),
                    due=FIRST_SESSION.date(),
                    facts=("QuestionnaireResponse/phq-9-0",),
                    instrument="PHQ-9",
                    item=9,
                    score=2,
                    on="2026-01-06",
                ),
            ),
        ),
        "middle": middle,
        "addiction": replace(
            middle,
            goals=(*middle.goals, PatientGoal("reduce-alcohol-use", date(2026, 1, 13), "QuestionnaireResponse/a")),
            sessions=(
                *middle.sessions[:9],
                replace(
                    middle.sessions[9],
                    maladaptive_coping=("alcohol",),
                    use_since_last="less",
                    addiction_care="under-way",
                ),
                middle.sessions[10],
            ),
            changes=(change("phq-9", 17, 9, reliable=-1), change("audit", 18, 12)),
            findings=(),
        ),
        "ending": replace(
            middle,
            planned=(PlannedSession(12, date(2026, 3, 24), "role-dispute", "express-needs"),),
            phase=Phase.ENDING,
            held=11,
            sessions=(*(session(number) for number in range(1, 12)), not_held(12, SessionState.UNRECORDED)),
            changes=(
                change("phq-9", 17, 6, weeks=10, reliable=-1),
                change("gad-7", 11, 4, weeks=10, reliable=-1),
                change("audit", 12, 9),
            ),
            findings=(
                finding(
                    "change.improvement",
                    Severity.INFO,
                    date(2026, 2, 3),
                    instrument="PHQ-9",
                    first=17,
                    latest=6,
                    threshold=6,
                ),
                finding("ending.due", Severity.INFO, date(2026, 3, 3), remaining=1, planned=12),
            ),
        ),
        "maintenance": replace(
            middle,
            phase=Phase.MAINTENANCE,
            planned=(),
            held=12,
            sessions=tuple(session(number) for number in range(1, 13)),
            ending=ending(Decision.MAINTENANCE),
            findings=(),
            projected_end=None,
        ),
        "closed": replace(
            middle,
            phase=Phase.CLOSED,
            closed=date(2026, 3, 24),
            planned=(),
            held=12,
            sessions=(
                *(session(number) for number in range(1, 13)),
                not_held(13, SessionState.CANCELLED, kind=SessionKind.CRISIS),
            ),
            ending=ending(Decision.END),
            changes=(change("phq-9", 17, 6, weeks=10, reliable=-1), change("gad-7", 11, 12, weeks=10)),
            findings=(),
            projected_end=None,
            conditions=("Condition/c-1",),
        ),
    }
