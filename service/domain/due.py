"""When time alone changes a course: whatever goes by `as_of` announces its instants here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from service.domain.course import Course
    from service.domain.protocols import Protocol
    from service.domain.treatments import Treatment


def steps_ahead(treatment: Treatment, as_of: datetime, protocol: Protocol) -> Iterator[datetime]:
    """Yield the instants to come at which this treatment's projection may change by itself, the next one among them."""
    unrecorded = protocol.attendance.unrecorded_after.days
    stalled = protocol.attendance.stalled_after.days
    dropped = protocol.attendance.dropped_out_after.days
    longest_ago = as_of - max(unrecorded, stalled, dropped)
    if treatment.opened > longest_ago:
        yield from _after(as_of, treatment.opened + stalled, treatment.opened + dropped)
    for meeting in treatment.meetings:
        start = meeting.start
        if start > longest_ago:
            yield from _after(as_of, start, start + unrecorded, start + stalled, start + dropped)
    for form in treatment.forms:
        if form.start > longest_ago:
            yield from _after(as_of, form.start + stalled, form.start + dropped)
    for item in treatment.measures:
        yield from _after(as_of, item.start)


def reviews_ahead(course: Course, as_of: datetime, protocol: Protocol) -> Iterator[datetime]:
    """Yield the instants to come at which a review of a course falls due by the time since its first session."""
    first = next((session.start for session in course.sessions if session.number is not None), None)
    if first is None or course.closed is not None:
        return
    for span in (protocol.reviews.soft_after_days, protocol.reviews.firm_after_days):
        if span is not None:
            yield from _after(as_of, first + span.days)


def _after(as_of: datetime, *instants: datetime) -> Iterator[datetime]:
    return (instant for instant in instants if instant > as_of)
