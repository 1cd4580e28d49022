"""The ending of a course: by the sessions that remain, and how its measures class it before."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from service.domain.course import Answered, Classification
from service.domain.facts import Code
from service.domain.forms import FHIR_BASE
from service.domain.rules.case import Raised, rests_on, short
from service.domain.rules.change import moved
from service.domain.spans import FOREVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.course import Outcome
    from service.domain.instruments import Instrument
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values
    from service.domain.sourced import Threshold
    from service.domain.spans import Span

_OUTCOME = f"{FHIR_BASE}/CodeSystem/outcome"


def _ending(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """The ending goes by sessions remaining; when all are held, a clinician decides what comes next."""
    del mappings, protocol
    turnout = case.turnout
    for rule, found in (("ending.due", turnout.ending_due), ("sessions.used-up", turnout.used_up)):
        for span, planned in found:
            held = _held_by(case, span)
            counted: Values = {"held": held, "planned": planned, "remaining": max(planned - held, 0)}
            if rule == "sessions.used-up":
                counted["proposal"] = _proposal(turnout.outcome)
            facts = rests_on(case.held[:held])
            yield Raised(rule, span.since, counted, facts, key=span.since.isoformat(), closed=span.closed)


def _proposal(outcome: Outcome | None) -> str:
    return "" if outcome is None else f"; by the measures: {_PROPOSED[outcome.classification]}"


def _held_by(case: Case, span: Span) -> int:
    """How many sessions were held before a span ended: the last one of it may be what ended it."""
    if span.until == FOREVER:
        return len(case.held)
    return bisect_left(case.held, span.until, key=lambda session: session.start.date())


def _classification(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Remission, response, partial response or none (ICSI 2016), each with what it proposes; a clinician decides."""
    del protocol
    for span, outcome, series in case.turnout.outcomes:
        classification = outcome.classification
        values = moved(series, span) | {
            "outcome": mappings.displays[Code(_OUTCOME, classification.value)],
            "threshold": _threshold(classification, series.instrument),
            "proposal": _PROPOSED[classification],
        }
        yield Raised(
            "ending.classification",
            span.since,
            values,
            outcome.facts,
            key=span.since.isoformat(),
            closed=span.closed,
            answered=_decided(case, span),
        )


def _decided(case: Case, span: Span) -> Answered | None:
    """The ending form that says what comes next answers the proposal."""
    ending = case.ending
    if ending is None or not span.since <= ending.on <= span.until:
        return None
    author = next((form.author for form in case.forms if form.reference == ending.fact), None)
    return Answered(ending.on, author, ending.fact)


def _threshold(classification: Classification, instrument: Instrument) -> str:
    below, response, partial = instrument.remission_below, instrument.response, instrument.partial_response
    return {
        Classification.REMISSION: f"less than {_of(below)} points",
        Classification.RESPONSE: f"{_of(response)} % or more",
        Classification.PARTIAL_RESPONSE: f"{_of(partial)} % or more",
        Classification.NON_RESPONSE: f"less than {_of(partial)} %",
    }[classification]


def _of(threshold: Threshold | None) -> int | float:
    return short(threshold.value) if threshold else 0


_PROPOSED = {
    Classification.REMISSION: "end, or maintenance where the risk of relapse is high",
    Classification.RESPONSE: "maintenance, since symptoms that remain make a relapse likelier",
    Classification.PARTIAL_RESPONSE: "continue by a new, explicit agreement",
    Classification.NON_RESPONSE: "end and offer other treatment: the therapy failed, not the patient",
}

RULES = (_ending, _classification)
