"""What a QuestionnaireResponse says: coded and numeric answers, and never a text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from service.domain.facts import Answer, ResponseReading
from service.inbound.codings import code_of, codes, security_labels
from service.inbound.records import Reason, Unreadable
from service.inbound.references import target
from service.inbound.shapes import QuestionnaireResponse, fit
from service.inbound.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from service.domain.facts import Code
    from service.inbound import shapes

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


def read_response(
    resource: Mapping[str, Any], local: Mapping[str, str], zone: ZoneInfo, path: str
) -> tuple[ResponseReading, tuple[Code, ...]]:
    """Return the reading of a QuestionnaireResponse and its security labels.

    Raises Unreadable: old-fhir-version, wrong-type, bad-status, bad-time.
    """
    if isinstance(resource.get("questionnaire"), dict) or "context" in resource or "group" in resource:
        raise Unreadable(Reason.OLD_FHIR_VERSION, path)
    response = fit(QuestionnaireResponse, resource, path)
    if response.status not in STATUSES:
        raise Unreadable(Reason.BAD_STATUS, f"{path}.status")
    authored = parse_time(response.authored, zone)
    if authored is None and response.authored:
        raise Unreadable(Reason.BAD_TIME, f"{path}.authored")
    answers: list[Answer] = []
    _answered(response.item or (), answers)
    encounter = target(response.encounter, local, "Encounter")
    author = target(response.author, local)
    reading = ResponseReading(
        status=response.status,
        questionnaire=(response.questionnaire or "").split("|", 1)[0].strip(),
        authored=authored,
        encounter=encounter.relative if encounter else None,
        author=author.relative if author else None,
        answers=tuple(answers),
    )
    return reading, security_labels(response.meta)


def _answered(items: Iterable[shapes.Item], found: list[Answer]) -> None:
    """Add the answered items in their order, whatever group or answer they are nested in."""
    for item in items:
        if item.answer and (answer := _answer(item, item.answer)) is not None:
            found.append(answer)
        if item.item:
            _answered(item.item, found)
        for given in item.answer or ():
            if given.item:
                _answered(given.item, found)


def _answer(item: shapes.Item, given: Iterable[shapes.Answer]) -> Answer | None:
    """Return what was answered: without code and number if in words, None if not at all."""
    coded: list[Code] = []
    number = ordinal = boolean = None
    answered = False
    for answer in given:
        value = answer.value or answer
        coding = value.value_coding
        if coding is not None:
            answered = True
            if coding.code:
                coded.append(code_of(coding.system, coding.code))
            if coding.extension and ordinal is None:
                ordinal = _ordinal(coding.extension)
        elif isinstance(value.value_boolean, bool):
            boolean = value.value_boolean if boolean is None else boolean
        else:
            number = _number(value) if number is None else number
            answered = answered or bool(value.value_string)
        if answer.extension and ordinal is None:
            ordinal = _ordinal(answer.extension)
    if not answered and number is None and ordinal is None and boolean is None:
        return None
    return Answer(
        link_id=item.link_id or "",
        item_codes=codes(item.code),
        codes=tuple(dict.fromkeys(coded)),
        number=number,
        boolean=boolean,
        ordinal=ordinal,
    )


def _number(value: shapes.Answer | shapes.AidboxValue) -> float | None:
    quantity = value.value_quantity
    for stated in (
        value.value_integer,
        value.value_decimal,
        quantity.get("value") if isinstance(quantity, dict) else None,
        value.value_string,
    ):
        if stated is not None and (number := _numeric(stated)) is not None:
            return number
    return None


def _ordinal(extensions: Iterable[shapes.Extension]) -> float | None:
    for extension in extensions:
        if extension.url in ORDINALS:
            return _numeric(extension.value_decimal if extension.value_decimal is not None else extension.value_integer)
    return None


def _numeric(stated: object) -> float | None:
    """Return a number that is one, or is written as one; words and truth values are none."""
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return float(stated)
    if isinstance(stated, str) and _NUMERIC.fullmatch(stated.strip()):
        return float(stated)
    return None
