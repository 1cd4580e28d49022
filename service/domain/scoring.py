"""Scoring: from the answers of a response to one instrument's measure.

The total is recomputed from the items; a missing item is never prorated. Where a sender states a total,
or a score beside a coded answer, the code decides and the contradiction is kept. Only where an
instrument's items may not be reproduced, and so are not asked here, does the stated total stand,
unless the items that did come can't add up to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.codes import LOINC
from service.domain.course import Measure
from service.domain.facts import Code

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from service.domain.facts import Answer, ResponseReading
    from service.domain.instruments import Instrument

COMPLETE = frozenset({"completed", "amended"})
"""QuestionnaireResponse statuses whose answers stand as given."""
_YES_OR_NO = {True: (Code(LOINC, "LA33-6"),), False: (Code(LOINC, "LA32-8"),)}
"""What a boolean answers, where an item has these answers."""
_YES_NO_CODES = {code for codes in _YES_OR_NO.values() for code in codes}


def score(
    response: ResponseReading,
    instrument: Instrument,
    *,
    taken: datetime,
    fact: str,
    site_link_ids: Mapping[str, int] | None = None,
) -> Measure:
    """Return the measure that the answers of a response amount to.

    Points as the instrument defines them. A response that is in progress or stopped has no total,
    but its answer to a self-harm item counts. `site_link_ids` maps a site's own linkIds, without
    leading slash, to the index of the item.
    """
    items: list[int | None] = [None] * len(instrument.items)
    contradicted: set[int] = set()
    stated: float | None = None
    safety_scores: list[int] = []
    safety_index = instrument.safety.item - 1 if instrument.safety else None
    for answer in response.answers:
        index, clash = _item(answer, instrument, site_link_ids or {})
        if index is None:
            if _is_total(answer, instrument) and answer.number is not None:
                stated = answer.number
            continue
        points, doubtful = _points(answer, instrument, index)
        if points is not None and index == safety_index:
            safety_scores.append(points)
        if clash or doubtful or (items[index] is not None and items[index] != points):
            contradicted.add(index + 1)
        if points is not None and items[index] is None:
            items[index] = points
        elif points != items[index]:
            items[index] = None
    complete = response.status in COMPLETE
    known = [points for points in items if points is not None]
    total = _total(items, stated, instrument) if complete else None
    safety = max(safety_scores) if safety_scores else None
    if instrument.safety_total is not None:
        safety = max(known, default=None)
    return Measure(
        instrument=instrument.id,
        taken=taken,
        total=total,
        stated_total=stated,
        items=tuple(items),
        band=None if total is None else instrument.band(total),
        safety=safety,
        safety_unanswered=bool(complete and (known or contradicted) and _leaves_out(instrument, total, safety)),
        contradicted=tuple(sorted(contradicted)),
        fact=fact,
    )


def _total(items: list[int | None], stated: float | None, instrument: Instrument) -> int | None:
    """Return the total of a completed response; None while an item that is asked is missing."""
    known = [points for points in items if points is not None]
    if instrument.scoring == "highest":
        return max(known, default=None) if _all_asked(items, instrument) else None
    if len(known) == len(items):
        return sum(known)
    if instrument.scoring != "stated":
        return None
    missing = [most for points, most in zip(items, instrument.item_maximum, strict=True) if points is None]
    total = _whole(stated, instrument.maximum)
    return total if total is not None and 0 <= total - sum(known) <= sum(missing) else None


def _all_asked(items: list[int | None], instrument: Instrument) -> bool:
    """Whether every item that earlier answers lead to is answered."""
    return all(
        points is not None or (item.asked_if is not None and not items[item.asked_if - 1])
        for points, item in zip(items, instrument.items, strict=True)
    )


def _leaves_out(instrument: Instrument, total: int | None, safety: int | None) -> bool:
    """Whether what an instrument asks about self-harm is left open."""
    if instrument.safety_total is not None:
        return total is None
    return instrument.safety is not None and safety is None


def _item(answer: Answer, instrument: Instrument, site: Mapping[str, int]) -> tuple[int | None, bool]:
    """Return which item is answered, and whether its code and its linkId name different ones."""
    link_id = answer.link_id.removeprefix("/")
    by_link = site[link_id] if link_id in site else instrument.item_named(link_id)
    for system, code in answer.item_codes:
        if system in {LOINC, ""} and (by_code := instrument.item_codes.get(code)) is not None:
            return by_code, by_link not in {None, by_code}
    return by_link, False


def _is_total(answer: Answer, instrument: Instrument) -> bool:
    return answer.link_id.removeprefix("/") in instrument.total_ids or any(
        code in instrument.total_codes for _, code in answer.item_codes
    )


def _points(answer: Answer, instrument: Instrument, index: int) -> tuple[int | None, bool]:
    """Return the points of an answer and whether it contradicts itself or is no answer to the item."""
    given, scores = answer.codes, instrument.item_scores[index]
    if not given and answer.boolean is not None and scores.keys() >= _YES_NO_CODES:
        given = _YES_OR_NO[answer.boolean]
    coded = set()
    for code in given:
        points = scores.get(code)
        if points is None and not code.system:
            points = instrument.bare_scores[index].get(code.code)
        if points is not None:
            coded.add(points)
    if len(coded) > 1:
        return None, True
    number = answer.number if answer.ordinal is None else answer.ordinal
    if coded and number is None:
        return coded.pop(), False
    stated = _whole(number, instrument.item_maximum[index])
    by_number = instrument.items[index].points
    if by_number and stated not in {*by_number, *scores.values()}:
        stated = None
    if coded:
        points = coded.pop()
        return points, stated != points
    # Whatever else was answered, in words or by a code that is not the item's, is an answer that nobody could read.
    return stated, stated is None


def _whole(number: float | None, maximum: int) -> int | None:
    if number is None or not number.is_integer() or not 0 <= number <= maximum:
        return None
    return int(number)
