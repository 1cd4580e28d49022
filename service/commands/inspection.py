"""Inspection: what the service would make of a record, and why. Pure, and by the same steps as the intake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import structs

from service.domain.evidence import Form, Meeting, Scored, interpret
from service.domain.facts import EncounterReading
from service.domain.value import Value
from service.inbound.changes import Change, Operation
from service.inbound.codings import raw_codes
from service.inbound.conformance import deviations
from service.inbound.contained import with_questionnaire
from service.inbound.envelopes import DIALECTS, open_record
from service.inbound.readers import read as read_fact
from service.inbound.reading import RecordReading, read_change
from service.inbound.records import Reason, Unreadable
from service.inbound.references import without_version
from service.inbound.relevance import CANDIDATE_USES, READ_TYPES
from service.inbound.repeats import without_repeats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.domain.evidence import Evidence
    from service.domain.facts import Code, Fact, Reading
    from service.domain.mappings import Mappings
    from service.domain.sourced import Threshold
    from service.inbound.envelopes import Opened
    from service.inbound.records import Limits, Record
    from service.intake import Feed

NOT_RECOGNISED = "not recognised"
_USES = {
    "ipt": "an IPT session",
    "psychotherapy": "psychotherapy, a session inside an open course",
    "preparation": "a preparation before the first session",
    "evaluation": "an assessment",
    "crisis": "a crisis contact",
}


@dataclass(frozen=True, slots=True)
class Inspected:
    """What becomes of one change, or of a record that holds none."""

    envelope: str
    """The dialect in words, with what its notification says."""
    change: Change | None = None
    version: str | None = None
    last_updated: str | None = None
    """As it is written, or as the envelope says."""
    relevant: bool | None = None
    """None where it can't be told."""
    reason: str = ""
    fact: Fact | None = None
    evidence: tuple[Evidence, ...] = ()
    parked: Unreadable | None = None
    asides: tuple[str, ...] = ()
    """What a change that is not ours, or is parked, says all the same."""
    deviations: tuple[str, ...] = ()
    """Paths where the resource deviates from the full model of the FHIR version that was asked for."""


def inspect(record: Record, feed: Feed, limits: Limits, fhir_version: str | None = None) -> list[Inspected]:
    """Return what becomes of each change of a record, or of the record itself. Never raises for what it holds."""
    opened = open_record(record, feed.context, limits)
    envelope = _in_words(opened)
    if not opened.changes:
        kinds = {notice.kind for notice in opened.notices}
        reason = f"{', '.join(sorted(kinds))}: nothing happened to a resource" if kinds else "it says of no change"
        return [Inspected(envelope, relevant=False, reason=reason)]
    found = [_inspected(change, envelope, record, feed, limits, fhir_version) for change in opened.changes]
    if any(each.fact is not None for each in found):
        changes = without_repeats(opened.changes, record.value, limits)
        if changes is not opened.changes:
            return [_inspected(change, envelope, record, feed, limits, fhir_version) for change in changes]
    return found


def _inspected(  # noqa: PLR0913, PLR0917 - the two from the record, and what `inspect` was given
    change: Change | Unreadable, envelope: str, record: Record, feed: Feed, limits: Limits, fhir_version: str | None
) -> Inspected:
    if isinstance(change, Unreadable):
        return Inspected(envelope, parked=change)
    told = change
    if change.resource_type == "QuestionnaireResponse":
        change = with_questionnaire(change)
    reading = RecordReading()
    read_change(change, 0, record.timestamp, feed.context, feed.relevance, limits, reading)
    relevant, reason = _relevance(change, feed, limits)
    fact = reading.facts[0] if reading.facts else None
    parked = reading.unreadable[0][1] if reading.unreadable else None
    if reading.fetch and feed.context.base is None:
        parked = Unreadable(Reason.REFERENCE_ONLY, change.path)
    unresolved = Unreadable(Reason.UNRESOLVED_SUBJECT, change.path) if reading.subjects else None
    evidence, asides = _said(change, fact, parked or unresolved, feed, record)
    if reading.fetch and parked is None:
        asides += ("it is fetched from the source's fhir_base",)
    if reading.subjects:
        asides += ("the patient is searched for by identifier at the source's fhir_base",)
    meta = change.resource.get("meta") if change.resource is not None else None
    written: Mapping[str, Any] = meta if isinstance(meta, dict) else {}
    return Inspected(
        envelope=envelope,
        change=change,
        version=_text(written.get("versionId")) or change.version_id,
        last_updated=_text(written.get("lastUpdated"))
        or (change.last_updated.isoformat() if change.last_updated else None),
        relevant=relevant,
        reason=reason,
        fact=fact,
        evidence=evidence,
        parked=parked,
        asides=asides,
        deviations=tuple(deviations(told, fhir_version)) if fhir_version else (),
    )


def _relevance(change: Change, feed: Feed, limits: Limits) -> tuple[bool | None, str]:
    """Return whether a change is ours, as the intake decides it, and why."""
    if change.resource_type not in READ_TYPES:
        return False, f"courses are made of {', '.join(sorted(READ_TYPES))} only"
    if change.operation is Operation.DELETE:
        return True, "a delete may take back what is known"
    if change.resource is None:
        return None, "it is named and not held"
    return _decided(change.resource, change.path, feed, limits)


def _decided(resource: Mapping[str, Any], path: str, feed: Feed, limits: Limits) -> tuple[bool | None, str]:
    try:
        relevant = feed.relevance.decide(resource, limits.items, path)
    except Unreadable:
        return None, ""
    if resource["resourceType"] == "Encounter":
        return relevant, _of_codes(raw_codes([resource.get("type"), resource.get("serviceType")]), feed)
    if resource["resourceType"] == "Patient":
        return relevant, f"it says {'' if relevant else 'nothing '}of a merge with another patient"
    if resource["resourceType"] == "Task":
        return relevant, f"its identifier is {'' if relevant else 'not '}of one of our plans"
    return relevant, _of_questionnaire(resource, feed.mappings, relevant=relevant)


def _said(
    change: Change, fact: Fact | None, parked: Unreadable | None, feed: Feed, record: Record
) -> tuple[tuple[Evidence, ...], tuple[str, ...]]:
    """Return what a change means; where it makes no fact, what it would mean if somebody mended it."""
    if fact is not None:
        return interpret(fact, feed.mappings), _doubts(fact, feed.mappings.courses.longest_meeting)
    if change.resource is None or change.resource_type not in READ_TYPES:
        return (), ()
    mended = dict(change.resource)
    if parked is not None:
        mended["for" if change.resource_type == "Task" else "subject"] = {"reference": "Patient/unknown"}
    mended_change = structs.replace(change, resource=mended, resource_id=change.resource_id or "unknown")
    try:
        would_be = read_fact(mended_change, feed.context, record.timestamp)
    except Unreadable as problem:
        if parked is not None and parked.reason is problem.reason:
            return (), ()
        return (), (f"{'then' if parked else 'if it were ours'} it would be parked: {problem.code} at {problem.path}",)
    doubts = _doubts(would_be, feed.mappings.courses.longest_meeting)
    return () if parked is None else interpret(would_be, feed.mappings), doubts


def _doubts(fact: Fact, longest: Threshold) -> tuple[str, ...]:
    """Return what is odd about the times of an encounter."""
    reading = fact.reading
    if not isinstance(reading, EncounterReading) or reading.start is None or reading.end is None:
        return ()
    if reading.end < reading.start:
        return ("it ends before it starts: no duration",)
    if (reading.end - reading.start).total_seconds() > longest.value * 60:
        return (f"it lasts longer than {longest.count} minutes: no duration",)
    return ()


def _of_codes(codes: Sequence[Code], feed: Feed) -> str:
    for code in codes:
        uses = feed.mappings.codes_by_use.get(code, frozenset()) & CANDIDATE_USES
        for use, meaning in _USES.items():
            if use in uses:
                return f"code {_written(code)} is {meaning}"
    if not codes:
        return "it has no code in type or serviceType"
    return f"{', '.join(_written(code) for code in codes)}: no code of a session, an assessment or a crisis"


def _of_questionnaire(response: Mapping[str, Any], mappings: Mappings, *, relevant: bool) -> str:
    named = response.get("questionnaire")
    written = _text(named.get("reference") if isinstance(named, dict) else named) or ""
    canonical = mappings.canonical(without_version(written))
    if instrument := mappings.instrument_by_questionnaire.get(canonical):
        return f"questionnaire {canonical} is {mappings.instruments[instrument].title}"
    if form := mappings.forms.get(canonical):
        return f"questionnaire {canonical} is the {form.kind} form"
    if why := mappings.other_questionnaires.get(canonical):
        return f"questionnaire {canonical} looks like one of ours and is not: {why}"
    which = f"questionnaire {written} is not known" if written else "no questionnaire is named"
    return f"{which}; {'items' if relevant else 'no item'} of an instrument by code or linkId"


def _in_words(opened: Opened) -> str:
    titles = [DIALECTS[name].title for name in opened.dialect.split(", ") if name in DIALECTS]
    if opened.dialect == "tombstone":
        titles = ["record without value"]
    words = ", ".join(titles) or NOT_RECOGNISED
    for notice in opened.notices:
        words += f" ({notice.form})"
        if notice.status not in {"", "active", "requested"}:
            words += f", subscription {notice.status}"
        if notice.numbers:
            words += f", event {', '.join(str(number) for number in notice.numbers)}, {_payload(opened)}"
        else:
            words += f", {notice.kind}"
        if notice.contexts:
            words += f", seen with {', '.join(notice.contexts)}"
    return words


def _payload(opened: Opened) -> str:
    changes = [change for change in opened.changes if isinstance(change, Change)]
    if any(change.resource is not None for change in changes):
        return "full resource"
    return "id only" if changes else "empty"


def _written(code: Code) -> str:
    return "|".join(part for part in code if part)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def as_json(each: Inspected, feed: Feed) -> dict[str, Any]:
    """Return what becomes of a change as JSON values, dates and times as FHIR writes them."""
    change, fact = each.change, each.fact
    meeting = next((found for found in each.evidence if isinstance(found, Meeting)), None)
    form = next((found for found in each.evidence if isinstance(found, Form)), None)
    return {
        "envelope": each.envelope,
        "change": None
        if change is None
        else {
            "type": change.resource_type,
            "id": change.resource_id,
            "operation": change.operation.value,
            "version": each.version,
            "lastUpdated": each.last_updated,
        },
        "relevant": each.relevant,
        "reason": each.reason,
        "fact": None
        if fact is None
        else {
            "source": fact.key.source,
            "reference": fact.key.reference,
            "patient": fact.patient_id,
            "deleted": fact.order.deleted,
            "reading": reading_as_json(fact.reading),
            "labels": ["|".join(label) for label in fact.labels],
        },
        "measures": [_measure(found, feed) for found in each.evidence if isinstance(found, Scored)],
        "session": None
        if meeting is None
        else {
            "state": meeting.state.value,
            "start": meeting.start,
            "end": getattr(fact.reading, "end", None) if fact is not None else None,
            "kind": meeting.kind.value,
            "minutes": meeting.minutes,
            "impossibleDuration": meeting.odd_duration,
        },
        "form": None if form is None else form.kind.value,
        "parked": None if each.parked is None else {"code": each.parked.code, "path": each.parked.path},
        "asides": list(each.asides),
        "deviations": list(each.deviations),
    }


def _measure(found: Scored, feed: Feed) -> dict[str, Any]:
    measure = found.measure
    return {
        "instrument": feed.mappings.instruments[measure.instrument].title,
        "taken": measure.taken,
        "total": measure.total,
        "statedTotal": measure.stated_total,
        "items": list(measure.items),
        "missing": [number for number, points in enumerate(measure.items, 1) if points is None],
        "band": measure.band,
        "safety": measure.safety,
        "safetyUnanswered": measure.safety_unanswered,
        "contradicted": list(measure.contradicted),
    }


def reading_as_json(reading: Reading | None) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return a reading as JSON values, codes as `system|code`; None for none."""
    return orjson.loads(orjson.dumps(reading, default=_as_json))


def _as_json(value: Value | Code) -> dict[str, Any] | str:
    return structs.asdict(value) if isinstance(value, Value) else "|".join(value)
