"""Which evidence belongs to which course: the treatments of a patient, told apart by time and episode."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec import structs

from service.domain.course import Decision, SessionKind, SessionState
from service.domain.evidence import Form, Meeting, Scored
from service.domain.forms import CourseField, FormKind
from service.domain.phases import decision_of, ending_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime, timedelta

    from service.domain.course import Answered
    from service.domain.evidence import Attended, PlanAct
    from service.domain.protocols import CourseBounds


_SESSION = SessionKind.SESSION  # an enum's member costs a call wherever it is named
_PROTOCOL = CourseField.PROTOCOL
_IN_ORDER = attrgetter("start", "reference")
_LAST = attrgetter("last")


@dataclass(slots=True)
class Treatment:
    """The evidence of one course, gathered while the evidence is walked through in order of time."""

    opened: datetime
    last: datetime
    anchor: str
    began: str
    """Reference of the fact that opened it: its anchor may be an episode, of which no fact tells."""
    episode: str | None = None
    closed: datetime | None = None
    """When an ending form ended it."""
    maintenance: bool = False
    """Whether its sessions may lie as far apart as those of maintenance."""
    follows: str | None = None
    """Anchor of the finished treatment that it follows, and the form that decided so."""
    decided: Form | None = None
    meetings: list[Meeting] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    measures: list[Scored] = field(default_factory=list)
    answers: Mapping[str, Answered] = field(default_factory=dict)
    """How clinicians answered its findings, by the finding's id."""
    acts: tuple[PlanAct, ...] = ()
    """What they did to its plan, by time."""


def treatments(
    evidence: Iterable[Attended], bounds: CourseBounds, *, same_practitioner: bool, form_match: timedelta
) -> list[Treatment]:
    """Return the treatments that a patient's evidence amounts to, by opening.

    A treatment opens with a form of ours or the first explicit IPT encounter, and another one opens
    after an ending, after a gap of `bounds.new_course_after` days, or with another EpisodeOfCare. Maintenance is a
    treatment of its own: it follows from the day after an ending form decided on it, in the same episode
    or not; a session form written within `form_match` of a last session that has none yet is that session's.
    General psychotherapy counts only inside an open treatment and, if `same_practitioner`, with one
    of its practitioners. The result depends on the evidence alone, not on the order it is given in.
    """
    everything = sorted(evidence, key=_IN_ORDER)
    meetings = [item for item in everything if isinstance(item, Meeting)]
    forms = [item for item in everything if isinstance(item, Form)]
    explicit = _explicit(meetings, forms)
    found: list[Treatment] = []
    for item in everything:
        if isinstance(item, Scored) or (isinstance(item, Meeting) and item.kind is not _SESSION):
            continue
        is_explicit = isinstance(item, Form) or item.encounter in explicit
        treatment = _belongs_to(item, found, bounds, may_open=is_explicit)
        if treatment is not None:
            _add(item, treatment, explicit=is_explicit, maintenance=bounds.maintenance)
    kept = [treatment for treatment in found if _really_began(treatment, explicit)]
    if same_practitioner:
        for treatment in kept:
            known = _practitioners(treatment, explicit)
            treatment.meetings = [
                meeting
                for meeting in treatment.meetings
                if meeting.encounter in explicit or known.intersection(meeting.practitioners)
            ]
    apart = [part for whole in kept for part in _apart(whole, bounds.maintenance, form_match)]
    _attach_contacts(everything, apart, bounds)
    return apart


def _apart(whole: Treatment, maintenance: str, form_match: timedelta) -> Iterator[Treatment]:
    """Yield a treatment and, where its ending form decided on maintenance, what follows as another one."""
    ending = ending_of(whole.forms) if whole.maintenance else None
    if ending is None or ending.decision is not Decision.MAINTENANCE or _named(whole) == maintenance:
        yield whole
        return
    decided = next(form for form in whole.forms if form.reference == ending.fact)
    meetings = [meeting for meeting in whole.meetings if meeting.start.date() <= ending.on]
    held_before = {meeting.encounter for meeting in meetings}
    late = _of_the_last(whole, meetings, form_match)
    forms = [
        form for form in whole.forms if form.start.date() <= ending.on or form.encounter in held_before or form is late
    ]
    kept = {form.reference for form in forms}
    if CourseField.PLANNED_SESSIONS in decided.numbers:
        # The number on the form that decides is that of the sessions to come.
        forms[forms.index(decided)] = structs.replace(decided, numbers={})
    later_forms = [form for form in whole.forms if form.reference not in kept]
    yield replace(whole, closed=decided.start, meetings=meetings, forms=forms)
    yield replace(
        whole,
        opened=decided.start,
        anchor=f"{decided.reference}#maintenance",
        began=decided.reference,
        closed=_ended(later_forms),
        follows=whole.anchor,
        decided=decided,
        meetings=[meeting for meeting in whole.meetings if meeting.start.date() > ending.on],
        forms=later_forms,
        measures=[],
    )


def _named(treatment: Treatment) -> str | None:
    """The protocol that the first form to name one does."""
    return next((form.values[_PROTOCOL][0] for form in treatment.forms if _PROTOCOL in form.values), None)


def _of_the_last(whole: Treatment, meetings: list[Meeting], form_match: timedelta) -> Form | None:
    """The session form, naming no encounter, that was written after the last of the meetings and tells of it."""
    held = [meeting for meeting in meetings if meeting.kind is _SESSION and meeting.state is SessionState.HELD]
    if not held:
        return None
    last = held[-1]
    written = [form for form in whole.forms if form.kind is FormKind.SESSION]
    if any(form.encounter == last.encounter for form in written):
        return None
    loose = (form for form in written if form.encounter is None and form.start.date() >= last.start.date())
    first = next(loose, None)
    if first is None or first.start - last.start > form_match:
        return None
    since = [m for m in whole.meetings if m.state is SessionState.HELD and last.start < m.start <= first.start]
    return None if since else first


def _ended(forms: list[Form]) -> datetime | None:
    """When the forms of a maintenance treatment ended it."""
    closed = None
    for form in forms:
        decision = decision_of(form)
        if decision is not None and (closed is None or decision is not Decision.END):
            closed = form.start if decision is Decision.END else None
    return closed


def _explicit(meetings: list[Meeting], forms: list[Form]) -> frozenset[str]:
    """Encounters that are IPT: by their own code, named by a session form, or in an episode of such."""
    named = {form.encounter for form in forms if form.kind is FormKind.SESSION}
    own = [meeting for meeting in meetings if meeting.explicit or meeting.encounter in named]
    episodes = {episode for meeting in own for episode in meeting.episodes}
    return frozenset(
        meeting.encounter
        for meeting in meetings
        if meeting.kind is _SESSION
        and (meeting.explicit or meeting.encounter in named or episodes.intersection(meeting.episodes))
    )


def _belongs_to(
    item: Meeting | Form, found: list[Treatment], bounds: CourseBounds, *, may_open: bool
) -> Treatment | None:
    episode = item.episodes[0] if isinstance(item, Meeting) and item.episodes else None
    if episode is not None and may_open:
        for treatment in found:
            if treatment.episode == episode:
                return treatment
    current = max(found, key=_LAST, default=None) if len(found) != 1 else found[0]
    if current is not None and _continues(item, episode, current, bounds):
        return current
    if not may_open:
        return None
    opening = Treatment(opened=item.start, last=item.start, anchor=item.reference, began=item.reference)
    found.append(opening)
    return opening


def _continues(item: Meeting | Form, episode: str | None, current: Treatment, bounds: CourseBounds) -> bool:
    if episode is not None and current.episode is not None and episode != current.episode:
        return False
    gap = bounds.maintenance_gap if current.maintenance else bounds.new_course_after
    if item.start - current.last > gap.days:
        return False
    if not isinstance(item, Form) or item.kind is not FormKind.ASSESSMENT:
        return True
    named = item.values.get(_PROTOCOL)
    return current.closed is None and not (current.maintenance and named and named[0] != bounds.maintenance)


def _add(item: Meeting | Form, treatment: Treatment, *, explicit: bool, maintenance: str) -> None:
    treatment.last = max(treatment.last, item.start)
    if isinstance(item, Form):
        treatment.forms.append(item)
        decision = decision_of(item)
        if decision is Decision.MAINTENANCE or maintenance in item.values.get(_PROTOCOL, ()):
            treatment.maintenance = True
        if decision is not None:
            treatment.closed = item.start if decision is Decision.END else None
        return
    treatment.meetings.append(item)
    if explicit and item.episodes and treatment.episode is None:
        treatment.episode = item.episodes[0]
        treatment.anchor = treatment.episode


def _really_began(treatment: Treatment, explicit: frozenset[str]) -> bool:
    """A treatment of nothing but cancelled bookings is none."""
    return bool(treatment.forms) or any(
        meeting.encounter in explicit and meeting.state is not SessionState.CANCELLED for meeting in treatment.meetings
    )


def _practitioners(treatment: Treatment, explicit: frozenset[str]) -> set[str]:
    seen = {who for meeting in treatment.meetings if meeting.encounter in explicit for who in meeting.practitioners}
    return seen | {form.author for form in treatment.forms if form.author is not None}


def _attach_contacts(everything: Iterable[Attended], found: list[Treatment], bounds: CourseBounds) -> None:
    """Give measures, assessment and crisis contacts to the treatment they fall in.

    Before an opening they still belong to it for `bounds.baseline` days; after the end of one they
    belong to it until the next, so that a safety answer is never without a course.
    """
    baseline = bounds.baseline.days
    for item in everything:
        if isinstance(item, Form) or (isinstance(item, Meeting) and item.kind is _SESSION):
            continue
        home = None
        for treatment in found:
            if treatment.opened <= item.start and (
                treatment.follows is None or treatment.opened.date() < item.start.date()
            ):
                home = treatment
            elif (
                treatment.follows is None
                and treatment.opened - baseline <= item.start
                and (home is None or home.closed is not None)
            ):
                home = treatment
                break
        if home is None:
            continue
        if isinstance(item, Scored):
            home.measures.append(item)
        else:
            home.meetings.append(item)
