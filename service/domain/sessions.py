"""Sessions of a course: meetings and session forms joined, and counted once each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from service.domain.course import Session, SessionKind, SessionState
from service.domain.forms import CourseField, FormKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date, datetime

    from service.domain.course import Phase
    from service.domain.evidence import Form, Meeting
    from service.domain.mappings import CourseBounds

_OPEN = frozenset({SessionState.PLANNED, SessionState.IN_PROGRESS})


@dataclass(slots=True)
class Sitting:
    """One session while its meetings and forms are being joined."""

    state: SessionState
    kind: SessionKind
    start: datetime
    meetings: list[Meeting] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    future: bool = False
    """Recorded as held, at a time that has not come."""

    @property
    def day(self) -> date:
        """The calendar day, in the offset in which the sender wrote it."""
        return self.start.date()

    @property
    def order(self) -> tuple[datetime, str]:
        """Sorts sittings the same way whatever came first."""
        return self.start, (self.meetings[0].reference if self.meetings else self.forms[0].reference)

    @property
    def counts(self) -> bool:
        """Whether it is one of the protocol's held sessions."""
        return self.state is SessionState.HELD and self.kind is SessionKind.SESSION


@dataclass(frozen=True, slots=True)
class Sittings:
    """The sittings of a course, by start, and what about them contradicts itself."""

    sittings: tuple[Sitting, ...]
    unheld_forms: tuple[tuple[Form, Sitting], ...]
    """Session forms of encounters that were cancelled or not attended."""


def join(meetings: Iterable[Meeting], forms: Iterable[Form], as_of: datetime, bounds: CourseBounds) -> Sittings:
    """Return the sittings that meetings and session forms tell of.

    Held encounters of one calendar day are one sitting, and take planned ones of that day in. A form
    belongs to the encounter that it names, else to the sitting of its day, else to the last one held
    within `bounds.form_match` days before it; one that fits none is a held sitting by itself.
    """
    sittings = _merged_days(_as_known(meetings, as_of, bounds))
    written = sorted(
        (form for form in forms if form.kind is FormKind.SESSION), key=lambda form: (form.start, form.response)
    )
    unheld: list[tuple[Form, Sitting]] = []
    loose: list[Form] = []
    for form in written:
        named = next((s for s in sittings if form.encounter in {meeting.encounter for meeting in s.meetings}), None)
        if named is None:
            loose.append(form)
        elif named.state in {SessionState.CANCELLED, SessionState.NO_SHOW}:
            unheld.append((form, named))
        else:
            if named.start <= as_of and named.kind is SessionKind.SESSION:
                named.state = SessionState.HELD
            named.forms.append(form)
    sittings = _merged_days(sittings)
    for form in loose:
        fitting = _fitting(form, sittings, bounds)
        if fitting is None:
            fitting = Sitting(SessionState.HELD, SessionKind.SESSION, form.start)
            sittings.append(fitting)
        fitting.forms.append(form)
    return Sittings(tuple(sorted(sittings, key=lambda sitting: sitting.order)), tuple(unheld))


def _as_known(meetings: Iterable[Meeting], as_of: datetime, bounds: CourseBounds) -> list[Sitting]:
    """Each meeting by itself, in the state that it is in as of an instant."""
    unrecorded = timedelta(days=bounds.unrecorded_after.value)
    known = []
    for meeting in meetings:
        state, future = meeting.state, False
        if state is SessionState.HELD and meeting.start > as_of:
            state, future = SessionState.PLANNED, True
        elif state in _OPEN and meeting.start + unrecorded <= as_of:
            state = SessionState.UNRECORDED
        known.append(Sitting(state, meeting.kind, meeting.start, [meeting], future=future))
    return sorted(known, key=lambda sitting: sitting.order)


def _merged_days(sittings: list[Sitting]) -> list[Sitting]:
    """Join the held sessions of a day into its first, with what was planned for that day."""
    held: dict[date, Sitting] = {}
    for sitting in sittings:
        if sitting.counts and sitting.day not in held:
            held[sitting.day] = sitting
    kept = []
    for sitting in sittings:
        first = held.get(sitting.day)
        absorbed = sitting.state in {SessionState.HELD, SessionState.UNRECORDED, *_OPEN} and not sitting.future
        if first is None or first is sitting or sitting.kind is not SessionKind.SESSION or not absorbed:
            kept.append(sitting)
            continue
        first.meetings.extend(sitting.meetings)
        first.forms.extend(sitting.forms)
    return kept


def _fitting(form: Form, sittings: list[Sitting], bounds: CourseBounds) -> Sitting | None:
    held = [sitting for sitting in sittings if sitting.counts]
    same_day = next((sitting for sitting in held if sitting.day == form.start.date()), None)
    if same_day is not None:
        return same_day
    earliest = form.start - timedelta(days=bounds.form_match.value)
    near = [sitting for sitting in held if earliest <= sitting.start <= form.start and not sitting.forms]
    return max(near, key=lambda sitting: sitting.order, default=None)


def numbered(sittings: Iterable[Sitting], phase_of: Callable[[int, date], Phase]) -> tuple[Session, ...]:
    """Return the sessions of a course; held ones numbered from 1, each with the phase it was held in."""
    sessions = []
    held = 0
    for sitting in sittings:
        session = _session(sitting)
        if sitting.counts:
            held += 1
            session = replace(session, number=held, phase=phase_of(held, sitting.day))
        sessions.append(session)
    return tuple(sessions)


def _session(sitting: Sitting) -> Session:
    first = sitting.meetings[0] if sitting.meetings else None
    return Session(
        state=sitting.state,
        kind=sitting.kind,
        start=sitting.start,
        number=None,
        phase=None,
        minutes=first.minutes if first else None,
        encounters=tuple(meeting.encounter for meeting in sitting.meetings),
        forms=tuple(form.response for form in sitting.forms),
        telehealth=any(meeting.telehealth for meeting in sitting.meetings),
        group=any(meeting.group for meeting in sitting.meetings),
        worked_on=_codes(sitting, CourseField.WORKED_ON),
        patterns=_codes(sitting, CourseField.PATTERN),
        techniques=_codes(sitting, CourseField.TECHNIQUE),
        coping=_codes(sitting, CourseField.COPING),
        next_steps=_codes(sitting, CourseField.NEXT_STEP),
    )


def _codes(sitting: Sitting, course_field: CourseField) -> tuple[str, ...]:
    return tuple(dict.fromkeys(code for form in sitting.forms for code in form.values.get(course_field, ())))
