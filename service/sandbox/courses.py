"""Plays a story: from the assessment over weekly sessions to where the story ends, as a chart's events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from service.sandbox.encounters import CRISIS, EVALUATION, GROUP, IPT, PSYCHOTHERAPY_45, PSYCHOTHERAPY_60, Visit
from service.sandbox.events import Chart, at_clinic
from service.sandbox.responses import AUDIT, GAD_7, PHQ_9, SCALES, Response, filled_in, spread
from service.sandbox.stories import Archetype, Story
from service.sandbox.themes import assessed, concluded, formulated, rechosen, refocused, worked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime, time
    from random import Random

    from service.sandbox.events import Resource

_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_WEEK = timedelta(weeks=1)
_MONTH = timedelta(weeks=4)
_MINUTES = (45, 47, 50, 53, 55)
_GENERAL_CODE = 0.15
"""Share of sessions that are coded as general psychotherapy."""
_TELEHEALTH = 0.25
_RESCHEDULED = 0.1
_AMENDED = 0.35
"""Share of patients who correct an answer once."""
_FEW = 4
"""With fewer sessions nothing is corrected."""
_THURSDAY = 3
_ODD_DURATION = 3
"""Number of the session that was closed too late, where records are odd."""
_FORGOTTEN = 26 * 60
"""Length in minutes of an encounter that nobody closed until the next day."""
_ODD_DAY = 4
"""Number of the session on whose day a second encounter was held, where records are odd."""


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
    chart = Chart(labels=tuple([{"system": _ACT_CODE, "code": label} for label in story.labels]))
    slots = list(_slots(story, rng, today))
    course = _Course(
        story, cast, rng, chart, _totals(story.phq_9, story.held, rng), _totals(story.gad_7, story.held, rng)
    )
    booked_at = course.assess(at_clinic(slots[0].day - _WEEK, cast.clock))
    amended_at = 2 if story.archetype is Archetype.CORRECTED else _maybe_amended(story, rng)
    for index, slot in enumerate(slots):
        visit = cast.visit(f"e{index + 1}", _code(slot, story, rng), telehealth=rng.random() < _TELEHEALTH)
        start = at_clinic(slot.day, cast.clock)
        if slot.outcome == "held" and slot.day.weekday() < _THURSDAY and rng.random() < _RESCHEDULED:
            chart.write(visit.planned(start), booked_at)
            booked_at, start = start - timedelta(days=2), start + timedelta(days=1)
        chart.write(visit.planned(start), booked_at)
        if slot.number is not None:
            course.hold(visit, start, slot.number, amended=slot.number == amended_at)
            booked_at = start + timedelta(minutes=62)
        elif slot.outcome == "cancelled":
            chart.write(visit.cancelled(start), start - timedelta(hours=20))
            booked_at = start - timedelta(hours=19)
            if story.archetype is Archetype.ODD_RECORDS:
                course.write_form_of_cancelled(visit, start)
        elif slot.outcome == "no-show":
            chart.write(visit.missed(start), start + timedelta(minutes=30))
            booked_at = start + timedelta(minutes=40)
    if story.archetype is Archetype.CORRECTED:
        course.take_back(at_clinic(slots[0].day - _WEEK, cast.clock))
    return chart


def _maybe_amended(story: Story, rng: Random) -> int | None:
    if story.held < _FEW or rng.random() >= _AMENDED:
        return None
    return rng.randint(2, story.held - 1)


def _slots(story: Story, rng: Random, today: date) -> Iterator[Slot]:
    """The appointments, so placed that the last one but a booked one is in the past."""
    outcomes: list[tuple[str, timedelta]] = []
    for number in range(story.held + story.after_end + story.maintenance + 1):
        if number:
            outcomes.append(("held", _WEEK if number <= story.held + story.after_end else _MONTH))
        outcomes += [(outcome, _WEEK) for after, outcome in story.missed if after == number]
    weekday = rng.randrange(5)
    back = timedelta(days=(today.weekday() - 1 - weekday) % 7 + 2) + story.weeks_since * _WEEK
    day = today - back - sum((gap for _, gap in outcomes[1:]), timedelta())
    held = 0
    for place, (outcome, gap) in enumerate(outcomes):
        day += gap if place else timedelta()
        held += outcome == "held"
        yield Slot(day, outcome, held if outcome == "held" else None)
    if story.weeks_since == 0 or not outcomes:
        yield Slot(day + (_MONTH if story.maintenance else _WEEK), "booked")


def _code(slot: Slot, story: Story, rng: Random) -> dict[str, str]:
    if story.prepared:
        return GROUP
    if slot.number in {None, 1} or rng.random() >= _GENERAL_CODE:
        return IPT
    return rng.choice((PSYCHOTHERAPY_45, PSYCHOTHERAPY_60))


def _totals(points: Sequence[int], held: int, rng: Random) -> list[int]:
    """Totals at the assessment and at each session, between the story's points, one up or down at random."""
    totals = []
    for place in range(held + 1):
        where = place / held * (len(points) - 1) if held else 0.0
        before = min(int(where), len(points) - 1)
        after = min(before + 1, len(points) - 1)
        total = round(points[before] + (points[after] - points[before]) * (where - before))
        totals.append(max(total + rng.choice((-1, 0, 0, 1)), 0) if 0 < place < held else total)
    return totals


@dataclass(frozen=True, slots=True)
class _Course:
    """A story being played: what happens in it goes into the chart."""

    story: Story
    cast: Cast
    rng: Random
    chart: Chart
    phq_9: list[int]
    """Totals at the assessment and at each session."""
    gad_7: list[int]

    def assess(self, start: datetime) -> datetime:
        """Write the evaluation with its measures and the first part of the assessment; return when it is over."""
        visit = replace(self.cast.visit("e0", EVALUATION), reason=self.story.reason)
        self._measure(visit, start, 0)
        self.chart.write(visit.finished(start, 60), start + timedelta(minutes=61))
        written = start + timedelta(minutes=65)
        form = self.cast.response("a1", written, self.cast.therapist, visit.reference)
        self.chart.write(form.form("assessment", assessed(self.story)), written)
        if self.story.prepared:
            meeting = self.cast.visit("e-before", IPT)
            later = start + timedelta(days=2)
            self.chart.write(meeting.finished(later, 50), later + timedelta(minutes=51))
        return start + timedelta(minutes=70)

    def hold(self, visit: Visit, start: datetime, number: int, *, amended: bool) -> None:
        """Write one held session: its measures, its encounter as it goes on, its forms."""
        if number <= self.story.held:
            self._measure(visit, start, number, amended=amended)
        self.chart.write(visit.in_progress(start), start + timedelta(minutes=1))
        minutes = self.rng.choice(_MINUTES)
        odd = self.story.archetype is Archetype.ODD_RECORDS
        lasted = _FORGOTTEN if odd and number == _ODD_DURATION else minutes
        self.chart.write(visit.finished(start, lasted), start + timedelta(minutes=lasted + 1))
        if odd and number == _ODD_DAY:
            second = self.cast.visit("e-second", PSYCHOTHERAPY_45)
            later = start + timedelta(hours=2)
            self.chart.write(second.finished(later, 45), later + timedelta(minutes=46))
        if self.story.archetype is Archetype.CRISIS and number == self.story.held:
            contact = self.cast.visit("e-crisis", CRISIS)
            later = start + timedelta(hours=3)
            self.chart.write(contact.finished(later, 60), later + timedelta(minutes=61))
        self._write_forms(visit, start + timedelta(minutes=minutes + 5), number)

    def write_form_of_cancelled(self, visit: Visit, start: datetime) -> None:
        """Write a session form of an encounter that was called off."""
        form = self.cast.response("s-cancelled", start, self.cast.therapist, visit.reference)
        self.chart.write(form.form("session", worked(self.story, self.rng, 1)), start + timedelta(minutes=50))

    def take_back(self, near: datetime) -> None:
        """Write what does not belong to the patient, and take it back: a measure, a visit, a booking."""
        later = near + timedelta(days=1)
        wrong = self.cast.response("p-wrong", near, self.cast.patient)
        points = spread(24, PHQ_9.highest, self.rng)
        self.chart.write(wrong.scored(PHQ_9, points), near + timedelta(minutes=90))
        self.chart.write(wrong.scored(PHQ_9, points, status="entered-in-error"), later)
        visit = self.cast.visit("e-wrong", IPT)
        start = near + timedelta(days=2)
        self.chart.write(visit.finished(start, 45), start + timedelta(minutes=46))
        self.chart.write(visit.entered_in_error(start), start + timedelta(hours=3))
        booking = self.cast.visit("e-deleted", IPT)
        self.chart.write(booking.planned(near + timedelta(days=9)), near + timedelta(minutes=95))
        self.chart.delete("Encounter", booking.encounter_id, later)

    def _write_forms(self, visit: Visit, written: datetime, number: int) -> None:
        forms = [("session", f"s{number}", worked(self.story, self.rng, number))]
        if number == self.story.formulated_at:
            forms.append(("assessment", "a2", formulated(self.story)))
        if self.story.changed is not None and number == self.story.changed[0]:
            forms.append(("assessment", "a3", rechosen(self.story)))
        if self.story.refocused is not None and number == self.story.refocused[0]:
            forms.append(("assessment", "a-focus", refocused(self.story)))
        if number == self.story.held and self.story.decision is not None:
            forms.append(("ending", "z1", concluded(self.story)))
        for place, (kind, name, answers) in enumerate(forms):
            at = written + timedelta(minutes=2 * place)
            form = self.cast.response(name, at, self.cast.therapist, visit.reference)
            self.chart.write(form.form(kind, answers), at)

    def _measure(self, visit: Visit, start: datetime, number: int, *, amended: bool = False) -> None:
        """Write what the patient answers while waiting."""
        written = start - timedelta(minutes=10)
        phq_9 = self.cast.response(f"p{number}", written, self.cast.patient, visit.reference)
        self_harm = self.story.self_harm if number == self.story.held else 0
        points = [*spread(self.phq_9[number] - self_harm, PHQ_9.highest[:-1], self.rng), self_harm]
        if amended:
            self.chart.write(phq_9.scored(PHQ_9, _slipped(points)), written)
            self.chart.write(phq_9.scored(PHQ_9, points, status="amended"), written + timedelta(hours=3))
        else:
            self.chart.write(self._phq_9(phq_9, points, number), written)
        gad_7 = self.cast.response(f"g{number}", written, self.cast.patient, visit.reference)
        points = spread(self.gad_7[number], GAD_7.highest, self.rng)
        self.chart.write(gad_7.scored(GAD_7, points), written + timedelta(minutes=3))
        taken_at = (0, self.story.held // 2, self.story.held)
        if self.story.audit and number in taken_at:
            total = self.story.audit[taken_at.index(number)]
            audit = self.cast.response(f"u{number}", written, self.cast.patient, visit.reference)
            points = spread(total, AUDIT.highest, self.rng)
            self.chart.write(audit.scored(AUDIT, points), written + timedelta(minutes=6))
        for name, totals in self.story.instruments:
            if number in taken_at:
                total = totals[taken_at.index(number)]
                response = self.cast.response(f"{name}-{number}", written, self.cast.patient, visit.reference)
                answers = filled_in(SCALES[name], total, self.rng)
                self.chart.write(response.scored(SCALES[name], answers, stated=total), written + timedelta(minutes=9))

    def _phq_9(self, response: Response, points: list[int], number: int) -> Resource:
        """The last one has a wrong total, a gap or a contradiction where that is the story."""
        last = number == self.story.held
        if last and self.story.archetype is Archetype.WRONG_TOTAL:
            return response.scored(PHQ_9, points, stated=sum(points) + 3)
        if last and self.story.archetype is Archetype.ITEM_UNANSWERED:
            return response.scored(PHQ_9, [*points[:-1], None])
        if last and self.story.archetype is Archetype.ODD_RECORDS:
            return response.scored(PHQ_9, points, ordinals={0: (points[0] + 1) % 4})
        return response.scored(PHQ_9, points)


def _slipped(points: list[int]) -> list[int]:
    """The same answers with a slip in the first."""
    return [points[0] + 1 if points[0] == 0 else points[0] - 1, *points[1:]]
