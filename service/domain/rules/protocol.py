"""The protocol that a course follows: changed, not meant for the patient, or given in another number of sessions."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from service.domain.choice import exclusions
from service.domain.facts import Code
from service.domain.forms import FHIR_BASE, CourseField, FormKind
from service.domain.rules.case import Raised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from service.domain.course import ProtocolSpan
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values

_PLANNED = CourseField.PLANNED_SESSIONS  # an enum's member costs a call wherever it is named
_EXCLUSION = f"{FHIR_BASE}/CodeSystem/exclusion"


def _changed(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Sessions held before keep the phase of the protocol that they were held under."""
    del protocol
    for before, after in pairwise(case.protocols):
        values: Values = {
            "on": after.since.isoformat(),
            "from": mappings.protocols[before.protocol].title,
            "to": mappings.protocols[after.protocol].title,
        }
        facts = tuple([span.fact for span in (before, after) if span.fact is not None])
        yield Raised("protocol.changed", after.since, values, facts, key=after.since.isoformat())


def _excluded(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """What the protocol is not meant for asks for a clinician; the protocol stays as it was chosen.

    Another protocol, once it is chosen, closes what speaks against the one before.
    """
    del protocol
    spans = case.protocols
    for place, span in enumerate(spans):
        followed = mappings.protocols[span.protocol]
        ends = [day for day in (*[later.since for later in spans[place + 1 : place + 2]], case.ended) if day]
        closed = min(ends, default=None)
        for named in exclusions(case.meetings, case.forms, followed):
            on = max(named.on, span.since)
            if closed is not None and on > closed:
                continue
            values: Values = {
                "protocol": followed.title,
                "exclusion": mappings.displays[Code(_EXCLUSION, named.task)].lower(),
                "on": named.on.isoformat(),
            }
            key = f"{named.task}/{span.since.isoformat()}" if place else named.task
            yield Raised("protocol.exclusion", on, values, (named.fact,), key=key, closed=closed)


def _planned(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """The number is fixed at the outset: another one is told, and one that the protocol does not have.

    A continuation, agreed on the ending form, may go beyond it.
    """
    del protocol
    given = [(form.numbers[_PLANNED], form) for form in case.forms if form.numbers and _PLANNED in form.numbers]
    for (before, earlier), (number, form) in pairwise(given):
        if number != before:
            on = form.start.date()
            values: Values = {"to": number, "from": before, "on": on.isoformat()}
            facts = (earlier.reference, form.reference)
            yield Raised("sessions.planned-changed", on, values, facts, key=form.reference)
    for place, (number, form) in enumerate(given):
        on = form.start.date()
        # Judged by the protocol of the day, until another number or another protocol takes its place.
        followed, *ahead = _followed_from(on, case.protocols)
        sessions = mappings.protocols[followed.protocol].sessions
        least, most = sessions.minimum.count, sessions.maximum.count
        if form.kind is FormKind.ENDING or least <= number <= most:
            continue
        values = {"planned": number, "minimum": least, "maximum": most}
        ends = [later.start.date() for _, later in given[place + 1 : place + 2]] + [span.since for span in ahead[:1]]
        closed = min([*ends, *([case.ended] if case.ended else [])], default=None)
        rule, fact = "sessions.planned-out-of-range", form.reference
        yield Raised(rule, on, values, (fact,), key=fact, closed=closed)


def _followed_from(day: date, spans: tuple[ProtocolSpan, ...]) -> tuple[ProtocolSpan, ...]:
    """The protocol that is followed on a day, and those that follow it."""
    return spans[max((place for place, span in enumerate(spans) if span.since <= day), default=0) :]


RULES = (_changed, _excluded, _planned)
