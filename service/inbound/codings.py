"""Codes, out of every shape that carries them, with one name for each code system."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from service.domain.codes import LOINC, SNOMED_CT
from service.domain.facts import Code
from service.inbound.elements import WrongType, many, one, text
from service.inbound.records import Reason, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from service.inbound.elements import Element

_Reading = TypeVar("_Reading")

_SYSTEMS = {
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "urn:oid:2.16.840.1.113883.6.12": "http://www.ama-assn.org/go/cpt",
    "urn:oid:2.16.840.1.113883.6.96": SNOMED_CT,
    "urn:oid:2.16.840.1.113883.5.4": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://hl7.org/fhir/v3/ActCode": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
}
"""Other names of code systems that the mappings name, as registered in HL7 Terminology."""
_VOCABULARY = 4_096
"""Distinct codes that are kept, rather than made again: a source writes the same few in every record."""
_LONGEST_KEPT = 200
"""Characters of such a code and its system: what else a sender may have put there is not kept here."""


def code_of(system: str, code: str) -> Code:
    """Return a code, trimmed already, with its system's usual name."""
    return _kept(system, code) if len(system) + len(code) <= _LONGEST_KEPT else _named(system, code)


def _named(system: str, code: str) -> Code:
    return Code(_SYSTEMS.get(system, system), code)


_kept = lru_cache(_VOCABULARY)(_named)


def raw_codes(value: object) -> list[Code]:
    """Return the codes of a Coding, a CodeableConcept, a CodeableReference, or a list of any of these.

    What is none of them is passed over.
    """
    found = []
    waiting = [value]
    while waiting:
        shape = waiting.pop()
        if isinstance(shape, dict):
            code = shape.get("code")
            if isinstance(code, str) and (code := code.strip()):
                system = shape.get("system")
                found.append(code_of(system.strip() if isinstance(system, str) else "", code))
            if "coding" in shape:
                waiting.append(shape["coding"])
            if "concept" in shape:
                waiting.append(shape["concept"])
        elif isinstance(shape, list):
            waiting += shape
    return found


def codes(concepts: Sequence[Element]) -> tuple[Code, ...]:
    """Return the codes of Codings, CodeableConcepts or CodeableReferences in their order, each once.

    Raises WrongType.
    """
    if not concepts:
        return ()
    found: dict[Code, None] = {}
    for concept in concepts:
        _add_codes(concept, found)
    return tuple(found)


def _add_codes(concept: Element, found: dict[Code, None]) -> None:
    if "code" in concept or "system" in concept:
        system, code = text(concept, "system"), text(concept, "code")
        if code:
            found[code_of(system, code)] = None
    if "coding" in concept:
        for coding in many(concept, "coding"):
            _add_codes(coding, found)
    if "concept" in concept and (inner := one(concept, "concept")) is not None:
        _add_codes(inner, found)


def security_labels(resource: Element) -> tuple[Code, ...]:
    """Return the codes of `meta.security`, sorted. Raises WrongType."""
    meta = one(resource, "meta")
    labels = many(meta, "security") if meta else ()
    return tuple(sorted(codes(labels))) if labels else ()


def read_with_labels(
    read: Callable[[Element, Mapping[str, str], ZoneInfo], _Reading],
    resource: Element,
    local: Mapping[str, str],
    zone: ZoneInfo,
    path: str,
) -> tuple[_Reading, tuple[Code, ...]]:
    """Return what `read` makes of a resource, and its security labels. Raises Unreadable (wrong-type)."""
    try:
        labels = security_labels(resource)
        return read(resource, local, zone), labels
    except WrongType as wrong:
        raise Unreadable(Reason.WRONG_TYPE, path + wrong.path(resource)) from None
