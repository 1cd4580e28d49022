"""Which evidence belongs to which course: the treatments of a patient, told apart by time and episode."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from service.domain.course import Decision, SessionKind, SessionState
from service.domain.evidence import Form, Meeting, Scored
from service.domain.forms import CourseField, FormKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from service.domain.course import Answered
    from service.domain.evidence import Attended
    from service.domain.protocols import CourseBounds


_SESSION = SessionKind.SESSION  # an enum's member costs a call wherever it is named
_IN_ORDER = attrgetter("start", "reference")
_LAST = attrgetter("last")


@dataclass(slots=True)
class Treatment:
    """The evidence of one course, gathered while the evidence is walked through in order of time."""

    opened: datetime
    last: datetime
    anchor: str
    episode: str | None = None
    closed: datetime | None = None
    """When an ending form ended it."""
    meetings: list[Meeting] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    measures: list[Scored] = field(default_factory=list)
    answers: Mapping[str, Answered] = field(default_factory=dict)
    """How clinicians answered its findings, by the finding's id."""


def treatments(evidence: Iterable[Attended], bounds: CourseBounds, *, same_practitioner: bool) -> list[Treatment]:
    """Return the treatments that a patient's evidence amounts to, by opening.

    A treatment opens with a form of ours or the first explicit IPT encounter, and another one opens
    after an ending, after a gap of `bounds.new_course_after` days, or with another EpisodeOfCare.
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
            _add(item, treatment, explicit=is_explicit)
    kept = [treatment for treatment in found if _really_began(treatment, explicit)]
    if same_practitioner:
        for treatment in kept:
            known = _practitioners(treatment, explicit)
            treatment.meetings = [
                meeting
                for meeting in treatment.meetings
                if meeting.encounter in explicit or known.intersection(meeting.practitioners)
            ]
    _attach_contacts(everything, kept, bounds)
    return kept


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
    opening = Treatment(opened=item.start, last=item.start, anchor=item.reference)
    found.append(opening)
    return opening


def _continues(item: Meeting | Form, episode: str | None, current: Treatment, bounds: CourseBounds) -> bool:
    if episode is not None and current.episode is not None and episode != current.episode:
        return False
    if item.start - current.last > bounds.new_course_after.days:
        return False
    return not (current.closed is not None and isinstance(item, Form) and item.kind is FormKind.ASSESSMENT)


def _add(item: Meeting | Form, treatment: Treatment, *, explicit: bool) -> None:
    treatment.last = max(treatment.last, item.start)
    if isinstance(item, Form):
        treatment.forms.append(item)
        if item.kind is FormKind.ENDING:
            ends = Decision.END in item.values.get(CourseField.DECISION, ())
            treatment.closed = item.start if ends else None
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
            if treatment.opened <= item.start:
                home = treatment
            elif treatment.opened - baseline <= item.start and (home is None or home.closed is not None):
                home = treatment
                break
        if home is None:
            continue
        if isinstance(item, Scored):
            home.measures.append(item)
        else:
            home.meetings.append(item)
