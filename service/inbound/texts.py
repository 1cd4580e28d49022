"""Answers in words: read as the codes that a site's mapping gives them, and as nothing else.

The words are not kept. Without such a mapping they are answers that nobody can read, and are flagged as that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.domain.codes import as_written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.facts import Code

_OWN_CODE = ("valueCoding", "valueString")
_AIDBOX = ("Coding", "string")


def with_codes(response: Mapping[str, Any], texts: Mapping[str, Code]) -> Mapping[str, Any]:
    """Return a QuestionnaireResponse whose answers in words have their codes; itself, where none has one of these.

    An answer that has a code of its own keeps it. `texts` are `as_written`.
    """
    items = response.get("item")
    if not isinstance(items, list):
        return response
    read = [_item(each, texts) if isinstance(each, dict) else each for each in items]
    return response if all(one is other for one, other in zip(items, read, strict=True)) else {**response, "item": read}


def _item(item: Mapping[str, Any], texts: Mapping[str, Code]) -> Mapping[str, Any]:
    answers = item.get("answer")
    if isinstance(answers, list):
        read = [_answer(each, texts) if isinstance(each, dict) else each for each in answers]
        if any(one is not other for one, other in zip(answers, read, strict=True)):
            item = {**item, "answer": read}
    return with_codes(item, texts)


def _answer(answer: Mapping[str, Any], texts: Mapping[str, Code]) -> Mapping[str, Any]:
    own = answer.get("value")
    if isinstance(own, dict):
        coded = _coded(own, _AIDBOX, texts)
        answer = answer if coded is own else {**answer, "value": coded}
    else:
        answer = _coded(answer, _OWN_CODE, texts)
    return with_codes(answer, texts)


def _coded(value: Mapping[str, Any], names: tuple[str, str], texts: Mapping[str, Code]) -> Mapping[str, Any]:
    """Return the element with a Coding in place of words that stand for one."""
    coding, text = value.get(names[0]), value.get(names[1])
    if isinstance(coding, dict):
        if coding.get("code"):
            return value
        text = coding.get("display")
    code = texts.get(as_written(text)) if isinstance(text, str) else None
    if code is None:
        return value
    kept = {name: inner for name, inner in value.items() if name not in names}
    extensions = {"extension": coding["extension"]} if isinstance(coding, dict) and "extension" in coding else {}
    return {**kept, names[0]: {"system": code.system, "code": code.code, **extensions}}
