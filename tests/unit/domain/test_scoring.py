"""Scoring: recomputed totals, missing items, contradictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.domain.codes import LOINC
from service.domain.facts import Answer, Code, ResponseReading
from service.domain.scoring import score
from tests.history import GAD_7, PHQ_9, coded, week

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.domain.course import Measure
    from service.domain.mappings import Mappings


def scored(
    answers: Sequence[Answer],
    mappings: Mappings,
    *,
    instrument: str = "phq-9",
    status: str = "completed",
    site: Mapping[str, int] | None = None,
) -> Measure:
    """Return the measure of a response with these answers."""
    reading = ResponseReading(status, answers=tuple(answers))
    fact = "QuestionnaireResponse/q"
    return score(reading, mappings.instruments[instrument], taken=week(0), fact=fact, site_link_ids=site)


@pytest.mark.parametrize(
    ("total", "band"),
    [
        (0, "minimal"),
        (4, "minimal"),
        (5, "mild"),
        (10, "moderate"),
        (15, "moderately severe"),
        (20, "severe"),
        (27, "severe"),
    ],
)
def test_phq9_bands(total: int, band: str, mappings: Mappings) -> None:
    """Bands begin at 0, 5, 10, 15 and 20 (Kroenke 2001)."""
    points = [3] * (total // 3) + [total % 3] * (total % 3 > 0)
    answers = coded(PHQ_9, (points + [0] * 9)[:9])
    assert (total, band) == ((measure := scored(answers, mappings)).total, measure.band)


@pytest.mark.parametrize(
    "answer",
    [
        Answer("/44250-9", codes=(Code(LOINC, "LA6570-1"),)),
        Answer("44250-9", codes=(Code(LOINC, "LA6570-1"),)),
        Answer("44250-9", codes=(Code("", "LA6570-1"),)),
        Answer("44250-9", number=2.0),
        Answer("phq9-1", number=2.0),
        Answer("any", item_codes=(Code(LOINC, "44250-9"),), number=2.0),
        Answer("/44250-9", codes=(Code("urn:local", "often"),), ordinal=2.0),
    ],
)
def test_answer_is_read_in_every_published_spelling(answer: Answer, mappings: Mappings) -> None:
    """Item by code or linkId, with and without slash; answer as coding, bare code, number or ordinal."""
    assert 2 == scored([answer, *coded(PHQ_9[1:], [0] * 8)], mappings).total


def test_item_code_beats_link_id(mappings: Mappings) -> None:
    """Where the two name different items the code decides, and the clash is kept."""
    clash = Answer("/44250-9", item_codes=(Code(LOINC, "44260-8"),), number=1.0)
    measure = scored([clash], mappings)
    assert (1, (9,)) == (measure.safety, measure.contradicted)


def test_missing_item_leaves_no_total(mappings: Mappings) -> None:
    """Five of seven answers are never prorated."""
    measure = scored(coded(GAD_7, [1, 1, 1, 1, 1, None, None]), mappings, instrument="gad-7")
    assert (None, None, (1, 1, 1, 1, 1, None, None)) == (measure.total, measure.band, measure.items)


def test_missing_safety_item_is_not_zero(mappings: Mappings) -> None:
    """An adaptive PHQ-9 that leaves out item 9 says so."""
    measure = scored(coded(PHQ_9, [1] * 8 + [None]), mappings)
    assert (None, True) == (measure.safety, measure.safety_unanswered)


def test_stated_total_is_kept_beside_the_recomputed_one(mappings: Mappings) -> None:
    """23 for 27: both are known, the answers count."""
    measure = scored([*coded(PHQ_9, [3] * 9), Answer("/44261-6", number=23.0)], mappings)
    assert (27, 23.0) == (measure.total, measure.stated_total)


def test_coded_answer_decides_over_its_stated_score(mappings: Mappings) -> None:
    """An ordinal that contradicts the answer's code is flagged by item number."""
    odd = Answer("/44250-9", codes=(Code(LOINC, "LA6571-9"),), ordinal=4.0)
    measure = scored([odd, *coded(PHQ_9[1:], [0] * 8)], mappings)
    assert (3, (1,)) == (measure.total, measure.contradicted)


@pytest.mark.parametrize("number", [4.0, -1.0, 1.5])
def test_number_outside_the_item_is_no_answer(number: float, mappings: Mappings) -> None:
    """Four points on an item of three leave the item open."""
    measure = scored([Answer("/44250-9", number=number), *coded(PHQ_9[1:], [0] * 8)], mappings)
    assert (None, (1,)) == (measure.total, measure.contradicted)


def test_item_answered_twice_differently_is_open(mappings: Mappings) -> None:
    """Neither answer is preferred; a self-harm answer still counts at its highest."""
    twice = [Answer("/44260-8", number=0.0), Answer("/44260-8", number=2.0)]
    measure = scored([*coded(PHQ_9[:8], [0] * 8), *twice], mappings)
    assert (None, 2, (9,)) == (measure.total, measure.safety, measure.contradicted)


def test_unfinished_response_has_no_total_but_its_safety_answer_counts(mappings: Mappings) -> None:
    """A patient who stopped after answering item 9 is not overheard."""
    measure = scored(coded(PHQ_9, [1] * 9), mappings, status="in-progress")
    assert (None, 1) == (measure.total, measure.safety)


def test_site_names_its_own_link_ids(mappings: Mappings) -> None:
    """A table from a site's linkIds to item numbers is enough."""
    answers = [Answer(f"q{n}", number=1.0) for n in range(9)]
    assert 9 == scored(answers, mappings, site={f"q{n}": n for n in range(9)}).total


def test_audit_scores_each_item_by_its_own_answers(mappings: Mappings) -> None:
    """Items 1 and 2 have answer lists of their own."""
    answers = [
        Answer("/68518-0", codes=(Code(LOINC, "LA18928-4"),)),
        Answer("/68519-8", codes=(Code(LOINC, "LA18930-0"),)),
        Answer("/68520-6", codes=(Code(LOINC, "LA18876-5"),)),
    ]
    measure = scored(answers, mappings, instrument="audit")
    assert (3, 2, 2) == measure.items[:3]
    assert measure.total is None
