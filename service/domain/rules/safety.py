"""Answers about self-harm, which call a clinician whatever the total."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.rules.answers import asked_again, crisis_contacts, first_after
from service.domain.rules.case import Raised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values


def _safety(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """What is answered about self-harm calls a clinician the same day, whatever the total.

    PHQ-9 item 9 and EPDS item 10 of 1 or more (Kroenke 2001, Cox 1987); any yes in a C-SSRS screener.
    """
    del protocol
    asking = [measure for measure in case.measures if measure.safety or measure.safety_unanswered]
    if not asking:
        return
    contacts, again = crisis_contacts(case), asked_again(case)
    for measure in asking:
        instrument = mappings.instruments[measure.instrument]
        on = measure.taken.date()
        values: Values = {"instrument": instrument.title, "on": on.isoformat()}
        screens = instrument.safety_total
        if screens is not None and measure.safety is not None and measure.safety >= screens.value:
            level: Values = values | {"level": instrument.band(measure.safety)}
            answered = first_after(measure, contacts)
            yield Raised(
                "safety.screener-positive", on, level, (measure.fact,), due=on, key=measure.fact, answered=answered
            )
            continue
        item = instrument.safety
        if item is not None and measure.safety is not None and measure.safety >= item.at_least.value:
            scored: Values = values | {"item": item.item, "score": measure.safety}
            answered = first_after(measure, contacts)
            yield Raised(
                "safety.self-harm-item", on, scored, (measure.fact,), due=on, key=measure.fact, answered=answered
            )
        elif measure.safety_unanswered:
            closed = again.get(measure.fact)
            yield Raised("safety.item-unanswered", on, values, (measure.fact,), key=measure.fact, closed=closed)


RULES = (_safety,)
