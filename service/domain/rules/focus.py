"""Focus areas that a diagnosis suggests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.forms import CourseField
from service.domain.rules.case import Raised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case


def _suggested(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """A reason of an encounter may suggest an area, until a primary one is documented; it never sets one."""
    del protocol
    suggesting = [(meeting, reason) for meeting in case.meetings for reason in meeting.reasons]
    if not suggesting:
        return
    chosen = next((form.start.date() for form in case.forms if form.values.get(CourseField.PRIMARY_FOCUS)), None)
    days = [day for day in (chosen, case.ended) if day is not None]
    closed = min(days, default=None)
    found: dict[str, Raised] = {}
    for meeting, reason in suggesting:
        on = meeting.start.date()
        if meeting.start > case.as_of or (closed is not None and on >= closed):
            continue
        for area in mappings.areas_by_reason.get(reason, ()):
            if area not in found:
                values = {"area": mappings.focus_areas[area].title, "reason": mappings.reason_displays[reason]}
                found[area] = Raised("focus.suggested", on, {**values}, (meeting.reference,), key=area, closed=closed)
    yield from found.values()


RULES = (_suggested,)
