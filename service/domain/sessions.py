"""Sessions of a course: meetings and session forms joined, and counted once each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from datetime import date
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from service.domain.course import Session, SessionKind, SessionState
from service.domain.forms import CourseField, FormKind
from service.domain.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from service.domain.course import Phase, ProtocolSpan
    from service.domain.evidence import Form, Meeting
    from service.domain.protocols import Attendance, Protocol

_OPEN = frozenset({SessionState.PLANNED, SessionState.IN_PROGRESS})
_TAKEN_IN = frozenset({SessionState.HELD, SessionState.UNRECORDED, *_OPEN})
"""What a held session of the same day takes in."""
_NOT_HELD = frozenset({SessionState.CANCELLED, SessionState.NO_SHOW})
_HELD, _SESSION, _PREPARATION = (
    SessionState.HELD,
    SessionKind.SESSION,
    SessionKind.PREPARATION,
)  # an enum's member costs a call wherever it is named
_LISTED = {
    "worked_on": CourseField.WORKED_ON,
    "patterns": CourseField.PATTERN,
    "techniques": CourseField.TECHNIQUE,
    "coping": CourseField.COPING,
    "next_steps": CourseField.NEXT_STEP,
    "effects": CourseField.PATTERN_EFFECT,
    "techniques_at_home": CourseField.TECHNIQUE_AT_HOME,
    "maladaptive_coping": CourseField.MALADAPTIVE_COPING,
}
_ANSWERED_ONCE = {
    "coping_trend": CourseField.COPING_TREND,
    "use_since_last": CourseField.USE_SINCE_LAST,
    "addiction_care": CourseField.ADDICTION_CARE,
}
"""Of several forms the last one to answer counts."""
_NOTHING_TOLD: dict[str, Any] = dict.fromkeys(_LISTED, ()) | dict.fromkeys(_ANSWERED_ONCE)
_START = attrgetter("start")
_ORDER = attrgetter("start", "reference")


@dataclass(slots=True)
class Sitting:
    """One session while its meetings and forms are being joined."""

    state: SessionState
    kind: SessionKind
    start: datetime
    reference: str
    """Of its first meeting, else of its first form: with `start` it sorts sittings whatever came first."""
    meetings: list[Meeting] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    future: bool = False
    """Recorded as held, at a time that has not come."""
    day: date = field(init=False)
    """The calendar day, in the offset in which the sender wrote it."""

    def __post_init__(self) -> None:
        self.day = self.start.date()

    @property
    def counts(self) -> bool:
        """Whether it is one of the protocol's held sessions."""
        return self.state is _HELD and self.kind is _SESSION


class Sittings(Value, frozen=True):
    """The sittings of a course, by start, and what about them contradicts itself."""

    sittings: tuple[Sitting, ...]
    unheld_forms: tuple[tuple[Form, Sitting], ...]
    """Session forms of encounters that were cancelled or not attended."""


def join(meetings: Iterable[Meeting], forms: Iterable[Form], as_of: datetime, attendance: Attendance) -> Sittings:
    """Return the sittings that meetings and session forms tell of.

    Held encounters of one calendar day are one sitting, and take planned ones of that day in; a visit is
    counted by the held meetings within it. A form belongs to the encounter that it names, else to the
    sitting of its day, else to the last one held within `attendance.form_match` days before it; one that
    fits none is a held sitting by itself.
    """
    sittings = _merged_days(_counted_by_parts(_as_known(meetings, as_of, attendance)))
    written = sorted((form for form in forms if form.kind is FormKind.SESSION), key=_ORDER)
    by_encounter = {meeting.encounter: sitting for sitting in sittings for meeting in sitting.meetings}
    unheld: list[tuple[Form, Sitting]] = []
    loose: list[Form] = []
    for form in written:
        named = None if form.encounter is None else by_encounter.get(form.encounter)
        if named is None:
            loose.append(form)
        elif named.state in _NOT_HELD:
            unheld.append((form, named))
        else:
            if named.start <= as_of and named.kind is SessionKind.SESSION:
                named.state = SessionState.HELD
            named.forms.append(form)
    if written:
        # A form may have made its sitting a held one, which takes in others of its day.
        sittings = _merged_days(sittings)
    if loose:
        sittings.extend(list(_given_a_place(loose, sittings, attendance)))
        sittings.sort(key=_ORDER)
    return Sittings(tuple(sittings), tuple(unheld))


def _as_known(meetings: Iterable[Meeting], as_of: datetime, attendance: Attendance) -> list[Sitting]:
    """Each meeting by itself, in the state that it is in as of an instant."""
    unrecorded = attendance.unrecorded_after.days
    known = []
    for meeting in meetings:
        state, future = meeting.state, False
        if state is _HELD and meeting.start > as_of:
            state, future = SessionState.PLANNED, True
        elif state in _OPEN and meeting.start + unrecorded <= as_of:
            state = SessionState.UNRECORDED
        known.append(Sitting(state, meeting.kind, meeting.start, meeting.reference, [meeting], future=future))
    known.sort(key=_ORDER)
    return known


def _counted_by_parts(known: list[Sitting]) -> list[Sitting]:
    """Join a visit into the first held meeting within it: a stay of days with two contacts in it is two sessions."""
    visits = {sitting.meetings[0].part_of for sitting in known}
    wholes = {
        sitting.reference: sitting for sitting in known if sitting.kind is _SESSION and sitting.reference in visits
    }
    taken: set[str] = set()
    for part in known if wholes else ():
        if not part.counts or part.reference in taken:
            continue
        whole = wholes.get(part.meetings[0].part_of or "")
        while whole is not None and whole is not part and whole.reference not in taken:
            taken.add(whole.reference)
            part.meetings.extend(whole.meetings)
            whole = wholes.get(whole.meetings[0].part_of or "")
    return [sitting for sitting in known if sitting.reference not in taken] if taken else known


def _merged_days(sittings: list[Sitting]) -> list[Sitting]:
    """Join the held sessions of a day into its first, with what was planned for that day."""
    held: dict[date, Sitting] = {}
    for sitting in sittings:
        if sitting.counts:
            held.setdefault(sitting.day, sitting)
    kept = []
    for sitting in sittings:
        first = held.get(sitting.day)
        absorbed = sitting.state in _TAKEN_IN and not sitting.future
        if first is None or first is sitting or sitting.kind is not _SESSION or not absorbed:
            kept.append(sitting)
            continue
        first.meetings.extend(sitting.meetings)
        first.forms.extend(sitting.forms)
    return kept


def _given_a_place(loose: Iterable[Form], sittings: Iterable[Sitting], attendance: Attendance) -> Iterator[Sitting]:
    """Add forms that name no encounter to held sittings; yield the sittings that are made for those that fit none.

    Forms and sittings come by start. A form of the day of a preparatory meeting alone tells of that meeting.
    """
    by_day: dict[date, Sitting] = {}
    held: list[Sitting] = []
    prepared: dict[date, Sitting] = {}
    for sitting in sittings:
        if sitting.counts:
            held.append(sitting)
        elif sitting.kind is _PREPARATION and sitting.state is _HELD:
            prepared.setdefault(sitting.day, sitting)
    for sitting in held:
        by_day.setdefault(sitting.day, sitting)
    window = attendance.form_match.days
    for form in loose:
        fitting = (
            by_day.get(form.start.date())
            or prepared.get(form.start.date())
            or _last_without_form(held, form.start - window, form.start)
        )
        if fitting is None:
            fitting = Sitting(SessionState.HELD, SessionKind.SESSION, form.start, form.reference)
            by_day[fitting.day] = fitting
            insort(held, fitting, key=_ORDER)
            yield fitting
        fitting.forms.append(form)


def _last_without_form(held: list[Sitting], earliest: datetime, latest: datetime) -> Sitting | None:
    near = held[bisect_left(held, earliest, key=_START) : bisect_right(held, latest, key=_START)]
    return next((sitting for sitting in reversed(near) if not sitting.forms), None)


def prepared(
    meetings: list[Meeting], spans: tuple[ProtocolSpan, ...], protocols: Mapping[str, Protocol]
) -> list[Meeting]:
    """Return a course's meetings, those that prepare a group marked as such: individual ones before it first meets.

    Each by the protocol that was followed then: one that is changed to in a meeting holds from the next on.
    Other preparatory meetings are known by their code alone.
    """
    for place, span in enumerate(spans):
        protocol = protocols[span.protocol]
        if protocol.preparation is None or protocol.delivery == protocol.preparation.delivery:
            continue
        since = span.since if place else date.min
        until = spans[place + 1].since if place + 1 < len(spans) else date.max
        followed = [meeting for meeting in meetings if since < meeting.start.date() <= until]
        marked = _preparing(followed, protocol.preparation.meetings.count)
        meetings = [marked.get(meeting.reference, meeting) for meeting in meetings]
    return meetings


def _preparing(meetings: list[Meeting], remaining: int) -> dict[str, Meeting]:
    marked: dict[str, Meeting] = {}
    for meeting in sorted(meetings, key=_ORDER):
        if meeting.kind is _PREPARATION:
            remaining -= meeting.state is _HELD
        if meeting.kind is not _SESSION:
            continue
        if remaining <= 0 or (meeting.group and meeting.state not in _NOT_HELD):
            break
        if not meeting.group:
            marked[meeting.reference] = replace(meeting, kind=_PREPARATION, explicit=False)
            remaining -= meeting.state is _HELD
    return marked


def numbered(
    sittings: Iterable[Sitting], phase_of: Callable[[int, date], Phase], ended: date | None
) -> tuple[Session, ...]:
    """Return the sessions of a course; held ones numbered from 1, each with the phase it was held in.

    Those held after the day on which the course ended are marked, and have no number.
    """
    sessions = []
    held = 0
    for sitting in sittings:
        if sitting.counts:
            if ended is not None and sitting.day > ended:
                sessions.append(replace(_session(sitting, None, None), after_end=True))
                continue
            held += 1
            sessions.append(_session(sitting, held, phase_of(held, sitting.day)))
        else:
            sessions.append(_session(sitting, None, None))
    return tuple(sessions)


def _session(sitting: Sitting, number: int | None, phase: Phase | None) -> Session:
    meetings, forms = sitting.meetings, sitting.forms
    telehealth = group = False
    for meeting in meetings:
        telehealth = telehealth or meeting.telehealth
        group = group or meeting.group
    told = _told(forms) if forms else _NOTHING_TOLD
    return Session(
        state=sitting.state,
        kind=sitting.kind,
        start=sitting.start,
        number=number,
        phase=phase,
        minutes=meetings[0].minutes if meetings else None,
        encounters=tuple([meeting.encounter for meeting in meetings]),
        forms=tuple([form.response for form in forms]),
        telehealth=telehealth,
        group=group,
        **told,
    )


def _told(forms: list[Form]) -> dict[str, Any]:
    """Return what the forms tell of a session, by its field."""
    told: dict[str, Any] = {name: _codes(forms, asked) for name, asked in _LISTED.items()}
    for name, asked in _ANSWERED_ONCE.items():
        codes = _codes(forms, asked)
        told[name] = codes[-1] if codes else None
    return told


def _codes(forms: list[Form], course_field: CourseField) -> tuple[str, ...]:
    return tuple(dict.fromkeys([code for form in forms for code in form.values.get(course_field, ())]))
