"""Plays a story: from the assessment over weekly sessions to where the story ends, as a chart's events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from service.sandbox.encounters import EVALUATION, IPT, PSYCHOTHERAPY_45, PSYCHOTHERAPY_60, Visit
from service.sandbox.events import Chart, at_clinic
from service.sandbox.responses import AUDIT, GAD_7, PHQ_9, Response, Scale, spread
from service.sandbox.stories import Archetype, Story
from service.sandbox.themes import ALCOHOL, ENDING_TASKS, INITIAL_TASKS, MIDDLE_TASKS, THEMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

_WEEK = timedelta(weeks=1)
_MONTH = timedelta(weeks=4)
_LAST_SESSIONS = 3
"""How many sessions the ending phase has."""
_MINUTES = (45, 47, 50, 53, 55)
_GENERAL_CODE = 0.15
"""Share of sessions that are coded as general psychotherapy."""
_TELEHEALTH = 0.25
_RESCHEDULED = 0.1
_AMENDED = 0.2
"""Share of patients who correct an answer once."""
_THURSDAY = 3


@dataclass(frozen=True, slots=True)
class Slot:
    """A weekly appointment and what becomes of it."""

    day: date
    outcome: str
    """`held`, `cancelled`, `no-show` or `booked`."""
    number: int | None = None
    """Place among the held sessions, from 1."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays."""

    patient_id: str
    practitioner: str
    """Id of the practitioner."""
    clock: time
    """When the patient's appointments begin."""

    @property
    def therapist(self) -> str:
        """The practitioner's reference."""
        return f"Practitioner/{self.practitioner}"

    @property
    def patient(self) -> str:
        """The patient's reference."""
        return f"Patient/{self.patient_id}"

    def visit(self, name: str, code: dict[str, str], *, telehealth: bool = False) -> Visit:
        """Return an encounter of the two."""
        return Visit(
            f"{self.patient_id}-{name}",
            self.patient_id,
            self.practitioner,
            code,
            condition=f"{self.patient_id}-c1",
            telehealth=telehealth,
        )

    def response(self, name: str, authored: datetime, author: str, encounter: str | None = None) -> Response:
        """Return a response about the patient."""
        return Response(f"{self.patient_id}-{name}", self.patient_id, author, authored, encounter)


def play(story: Story, cast: Cast, rng: Random, today: date) -> Chart:
    """Return the chart of a patient whose story has come as far as the day before `today`."""
    chart = Chart()
    slots = list(_slots(story, rng, today))
    totals = {
        "phq-9": _course_of(story.phq_9, story.held, rng),
        "gad-7": _course_of(story.gad_7, story.held, rng),
    }
    booked_at = _assess(story, cast, rng, chart, slots[0].day - _WEEK, totals)
    amended_at = rng.randint(2, story.held) if story.held > 1 and rng.random() < _AMENDED else None
    for index, slot in enumerate(slots):
        code = _code(slot, rng)
        visit = cast.visit(f"e{index + 1}", code, telehealth=rng.random() < _TELEHEALTH)
        start = at_clinic(slot.day, cast.clock)
        if slot.outcome == "held" and slot.day.weekday() < _THURSDAY and rng.random() < _RESCHEDULED:
            chart.write(visit.planned(start), booked_at)
            booked_at, start = start - timedelta(days=2), start + timedelta(days=1)
        chart.write(visit.planned(start), booked_at)
        if slot.number is not None:
            _hold(story, cast, rng, chart, visit, start, slot.number, totals, amended=slot.number == amended_at)
            booked_at = start + timedelta(minutes=62)
        elif slot.outcome == "cancelled":
            chart.write(visit.cancelled(start), start - timedelta(hours=20))
            booked_at = start - timedelta(hours=19)
        elif slot.outcome == "no-show":
            chart.write(visit.missed(start), start + timedelta(minutes=30))
            booked_at = start + timedelta(minutes=40)
    return chart


def _slots(story: Story, rng: Random, today: date) -> Iterator[Slot]:
    """The appointments, so placed that the last one but a booked one is in the past."""
    missed = list(story.missed)
    outcomes: list[tuple[str, timedelta]] = []
    for number in range(story.held + story.maintenance + 1):
        if number:
            outcomes.append(("held", _WEEK if number <= story.held else _MONTH))
        outcomes += [(outcome, _WEEK) for after, outcome in missed if after == number]
    weekday = rng.randrange(5)
    back = timedelta(days=(today.weekday() - 1 - weekday) % 7 + 1) + story.weeks_since * _WEEK
    day = today - back - sum((gap for _, gap in outcomes[1:]), timedelta())
    number = 0
    for place, (outcome, gap) in enumerate(outcomes):
        day += gap if place else timedelta()
        number += outcome == "held"
        yield Slot(day, outcome, number if outcome == "held" else None)
    if story.weeks_since == 0:
        yield Slot(day + (_MONTH if story.maintenance else _WEEK), "booked")


def _code(slot: Slot, rng: Random) -> dict[str, str]:
    if slot.number in {None, 1} or rng.random() >= _GENERAL_CODE:
        return IPT
    return rng.choice((PSYCHOTHERAPY_45, PSYCHOTHERAPY_60))


def _course_of(points: Sequence[int], held: int, rng: Random) -> list[int]:
    """Totals at the assessment and at each session, between the story's points, one up or down at random."""
    totals = []
    for place in range(held + 1):
        where = place / held * (len(points) - 1) if held else 0.0
        before = min(int(where), len(points) - 1)
        after = min(before + 1, len(points) - 1)
        total = round(points[before] + (points[after] - points[before]) * (where - before))
        totals.append(total + rng.choice((-1, 0, 0, 1)) if 0 < place < held else total)
    return [max(total, 0) for total in totals]


def _assess(
    story: Story, cast: Cast, rng: Random, chart: Chart, day: date, totals: dict[str, list[int]]
) -> datetime:
    """Write the evaluation with its measures and the first part of the assessment form; return when it is over."""
    start = at_clinic(day, cast.clock)
    visit = cast.visit("e0", EVALUATION)
    chart.write(visit.finished(start, 60), start + timedelta(minutes=61))
    _measure(story, cast, rng, chart, visit, start, 0, totals)
    answers: dict[str, Any] = {"diagnosis-documented": True}
    if story.formulated_at is not None:
        answers["interpersonal-inventory"] = True
    written = start + timedelta(minutes=65)
    chart.write(cast.response("a1", written, cast.therapist, visit.reference).form("assessment", answers), written)
    return start + timedelta(minutes=70)


def _hold(  # noqa: PLR0913 - one session is told by all of these
    story: Story,
    cast: Cast,
    rng: Random,
    chart: Chart,
    visit: Visit,
    start: datetime,
    number: int,
    totals: dict[str, list[int]],
    *,
    amended: bool,
) -> None:
    """Write one held session: its measures, its encounter as it goes on, its form."""
    if number <= story.held:
        _measure(story, cast, rng, chart, visit, start, number, totals, amended=amended)
    chart.write(visit.in_progress(start), start + timedelta(minutes=1))
    minutes = rng.choice(_MINUTES)
    chart.write(visit.finished(start, minutes), start + timedelta(minutes=minutes + 1))
    written = start + timedelta(minutes=minutes + 5)
    form = cast.response(f"s{number}", written, cast.therapist, visit.reference)
    chart.write(form.form("session", _session_answers(story, rng, number)), written)
    if number == story.formulated_at:
        written += timedelta(minutes=2)
        form = cast.response("a2", written, cast.therapist, visit.reference)
        chart.write(form.form("assessment", _formulation(story)), written)
    if number == story.held and story.decision is not None:
        written += timedelta(minutes=2)
        form = cast.response("z1", written, cast.therapist, visit.reference)
        chart.write(form.form("ending", _ending_answers(story)), written)


def _measure(  # noqa: PLR0913 - as _hold
    story: Story,
    cast: Cast,
    rng: Random,
    chart: Chart,
    visit: Visit,
    start: datetime,
    number: int,
    totals: dict[str, list[int]],
    *,
    amended: bool = False,
) -> None:
    """Write what the patient answers while waiting."""
    written = start - timedelta(minutes=10)
    phq_9 = cast.response(f"p{number}", written, cast.patient, visit.reference)
    self_harm = story.self_harm if number == story.held else 0
    points = [*spread(totals["phq-9"][number] - self_harm, PHQ_9.highest[:-1], rng), self_harm]
    if amended:
        chart.write(phq_9.scored(PHQ_9, _slipped(points)), written)
        chart.write(phq_9.scored(PHQ_9, points, status="amended"), written + timedelta(hours=3))
    else:
        chart.write(_phq_9(story, phq_9, points, number), written)
    gad_7 = cast.response(f"g{number}", written, cast.patient, visit.reference)
    chart.write(gad_7.scored(GAD_7, _points(GAD_7, totals["gad-7"][number], rng)), written + timedelta(minutes=3))
    if story.audit and number in {0, story.held // 2, story.held}:
        total = story.audit[0 if number == 0 else 1 if number < story.held else -1]
        audit = cast.response(f"u{number}", written, cast.patient, visit.reference)
        chart.write(audit.scored(AUDIT, _points(AUDIT, total, rng)), written + timedelta(minutes=6))


def _phq_9(story: Story, response: Response, points: list[int], number: int) -> dict[str, Any]:
    """A PHQ-9 as the story has it: with a wrong total, a gap or a contradiction where that is the story."""
    if story.archetype is Archetype.WRONG_TOTAL and number == story.held:
        return response.scored(PHQ_9, points, stated=sum(points) + 3)
    if story.archetype is Archetype.ITEM_UNANSWERED and number == story.held:
        return response.scored(PHQ_9, [*points[:-1], None])
    if story.archetype is Archetype.ODD_RECORDS and number == story.held:
        return response.scored(PHQ_9, points, ordinals={0: (points[0] + 1) % 4})
    return response.scored(PHQ_9, points)


def _slipped(points: list[int]) -> list[int]:
    """The same answers with a slip in the first."""
    return [points[0] + 1 if points[0] == 0 else points[0] - 1, *points[1:]]


def _points(scale: Scale, total: int, rng: Random) -> list[int]:
    return spread(total, scale.highest, rng)


def _session_answers(story: Story, rng: Random, number: int) -> dict[str, Any]:
    theme = THEMES[story.focus]
    coping, steps = theme.coping, theme.next_steps
    if story.audit:
        coping, steps = coping + ALCOHOL.coping, steps + ALCOHOL.next_steps
    formulated = story.formulated_at is not None and number > story.formulated_at
    if not formulated:
        task = INITIAL_TASKS[(number - 1) % len(INITIAL_TASKS)]
        return {"phase-task": [f"phase-task/{task}"], "technique": ["technique/expression-of-affect"]}
    if number > story.planned - _LAST_SESSIONS:
        tasks: tuple[str, ...] = (rng.choice(ENDING_TASKS),)
    else:
        tasks = (rng.choice(MIDDLE_TASKS), rng.choice(theme.tasks))
    answers: dict[str, Any] = {
        "worked-on": [f"focus-area/{story.focus}"],
        "phase-task": [f"phase-task/{task}" for task in tasks],
        "pattern": [f"pattern/{rng.choice(theme.patterns)}"],
        "technique": [f"technique/{code}" for code in rng.sample(theme.techniques, 2)],
        "coping-strategy": [f"coping-strategy/{rng.choice(coping)}"],
    }
    if story.stage is not None:
        answers["dispute-stage"] = f"dispute-stage/{story.stage}"
    return answers | {"next-step": [f"next-step/{rng.choice(steps)}"]}


def _formulation(story: Story) -> dict[str, Any]:
    goals = THEMES[story.focus].goals + (ALCOHOL.goals if story.audit else ())
    answers: dict[str, Any] = {"primary-focus-area": f"focus-area/{story.focus}"}
    if story.focus == "role-dispute":
        answers["secondary-focus-area"] = ["focus-area/communication-patterns"]
    if story.stage is not None:
        answers["dispute-stage"] = f"dispute-stage/{story.stage}"
    return answers | {
        "formulation": True,
        "agreement": True,
        "planned-sessions": story.planned,
        "goal": [f"patient-goal/{goal}" for goal in goals],
    }


def _ending_answers(story: Story) -> dict[str, Any]:
    gains = THEMES[story.focus].gains
    return {
        "gain": [f"gain/{gain}" for gain in gains],
        "relapse-prevention-plan": True,
        "decision": f"decision/{story.decision}",
    }
