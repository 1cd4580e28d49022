"""What an Encounter says, in R4's words whichever version it is written in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.domain.facts import EncounterReading
from service.inbound.codings import codes, security_labels
from service.inbound.records import Reason, Unreadable
from service.inbound.references import target
from service.inbound.shapes import Encounter, Period, fit
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from zoneinfo import ZoneInfo

    from service.domain.facts import Code
    from service.inbound.shapes import Concept

STATUSES = {
    "planned": "planned",
    "arrived": "arrived",
    "triaged": "triaged",
    "in-progress": "in-progress",
    "onleave": "onleave",
    "finished": "finished",
    "cancelled": "cancelled",
    "entered-in-error": "entered-in-error",
    "unknown": "unknown",
    # R5's own. Discharged: the visit is over and its paperwork is not. Discontinued: R4 has no word for it.
    "on-hold": "onleave",
    "discharged": "finished",
    "completed": "finished",
    "discontinued": "discontinued",
}
"""The reading's word for each status. Source: value set encounter-status of R4 and of R5."""
_WHO = frozenset({"Practitioner", "PractitionerRole"})


def read_encounter(
    resource: Mapping[str, Any], local: Mapping[str, str], zone: ZoneInfo, path: str
) -> tuple[EncounterReading, tuple[Code, ...]]:
    """Return the reading of an Encounter and its security labels.

    A period that is no time is left out: a session counts by its status and code.
    Raises Unreadable: old-fhir-version, wrong-type, bad-status.
    """
    if isinstance(resource.get("class"), str) or ("patient" in resource and "subject" not in resource):
        raise Unreadable(Reason.OLD_FHIR_VERSION, path)
    encounter = fit(Encounter, resource, path)
    status = STATUSES.get(encounter.status or "")
    if status is None:
        raise Unreadable(Reason.BAD_STATUS, f"{path}.status")
    period = encounter.actual_period or encounter.period or Period()
    part_of = target(encounter.part_of, local, "Encounter")
    reading = EncounterReading(
        status=status,
        types=codes((*(encounter.type or ()), *(encounter.service_type or ()))),
        classes=codes(encounter.class_),
        reasons=codes(_reasons(encounter)),
        start=parse_time(period.start or encounter.planned_start_date, zone),
        end=parse_time(period.end or encounter.planned_end_date, zone),
        practitioners=_relatives((who.individual or who.actor for who in encounter.participant or ()), local, _WHO),
        episodes=_relatives(encounter.episode_of_care or (), local, {"EpisodeOfCare"}),
        based_on=_relatives(encounter.based_on or (), local),
        part_of=part_of.relative if part_of else None,
        conditions=_relatives(_diagnoses(encounter), local, {"Condition"}),
        locations=_relatives((place.location for place in encounter.location or ()), local, {"Location"}),
    )
    return reading, security_labels(encounter.meta)


def _reasons(encounter: Encounter) -> Iterator[Concept]:
    yield from encounter.reason_code or ()
    for reason in encounter.reason or ():
        yield reason
        yield from reason.value or ()


def _diagnoses(encounter: Encounter) -> Iterator[Mapping[str, Any]]:
    yield from encounter.reason_reference or ()
    for diagnosis in encounter.diagnosis or ():
        yield from diagnosis.condition or ()
    for reason in encounter.reason or ():
        for value in reason.value or ():
            yield {"reference": value.reference}


def _relatives(
    references: Iterable[Mapping[str, Any] | None], local: Mapping[str, str], types: AbstractSet[str] | None = None
) -> tuple[str, ...]:
    """Return the relative references to resources of these types, sorted, each once."""
    expected = next(iter(types)) if types and len(types) == 1 else None
    found = (target(reference, local, expected) for reference in references)
    return tuple(sorted({name.relative for name in found if name and (not types or name.resource_type in types)}))
