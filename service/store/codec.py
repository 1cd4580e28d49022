"""Readings of facts as compact JSON text, and back.

A body is a list that begins with `FORMAT`, so that an older body can be told from a newer one.
A code is one string, `system|code`; an answer is the JSON text of a list inside the list: the same
few codes and answers come again and again, and a text can be looked up where a list would have to be built.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from service.domain.facts import (
    ActReading,
    Answer,
    Code,
    EncounterReading,
    PatientReading,
    ResponseReading,
    TaskReading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.domain.facts import Reading

FORMAT = 1
_ENCOUNTER = 0
_RESPONSE = 1
_TASK = 2
_PATIENT = 3
_ACT = 4
_VOCABULARY = 65_536
"""Distinct codes, and distinct answers, kept decoded: some 20 MB each at the most."""


def encode(reading: Reading) -> str:
    """Return the body of a reading: JSON text that `decode` reads. Times keep the offset they were given in."""
    if isinstance(reading, EncounterReading):
        body: list[Any] = [
            FORMAT,
            _ENCOUNTER,
            reading.status,
            _texts(reading.types),
            _texts(reading.classes),
            _texts(reading.reasons),
            reading.start and reading.start.isoformat(),
            reading.end and reading.end.isoformat(),
            reading.practitioners,
            reading.episodes,
            reading.based_on,
            reading.part_of,
            reading.conditions,
            reading.locations,
        ]
    elif isinstance(reading, PatientReading):
        body = [FORMAT, _PATIENT, reading.replaced_by, reading.replaces]
    elif isinstance(reading, ActReading):
        at = reading.at.isoformat()
        body = [
            FORMAT,
            _ACT,
            reading.status,
            reading.course,
            reading.role,
            reading.destination,
            at,
            reading.version,
            reading.edited,
        ]
    elif isinstance(reading, TaskReading):
        body = [
            FORMAT,
            _TASK,
            reading.status,
            reading.identifier,
            reading.modified and reading.modified.isoformat(),
            reading.owner,
        ]
    else:
        body = [
            FORMAT,
            _RESPONSE,
            reading.status,
            reading.questionnaire,
            reading.authored and reading.authored.isoformat(),
            reading.encounter,
            reading.author,
            [_answer_text(answer) for answer in reading.answers],
        ]
    return orjson.dumps(body).decode()


def decode(body: str) -> Reading:
    """Return the reading that `encode` made a body of.

    Raises ValueError if the body is of a format that this release does not know.
    """
    form, kind, *elements = orjson.loads(body)
    if form != FORMAT:
        msg = "the body of a fact is of a format that this release does not know"
        raise ValueError(msg)
    if kind == _ENCOUNTER:
        (
            status,
            types,
            classes,
            reasons,
            start,
            end,
            practitioners,
            episodes,
            based_on,
            part_of,
            conditions,
            locations,
        ) = elements
        return EncounterReading(
            status,
            _codes(types),
            _codes(classes),
            _codes(reasons),
            start and datetime.fromisoformat(start),
            end and datetime.fromisoformat(end),
            tuple(practitioners),
            tuple(episodes),
            tuple(based_on),
            part_of,
            tuple(conditions),
            tuple(locations),
        )
    if kind == _TASK:
        status, identifier, modified, owner = elements
        return TaskReading(status, identifier, modified and datetime.fromisoformat(modified), owner)
    if kind == _ACT:
        status, course, role, destination, at, version, *rest = elements
        # Bodies of before edits were told end here.
        edited = tuple(rest[0]) if rest else ()
        return ActReading(status, course, role, destination, datetime.fromisoformat(at), version, edited)
    if kind == _PATIENT:
        replaced_by, replaces = elements
        return PatientReading(tuple(replaced_by), tuple(replaces))
    status, questionnaire, authored, encounter, author, answers = elements
    return ResponseReading(
        status,
        questionnaire,
        authored and datetime.fromisoformat(authored),
        encounter,
        author,
        tuple([_answer(text) for text in answers]),
    )


def encode_labels(labels: Iterable[Code]) -> str | None:
    """Return security labels as JSON text; None for none, the common case."""
    texts = _texts(labels)
    return orjson.dumps(texts).decode() if texts else None


def decode_labels(text: str | None) -> tuple[Code, ...]:
    """Return the security labels that `encode_labels` made a text of."""
    return _codes(orjson.loads(text)) if text else ()


def _codes(texts: Iterable[str]) -> tuple[Code, ...]:
    return tuple([_code(text) for text in texts])


def _texts(codes: Iterable[Code]) -> list[str]:
    return [_code_text(code) for code in codes]


@lru_cache(_VOCABULARY)
def _code_text(code: Code) -> str:
    # A bar inside the system would move the place where `_code` splits.
    return f"{code.system.replace('%', '%25').replace('|', '%7C')}|{code.code}"


@lru_cache(_VOCABULARY)
def _code(text: str) -> Code:
    system, code = text.split("|", 1)
    return Code(system.replace("%7C", "|").replace("%25", "%"), code)


def _answer_text(answer: Answer) -> str:
    # Not cached: 1 and 1.0 are equal as keys, and each must keep its own text.
    parts: Sequence[Any] = (
        answer.link_id,
        _texts(answer.item_codes),
        _texts(answer.codes),
        answer.number,
        answer.boolean,
        answer.ordinal,
    )
    return orjson.dumps(parts).decode()


@lru_cache(_VOCABULARY)
def _answer(text: str) -> Answer:
    link_id, item_codes, codes, number, boolean, ordinal = orjson.loads(text)
    return Answer(
        link_id,
        _codes(item_codes),
        _codes(codes),
        number,
        boolean,
        ordinal,
    )
