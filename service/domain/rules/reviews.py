"""Reviews of progress: a look early on, a review when little has changed for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.rules.case import Raised, rests_on, short
from service.domain.rules.change import moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.course import Change
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case


def _reviews(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """Little change by session 4 asks for a look, by session 8 for a review (ICSI 2016; PMC6428692)."""
    sessions = case.held
    soft, firm = protocol.reviews.soft_after.count, protocol.reviews.firm_after.count
    if not case.open or len(sessions) < soft:
        return
    change = _reviewed(case, mappings, protocol)
    if change is None:
        return
    facts = (change.first_fact, change.latest_fact)
    if len(sessions) < firm:
        threshold = mappings.threshold("review.soft", "improvement")
        if change.percent < threshold:
            values = moved(change, mappings) | {"session": soft, "threshold": short(threshold)}
            yield Raised("review.soft", sessions[soft - 1].start.date(), values, (*rests_on(sessions[:soft]), *facts))
        return
    threshold = mappings.threshold("review.firm", "improvement")
    if change.reliable >= 0 or change.percent < threshold:
        day = sessions[firm - 1].start.date()
        values = moved(change, mappings) | {"session": firm, "threshold": short(threshold)}
        due = day + protocol.reviews.firm_due.days
        yield Raised("review.firm", day, values, (*rests_on(sessions[:firm]), *facts), due=due)


def _reviewed(case: Case, mappings: Mappings, protocol: Protocol) -> Change | None:
    """The change that progress is judged by: of the protocol's first measure that was a case at the start."""
    changes = {change.instrument: change for change in case.changes}
    for name in protocol.reviews.measures:
        caseness = mappings.instruments[name].caseness
        if name in changes and caseness is not None and changes[name].first >= caseness.value:
            return changes[name]
    return None


RULES = (_reviews,)
