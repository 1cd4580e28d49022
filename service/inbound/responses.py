"""What a QuestionnaireResponse says: coded and numeric answers, and never a text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from service.domain.facts import Answer, ResponseReading
from service.inbound.codings import code_of, codes, read_with_labels
from service.inbound.elements import many, one, text
from service.inbound.records import Reason, Unreadable
from service.inbound.references import target, without_version
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from service.domain.facts import Code
    from service.inbound.elements import Element

STATUSES = frozenset({"in-progress", "completed", "amended", "entered-in-error", "stopped"})
"""Source: value set questionnaire-answers-status of R4 and of R5."""
ORDINALS = frozenset(
    {
        "http://hl7.org/fhir/StructureDefinition/ordinalValue",
        "http://hl7.org/fhir/StructureDefinition/itemWeight",
        "http://hl7.org/fhir/StructureDefinition/questionnaire-ordinalValue",
        "http://hl7.org/fhir/StructureDefinition/iso21090-CO-value",
    }
)
"""Extensions that carry the score of an answer: R4's, R5's and two older ones."""
_NUMERIC = re.compile(r"[+-]?\d{1,9}(?:\.\d{1,9})?", re.ASCII)


class _Names(NamedTuple):
    """What the values of an answer are called."""

    coding: str
    integer: str
    decimal: str
    quantity: str
    string: str
    boolean: str


_FHIR = _Names("valueCoding", "valueInteger", "valueDecimal", "valueQuantity", "valueString", "valueBoolean")
_AIDBOX = _Names("Coding", "integer", "decimal", "Quantity", "string", "boolean")
"""Aidbox's own format has `value.Coding` in place of `valueCoding`."""


def read_response(
    resource: Mapping[str, Any], local: Mapping[str, str], zone: ZoneInfo, path: str
) -> tuple[ResponseReading, tuple[Code, ...]]:
    """Return the reading of a QuestionnaireResponse and its security labels.

    Raises Unreadable: old-fhir-version, wrong-type, bad-status, bad-time.
    """
    if isinstance(resource.get("questionnaire"), dict) or "context" in resource or "group" in resource:
        raise Unreadable(Reason.OLD_FHIR_VERSION, path)
    reading, labels = read_with_labels(_reading, resource, local, zone, path)
    if reading.status not in STATUSES:
        raise Unreadable(Reason.BAD_STATUS, f"{path}.status")
    if reading.authored is None and resource.get("authored"):
        raise Unreadable(Reason.BAD_TIME, f"{path}.authored")
    return reading, labels


def _reading(response: Element, local: Mapping[str, str], zone: ZoneInfo) -> ResponseReading:
    """Return the reading, with whatever status is written."""
    encounter = target(one(response, "encounter"), local, "Encounter")
    author = target(one(response, "author"), local)
    answers: list[Answer] = []
    _add_answers(response, answers)
    return ResponseReading(
        status=text(response, "status"),
        questionnaire=without_version(text(response, "questionnaire")),
        authored=parse_time(response.get("authored"), zone),
        encounter=encounter.relative if encounter else None,
        author=author.relative if author else None,
        answers=tuple(answers),
    )


def _add_answers(parent: Element, found: list[Answer]) -> None:
    """Add the answered items in their order, whatever group or answer they are nested in."""
    for item in many(parent, "item"):
        given = many(item, "answer")
        answer = _answer(item, given)
        if answer is not None:
            found.append(answer)
        if "item" in item:
            _add_answers(item, found)
        for each in given:
            if "item" in each:
                _add_answers(each, found)


def _answer(item: Element, given: Iterable[Element]) -> Answer | None:
    """Return what was answered: without code and number if in words, None if not at all."""
    link_id = text(item, "linkId")
    # No element of FHIR's QuestionnaireResponse; some senders write it.
    item_codes = codes(many(item, "code")) if "code" in item else ()
    coded: dict[Code, None] = {}
    number = ordinal = boolean = None
    answered = False
    for answer in given:
        value, names = _own_value(answer) if "value" in answer else (answer, _FHIR)
        coding = one(value, names.coding)
        if coding is not None:
            answered = True
            system, code = text(coding, "system"), text(coding, "code")
            if code:
                coded[code_of(system, code)] = None
            if "extension" in coding:
                ordinal = _ordinal(coding, ordinal)
        elif isinstance(stated := value.get(names.boolean), bool):
            boolean = stated if boolean is None else boolean
        elif other := _other_codes(answer):
            answered = True
            coded |= other
        else:
            number = _number(value, names) if number is None else number
            answered = answered or bool(value.get(names.string))
        if "extension" in answer:
            ordinal = _ordinal(answer, ordinal)
    if not answered and number is None and ordinal is None and boolean is None:
        return None
    return Answer(
        link_id=link_id,
        item_codes=item_codes,
        codes=tuple(coded),
        number=number,
        boolean=boolean,
        ordinal=ordinal,
    )


def _other_codes(answer: Element) -> dict[Code, None]:
    """Return the codes of an answer that is written as a CodeableConcept or as a code, which FHIR has no place for."""
    concept = one(answer, "valueCodeableConcept")
    if concept is not None:
        return dict.fromkeys(codes((concept,)))
    code = text(answer, "valueCode")
    return {code_of("", code): None} if code else {}


def _own_value(answer: Element) -> tuple[Element, _Names]:
    """Return the element that holds the value of an answer in Aidbox's format, and under which names."""
    own = one(answer, "value")
    return (answer, _FHIR) if own is None else (own, _AIDBOX)


def _number(value: Element, names: _Names) -> float | None:
    quantity = value.get(names.quantity)
    for stated in (
        value.get(names.integer),
        value.get(names.decimal),
        quantity.get("value") if isinstance(quantity, dict) else None,
        value.get(names.string),
    ):
        if stated is not None and (number := _numeric(stated)) is not None:
            return number
    return None


def _ordinal(element: Element, known: float | None) -> float | None:
    """Return the score that an element's first extension of that kind carries, unless one is known."""
    scores = [each for each in many(element, "extension") if text(each, "url") in ORDINALS]
    if known is not None or not scores:
        return known
    decimal = scores[0].get("valueDecimal")
    return _numeric(scores[0].get("valueInteger") if decimal is None else decimal)


def _numeric(stated: object) -> float | None:
    """Return a number that is one, or is written as one; words and truth values are none."""
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return float(stated)
    if isinstance(stated, str) and _NUMERIC.fullmatch(stated.strip()):
        return float(stated)
    return None
