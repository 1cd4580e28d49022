"""Codes, out of every shape that carries them, with one name for each code system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.codes import LOINC, SNOMED_CT
from service.domain.facts import Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from service.inbound.shapes import Concept, Meta

_SYSTEMS = {
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "urn:oid:2.16.840.1.113883.6.12": "http://www.ama-assn.org/go/cpt",
    "urn:oid:2.16.840.1.113883.6.96": SNOMED_CT,
    "urn:oid:2.16.840.1.113883.5.4": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://hl7.org/fhir/v3/ActCode": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
}
"""Other names of code systems that the mappings name, as registered in HL7 Terminology."""


def code_of(system: str | None, code: str) -> Code:
    """Return a code, trimmed already, with its system's usual name."""
    return Code(_SYSTEMS.get(system, system) if system else "", code)


def raw_codes(value: object) -> Iterator[Code]:
    """Yield the codes of a Coding, a CodeableConcept, a CodeableReference, or a list of any of these."""
    waiting = [value]
    while waiting:
        shape = waiting.pop()
        if isinstance(shape, list):
            waiting.extend(reversed(shape))
        elif isinstance(shape, dict):
            system, code = shape.get("system"), shape.get("code")
            if isinstance(code, str) and (code := code.strip()):
                yield code_of(system.strip() if isinstance(system, str) else "", code)
            waiting.extend(shape[name] for name in ("concept", "coding") if name in shape)


def codes(concepts: Iterable[Concept | None] | None) -> tuple[Code, ...]:
    """Return the codes of concepts in their order, each once."""
    return tuple(dict.fromkeys(_codes(concepts))) if concepts else ()


def _codes(concepts: Iterable[Concept | None]) -> Iterator[Code]:
    for concept in concepts:
        if concept is None:
            continue
        if concept.code:
            yield code_of(concept.system, concept.code)
        if concept.coding:
            yield from _codes(concept.coding)
        if concept.concept:
            yield from _codes((concept.concept,))


def security_labels(meta: Meta | None) -> tuple[Code, ...]:
    """Return the codes of `meta.security`, sorted."""
    return tuple(sorted(codes(meta.security))) if meta else ()
