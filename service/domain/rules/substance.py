"""Addiction beside mental illness: whether the care for it is noted. IPT itself is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.focus import SUBSTANCE_GOALS
from service.domain.forms import CourseField
from service.domain.rules.case import Raised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case

_USING = frozenset({"less", "same", "more"})
"""Answers on use since the last session that tell of use."""


def _care_not_noted(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """A substance-use goal, or use since the last session, while no form says how the care for it stands."""
    del mappings, protocol
    first = noted = None
    for form in case.forms:
        if noted is None and CourseField.ADDICTION_CARE in form.values:
            noted = form.start.date()
        if first is None and (
            not SUBSTANCE_GOALS.keys().isdisjoint(form.values.get(CourseField.GOAL, ()))
            or not _USING.isdisjoint(form.values.get(CourseField.USE_SINCE_LAST, ()))
        ):
            first = form
    if first is None:
        return
    on = first.start.date()
    closed = min([day for day in (noted, case.ended) if day is not None], default=None)
    if closed is None or on < closed:
        yield Raised("substance.care-not-noted", on, {"on": on.isoformat()}, (first.reference,), closed=closed)


RULES = (_care_not_noted,)
