"""Scores of every instrument equal those of a second scorer, which knows nothing of the mappings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.codes import LOINC
from service.domain.facts import Answer, Code, ResponseReading
from service.domain.scoring import score
from tests.history import week

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.domain.mappings import Mappings

    Given = Sequence[int | None]


def added(given: Given, stated: int | None) -> int | None:
    """A plain sum, of all items or none."""
    del stated
    return None if None in given else sum(filter(None, given))


def added_or_stated(given: Given, stated: int | None) -> int | None:
    """A plain sum, else what the sender states, if items of 0 to 3 points can come to it."""
    whole = added(given, None)
    if whole is not None or stated is None:
        return whole
    known = sum(filter(None, given))
    return stated if known <= stated <= known + 3 * given.count(None) else None


def level(given: Given, stated: int | None) -> int | None:
    """The highest level that a yes stands for, once all is asked that the answers lead to."""
    del stated
    wish, thoughts, method, intent, plan, ever, lately = given
    asked = [wish, thoughts, ever]
    asked += [method, intent, plan] if thoughts else []
    asked += [lately] if ever else []
    return None if None in asked else max([each for each in given if each is not None])


SCORERS: dict[str, tuple[Sequence[int], Callable[[Given, int | None], int | None]]] = {
    "phq-9": ([3] * 9, added),
    "phq-9m": ([3] * 9, added),
    "gad-7": ([3] * 7, added),
    "audit": ([4] * 10, added),
    "audit-c": ([4] * 3, added),
    "dast-10": ([1] * 10, added),
    "wsas": ([8] * 5, added),
    "pcl-5": ([4] * 20, added),
    "epds": ([3] * 10, added_or_stated),
    "c-ssrs": ([1, 1, 2, 3, 3, 2, 3], level),
}
"""The most points of each item, and what they come to."""


def test_no_instrument_is_left_out(mappings: Mappings) -> None:
    """Each has its second scorer."""
    assert mappings.instruments.keys() == SCORERS.keys()


@pytest.mark.parametrize("name", SCORERS)
@given(data=st.data())
def test_total_equals_the_second_scorers(name: str, data: st.DataObject, mappings: Mappings) -> None:
    """Whichever items are left out, in numbers or in codes, whatever the sender states."""
    highest, total_of = SCORERS[name]
    instrument = mappings.instruments[name]
    points = [st.sampled_from([0, most]) if name == "c-ssrs" else st.integers(0, most) for most in highest]
    if name == "audit":
        points[8:] = [st.sampled_from([0, 2, 4])] * 2
    given_points = data.draw(st.tuples(*[st.one_of(st.none(), each) for each in points]))
    stated = data.draw(st.one_of(st.none(), st.integers(0, sum(highest))))
    codes = [{points: code for code, points in scores.items()} for scores in instrument.item_scores]
    answers = []
    for item, scored, coded in zip(instrument.items, given_points, codes, strict=True):
        if scored is None:
            continue
        if scored in coded and data.draw(st.booleans()):
            answers.append(Answer(item.link_ids[0], codes=(coded[scored],)))
        else:
            answers.append(Answer(f"/{item.link_ids[0]}", number=float(scored)))
    if stated is not None:
        named = () if instrument.total is None else (Code(LOINC, instrument.total),)
        answers.append(Answer(instrument.total_link_ids[0], item_codes=named, number=float(stated)))
    reading = ResponseReading("completed", answers=tuple(data.draw(st.permutations(answers))))
    measure = score(reading, instrument, taken=week(0), fact="QuestionnaireResponse/q")
    assert (total_of(given_points, stated), given_points, ()) == (measure.total, measure.items, measure.contradicted)
    assert stated == measure.stated_total
