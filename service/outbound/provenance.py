"""Where a plan comes from: the facts it rests on, and the rules, protocol and mappings that it was made by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.forms import FHIR_BASE
from service.outbound.elements import AUTHOR, Element, coded, instant, meta, references, source_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.domain.course import Course
    from service.domain.mappings import Mappings

PROVENANCE = "provenance"
"""Role of the Provenance among a plan's resources."""
_ASSEMBLER = ("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "assembler", "Assembler")


def provenance(course: Course, mappings: Mappings, resources: Sequence[tuple[str, Element]]) -> Element:
    """Return the Provenance of a plan's resources.

    `recorded` is the newest instant that the course's facts tell of, and not the clock: the same course gives
    the same plan. `policy` names the mappings by their digest, the protocol, and each rule that found
    something, with their versions.
    """
    return {
        "resourceType": "Provenance",
        "id": course.resource_id(PROVENANCE),
        "meta": meta(course, mappings, PROVENANCE),
        "target": references(f"{body['resourceType']}/{body['id']}" for _, body in resources),
        "recorded": f"{course.opened.isoformat()}T00:00:00Z" if course.latest is None else instant(course.latest),
        "policy": [*_policies(course, mappings)],
        "agent": [{"type": coded(_ASSEMBLER), "who": {"display": AUTHOR}}],
        "entity": [{"role": "source", "what": _named(course, fact)} for fact in _facts(course)],
    }


def _named(course: Course, fact: str) -> Element:
    """Return a reference to a fact by identifier: the source has it, and a server that the plan goes to may not."""
    kind = fact.partition("/")[0]
    return {"type": kind, "identifier": {"system": source_uri(course.source), "value": fact}}


def _policies(course: Course, mappings: Mappings) -> Iterator[str]:
    yield f"{FHIR_BASE}/mappings/{mappings.digest}"
    protocol = mappings.protocols.get(course.protocol)
    if protocol is not None:
        yield f"{FHIR_BASE}/protocol/{protocol.id}|{protocol.version}"
    for rule, version in sorted({(found.rule, found.version) for found in course.findings}):
        yield f"{FHIR_BASE}/rule/{rule}|{version}"


def _facts(course: Course) -> list[str]:
    """Return the facts of a course that the plan shows, each once: meetings, forms, measures, and answers."""
    found: dict[str, None] = {}
    for session in course.sessions:
        found |= dict.fromkeys(f"Encounter/{each}" for each in session.encounters)
        found |= dict.fromkeys(f"QuestionnaireResponse/{each}" for each in session.forms)
    for told in (
        course.documented,
        course.exclusions,
        course.focus_areas,
        course.focus_history,
        course.goals,
        course.measures,
    ):
        found |= dict.fromkeys(each.fact for each in told)
    for finding in course.findings:
        found |= dict.fromkeys(finding.facts)
        if finding.answered is not None:
            found[finding.answered.fact] = None
    found |= dict.fromkeys(each.fact for each in course.protocols if each.fact is not None)
    for aspect in course.well_being:
        found |= dict.fromkeys((aspect.first_fact, aspect.latest_fact))
    if course.outcome is not None:
        found |= dict.fromkeys(course.outcome.facts)
    if course.ending is not None:
        found[course.ending.fact] = None
    return list(found) or [course.anchor]
