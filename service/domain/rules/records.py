"""Records that contradict themselves, and how they were counted all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import Caseness, SessionState
from service.domain.rules.case import Raised, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Values
    from service.domain.sessions import Sitting


def _stated_scores(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """The answers count; what a sender states beside them and contradicts them is shown."""
    del protocol
    for measure in case.measures:
        stated = None if measure.total is None else measure.stated_total
        if stated in {None, measure.total} and not measure.contradicted:
            continue
        title = mappings.instruments[measure.instrument].title
        on = measure.taken.date()
        if measure.total is not None and stated is not None and stated != measure.total:
            values: Values = {
                "instrument": title,
                "on": on.isoformat(),
                "total": measure.total,
                "stated": short(stated),
            }
            yield Raised("data.stated-total", on, values, (measure.fact,), key=measure.fact)
        for item in measure.contradicted:
            values = {"instrument": title, "on": on.isoformat(), "item": item}
            yield Raised("data.contradicted-answer", on, values, (measure.fact,), key=f"{measure.fact}/{item}")


def _sex_unknown(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """A cut-off that depends on the patient's sex leaves a total between the two undetermined."""
    del mappings, protocol
    for name, series in case.series.items():
        if series.instrument.caseness_by_sex is None:
            continue
        between = [each for each in series.measures if series.caseness(each.total or 0) is Caseness.UNDETERMINED]
        if between:
            first = between[0]
            values: Values = {
                "instrument": series.instrument.title,
                "on": first.taken.date().isoformat(),
                "total": first.total or 0,
            }
            facts = tuple(measure.fact for measure in between)
            yield Raised("data.sex-unknown", first.taken.date(), values, facts, key=name)


def _odd_records(case: Case, mappings: Mappings, protocol: Protocol) -> Iterator[Raised]:
    """What in the record of the sessions can't be, and how it was counted all the same."""
    del mappings, protocol
    for sitting in case.joined.sittings:
        meetings = sitting.meetings
        for meeting in meetings:
            if meeting.odd_duration:
                yield Raised("data.duration", sitting.day, _on(sitting), (meeting.reference,), key=meeting.reference)
        if sitting.future:
            facts = tuple([meeting.reference for meeting in meetings])
            yield Raised("data.future", sitting.day, _on(sitting), facts, key=facts[0])
        held = sum([meeting.state is SessionState.HELD for meeting in meetings]) if len(meetings) > 1 else 0
        if held > 1 and sitting.counts:
            facts = tuple([meeting.reference for meeting in meetings])
            yield Raised("data.same-day", sitting.day, _on(sitting) | {"count": held}, facts, key=facts[0])
    for form, sitting in case.joined.unheld_forms:
        values = _on(sitting) | {"state": sitting.state.value}
        facts = (form.reference, *(meeting.reference for meeting in sitting.meetings))
        yield Raised("data.form-of-cancelled", sitting.day, values, facts, key=form.reference)


def _on(sitting: Sitting) -> Values:
    return {"on": sitting.day.isoformat()}


RULES = (
    _stated_scores,
    _sex_unknown,
    _odd_records,
)
