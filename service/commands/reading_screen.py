"""What `ipt-bridge read` prints for people: a few lines for each change, the most telling first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.evidence import Form, Meeting, PlanAct, Scored, TaskDone
from service.domain.facts import PatientReading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from service.commands.inspection import Inspected
    from service.commands.operations import Read
    from service.domain.course import Measure
    from service.domain.evidence import Evidence
    from service.domain.facts import Reading
    from service.domain.mappings import Mappings
    from service.inbound.changes import Change

_WIDTH = 11


def show(console: Console, read: Read, *, name: bool) -> None:
    """Print what becomes of a record: its envelope once, then each change; `name` says which file it is."""
    if name:
        _line(console, "record", f"{read.file}, {read.number}")
    _line(console, "envelope", read.inspected[0].envelope)
    for each in read.inspected:
        for label, text in _lines(each, read):
            _line(console, label, text)
    console.print()


def _line(console: Console, label: str, text: str) -> None:
    console.print(f"{label:<{_WIDTH}}{text}", markup=False, highlight=False, soft_wrap=True)


def _lines(each: Inspected, read: Read) -> Iterator[tuple[str, str]]:
    change = each.change
    if change is not None:
        version = f"  version {each.version}" if each.version else ""
        yield "change", f"{change.operation}  {_named(change)}{version}  {each.last_updated or ''}".rstrip()
    if each.relevant is not None:
        yield "ours", ("yes: " if each.relevant else "no: ") + each.reason
    elif each.reason:
        yield "ours", f"can't be told: {each.reason}"
    if each.fact is not None and each.fact.patient_id is not None:
        yield "patient", f'Patient/{each.fact.patient_id} (source "{read.feed.context.id}")'
    for found in each.evidence:
        yield from _meaning(found, read.feed.mappings)
    for aside in each.asides:
        yield "aside", aside
    if each.fact is not None and each.fact.reading is not None and not each.evidence:
        yield "meaning", _other_meaning(each.fact.reading)
    if each.parked is not None:
        at = f"   at {each.parked.path}" if each.parked.path else ""
        yield "parked", f"{each.parked.code}{at}"
        yield "", f"{each.parked.text} In the service it waits: ipt-bridge parked list"
    if each.deviations:
        yield "deviates", f"from the full FHIR model at {', '.join(each.deviations)}"


def _named(change: Change) -> str:
    return f"{change.resource_type}/{change.resource_id or '?'}"


def _other_meaning(reading: Reading) -> str:
    """Return in words what a reading that is no evidence says."""
    if not isinstance(reading, PatientReading):
        return f"none: status {reading.status}, and nothing in it that a course rests on"
    said = [f"replaced by Patient/{each}, whose facts and courses these are" for each in reading.replaced_by]
    said += [f"replaces Patient/{each}, and has that one's facts and courses" for each in reading.replaces]
    return "; ".join(said)


def _meaning(found: Evidence, mappings: Mappings) -> Iterable[tuple[str, str]]:
    match found:
        case Meeting():
            return [("session", _meeting(found))]
        case Form():
            encounter = f", of Encounter/{found.encounter}" if found.encounter else ""
            return [("form", f"{found.kind}  {found.start.isoformat()}{encounter}; {len(found.values)} fields")]
        case Scored():
            return _measure(found.measure, mappings)
        case TaskDone():
            return [("answer", f"the Task of finding {found.finding} was completed {found.start.isoformat()}")]
        case PlanAct():
            return [("act", acted(found))]


def acted(found: PlanAct) -> str:
    """Return in words what a clinician did to a resource of a plan; a status only where they set one."""
    said = [f"was {found.status}"] if found.status else []
    said += [f"left as edited: {', '.join(found.edited)}"] if found.edited else []
    return f"{found.role} at {found.destination}: {'; '.join(said) or 'as the plan has it'}"


def _meeting(found: Meeting) -> str:
    parts = [found.state.value, found.kind.value, found.start.isoformat()]
    if found.minutes is not None:
        parts.append(f"{found.minutes} minutes")
    if found.odd_duration:
        parts.append("impossible duration: flagged, and counted by its status")
    parts += [word for word, holds in (("telehealth", found.telehealth), ("group", found.group)) if holds]
    return "  ".join(parts)


def _measure(measure: Measure, mappings: Mappings) -> Iterator[tuple[str, str]]:
    instrument = mappings.instruments[measure.instrument]
    answered = sum(points is not None for points in measure.items)
    total = "no total" if measure.total is None else f"= {measure.total}"
    text = f"{instrument.title} {total}{', ' + measure.band if measure.band else ''}.  "
    if measure.stated_total is not None and measure.stated_total != measure.total:
        text += f"Stated total {measure.stated_total:g} differs: kept, flagged.  "
    text += f"{answered} of {len(measure.items)} items."
    if measure.contradicted:
        numbers = ", ".join(str(number) for number in measure.contradicted)
        text += f"  Contradiction at item {numbers}: flagged."
    yield "measure", text
    asked = "screener" if instrument.safety is None else f"item {instrument.safety.item}"
    if instrument.same_day is not None and measure.safety is not None:
        raised = measure.safety >= instrument.same_day.value
        yield "safety", f"{asked} = {measure.safety}{' → same-day finding' if raised else ''}"
    elif measure.safety_unanswered:
        yield "safety", f"{asked} not answered: a missing answer is not zero"
