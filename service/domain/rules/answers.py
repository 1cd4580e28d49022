"""How findings are answered: by what a clinician did since, as the facts tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import Answered, SessionKind, SessionState

if TYPE_CHECKING:
    from datetime import date

    from service.domain.course import Measure
    from service.domain.evidence import Meeting
    from service.domain.rules.case import Case

_HELD, _CRISIS = SessionState.HELD, SessionKind.CRISIS  # an enum's member costs a call wherever it is named


def crisis_contacts(case: Case) -> list[Meeting]:
    """Return the crisis contacts that were held, by start."""
    return [
        meeting
        for meeting in case.meetings
        if meeting.kind is _CRISIS and meeting.state is _HELD and meeting.start <= case.as_of
    ]


def first_after(measure: Measure, contacts: list[Meeting]) -> Answered | None:
    """Return the answer that the first contact since a measure was taken gives; None if there was none."""
    contact = next((contact for contact in contacts if contact.start >= measure.taken), None)
    if contact is None:
        return None
    return Answered(contact.start.date(), next(iter(contact.practitioners), None), contact.reference)


def asked_again(case: Case) -> dict[str, date]:
    """Return when the item on self-harm was next answered after each measure that leaves it out, by its fact."""
    found: dict[str, date] = {}
    answered: dict[str, date] = {}
    for measure in reversed(case.measures):
        if measure.safety is not None and measure.taken <= case.as_of:
            answered[measure.instrument] = measure.taken.date()
        elif measure.safety_unanswered and measure.instrument in answered:
            found[measure.fact] = answered[measure.instrument]
    return found
