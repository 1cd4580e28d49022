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


def code_of(system: object, code: object) -> Code | None:
    """Return the trimmed code with its system's usual name, or None if there is none."""
    if not isinstance(code, str) or not (code := code.strip()):
        return None
    system = system.strip() if isinstance(system, str) else ""
    return Code(_SYSTEMS.get(system, system), code)


def raw_codes(value: object) -> Iterator[Code]:
    """Yield the codes of a Coding, a CodeableConcept, a CodeableReference, or a list of any of these."""
    waiting = [value]
    while waiting:
        shape = waiting.pop()
        if isinstance(shape, list):
            waiting.extend(reversed(shape))
        elif isinstance(shape, dict):
            if (code := code_of(shape.get("system"), shape.get("code"))) is not None:
                yield code
            waiting.extend(shape[name] for name in ("concept", "coding") if name in shape)


def codes(concepts: Iterable[Concept | None] | None) -> tuple[Code, ...]:
    """Return the codes of concepts in their order, each once."""
    return tuple(dict.fromkeys(_codes(concepts or ())))


def _codes(concepts: Iterable[Concept | None]) -> Iterator[Code]:
    for concept in concepts:
        if concept is None:
            continue
        if (code := code_of(concept.system, concept.code)) is not None:
            yield code
        yield from _codes(concept.coding or ())
        yield from _codes((concept.concept,))


def security_labels(meta: Meta | None) -> tuple[Code, ...]:
    """Return the codes of `meta.security`, sorted."""
    return tuple(sorted(codes(meta.security))) if meta else ()
