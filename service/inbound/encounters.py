"""What an Encounter says, in R4's words whichever version it is written in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.domain.facts import EncounterReading
from service.inbound.codings import codes, read_with_labels
from service.inbound.elements import many, one, text
from service.inbound.records import Reason, Unreadable
from service.inbound.references import target
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from service.domain.facts import Code
    from service.inbound.elements import Element

_PRACTITIONERS = ("Practitioner", "PractitionerRole")
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


def read_encounter(
    resource: Mapping[str, Any], local: Mapping[str, str], zone: ZoneInfo, path: str
) -> tuple[EncounterReading, tuple[Code, ...]]:
    """Return the reading of an Encounter and its security labels.

    A period that is no time is left out: a session counts by its status and code.
    Raises Unreadable: old-fhir-version, wrong-type, bad-status.
    """
    if isinstance(resource.get("class"), str) or ("patient" in resource and "subject" not in resource):
        raise Unreadable(Reason.OLD_FHIR_VERSION, path)
    reading, labels = read_with_labels(_reading, resource, local, zone, path)
    if not reading.status:
        raise Unreadable(Reason.BAD_STATUS, f"{path}.status")
    return reading, labels


def _reading(encounter: Element, local: Mapping[str, str], zone: ZoneInfo) -> EncounterReading:
    """Return the reading, with an empty status where FHIR has none of that name."""
    planned, actual = one(encounter, "period"), one(encounter, "actualPeriod")
    period = (planned or {}) if actual is None else actual
    part_of = target(one(encounter, "partOf"), local, "Encounter")
    return EncounterReading(
        status=STATUSES.get(text(encounter, "status"), ""),
        classes=codes(many(encounter, "class")),
        types=codes((*many(encounter, "type"), *many(encounter, "serviceType"))),
        start=parse_time(period.get("start") or encounter.get("plannedStartDate"), zone),
        end=parse_time(period.get("end") or encounter.get("plannedEndDate"), zone),
        practitioners=_practitioners(many(encounter, "participant"), local),
        episodes=_relatives(many(encounter, "episodeOfCare"), local, "EpisodeOfCare"),
        based_on=_relatives(many(encounter, "basedOn"), local),
        part_of=part_of.relative if part_of else None,
        reasons=codes(_reasons(encounter)),
        conditions=_relatives(_diagnoses(encounter), local, "Condition"),
        locations=_relatives([one(place, "location") for place in many(encounter, "location")], local, "Location"),
    )


def _practitioners(participants: Sequence[Element], local: Mapping[str, str]) -> tuple[str, ...]:
    """Return the references to practitioners, sorted; where an identifier is all there is, `Practitioner?identifier=…`.

    R4 calls them the individual; R5 the actor, who may be no practitioner.
    """
    if not participants:
        return ()
    people = []
    identified = set()
    for each in participants:
        individual, actor = one(each, "individual"), one(each, "actor")
        person = individual or actor
        people.append(person)
        if person is not None and "identifier" in person:
            identified.add(_by_identifier(person, "Practitioner" if individual else ""))
    referenced = _relatives(people, local, *_PRACTITIONERS)
    return tuple(sorted({*referenced, *identified} - {""})) if identified else referenced


def _by_identifier(person: Element, expected: str) -> str:
    """Return the conditional reference to a practitioner who is named by an identifier alone, else ""."""
    if "reference" in person or (text(person, "type") or expected) not in _PRACTITIONERS:
        return ""
    identifier = one(person, "identifier") or {}
    value = text(identifier, "value")
    return f"Practitioner?identifier={text(identifier, 'system')}|{value}" if value else ""


def _reasons(encounter: Element) -> list[Element]:
    """Return R4's `reasonCode`; R5's `reason`, whose `value` is a list; STU3's, which was the concept itself."""
    found = [*many(encounter, "reasonCode")]
    for reason in many(encounter, "reason"):
        found += (reason, *many(reason, "value"))
    return found


def _diagnoses(encounter: Element) -> list[Element]:
    """Return R4's `reasonReference`; `diagnosis.condition`, a list in R5; R5's `reason.value.reference`."""
    found = [*many(encounter, "reasonReference")]
    for diagnosis in many(encounter, "diagnosis"):
        found += many(diagnosis, "condition")
    for reason in many(encounter, "reason"):
        found += ({"reference": value.get("reference")} for value in many(reason, "value"))
    return found


def _relatives(references: Sequence[Element | None], local: Mapping[str, str], *types: str) -> tuple[str, ...]:
    """Return the relative references to resources of these types, or of any, sorted, each once."""
    if not references:
        return ()
    expected = types[0] if len(types) == 1 else None
    found = set()
    for reference in references:
        name = target(reference, local, expected)
        if name is not None and (not types or name.resource_type in types):
            found.add(name.relative)
    return tuple(sorted(found))
