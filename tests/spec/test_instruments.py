"""Instruments: what each is scored as, where the numbers come from, and what is never done with them.

Each instrument has its examples in `tests/specimens/scores/`, one folder each, with the total added up by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.domain.course import Caseness, Sex
from service.domain.evidence import Scored, interpret
from service.domain.progress import changes, series
from tests.synthetic import facts_in

if TYPE_CHECKING:
    from service.domain.course import Change, Measure
    from service.domain.mappings import Mappings

SPECIMENS = Path(__file__).parents[1] / "specimens" / "scores"
EXAMPLES = sorted(path for path in SPECIMENS.glob("*/*.json") if not path.name.endswith(".expected.json"))


def measures(resource: dict[str, Any], mappings: Mappings) -> list[Measure]:
    """Return the measures that a response amounts to, read from its bytes as a feed's are."""
    evidence = [each for fact in facts_in(resource, mappings) for each in interpret(fact, mappings)]
    return [each.measure for each in evidence if isinstance(each, Scored)]


def told(measure: Measure) -> dict[str, Any]:
    """Return a measure as the specimens write it."""
    return {
        "instrument": measure.instrument,
        "total": measure.total,
        "band": measure.band,
        "safety": measure.safety,
        "statedTotal": measure.stated_total,
        "missing": measure.items.count(None),
        "safetyUnanswered": measure.safety_unanswered,
        "contradicted": list(measure.contradicted),
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_example_is_scored_as_by_hand(path: Path, mappings: Mappings) -> None:
    """How the sum comes about stands beside it, under `by hand`."""
    expected = json.loads(path.with_suffix(".expected.json").read_text())["measures"]
    assert expected == [told(measure) for measure in measures(json.loads(path.read_text()), mappings)]


def test_every_instrument_has_an_example(mappings: Mappings) -> None:
    """A new instrument comes with one."""
    assert mappings.instruments.keys() == {path.parent.name for path in EXAMPLES}


def audit_c(total: int, sex: Sex | None, mappings: Mappings) -> Change:
    """Return what an AUDIT-C of a total says of a patient of a sex."""
    resource = json.loads((SPECIMENS / "audit-c" / "coded.json").read_text())
    answers = [
        ["LA6270-8", "LA18926-8", "LA18927-6", "LA18928-4", "LA18929-2"],
        ["LA15694-5", "LA15695-2", "LA18930-0", "LA18931-8", "LA18932-6"],
        ["LA6270-8", "LA18933-4", "LA18876-5", "LA18891-4", "LA18934-2"],
    ]
    resource["item"] = resource["item"][:3]
    for item, codes in zip(resource["item"], answers, strict=True):
        points = min(total, 4)
        total -= points
        item["answer"][0]["valueCoding"]["code"] = codes[points]
    (change,) = changes(series(measures(resource, mappings), mappings, sex))
    return change


@pytest.mark.parametrize(
    ("total", "sex", "caseness"),
    [
        (2, Sex.FEMALE, Caseness.NO_CASE),
        (3, Sex.FEMALE, Caseness.CASE),
        (3, Sex.MALE, Caseness.NO_CASE),
        (4, Sex.MALE, Caseness.CASE),
        (2, None, Caseness.NO_CASE),
        (3, None, Caseness.UNDETERMINED),
        (4, None, Caseness.CASE),
        (3, Sex.OTHER, Caseness.UNDETERMINED),
        (3, Sex.UNKNOWN, Caseness.UNDETERMINED),
    ],
)
def test_the_cut_off_of_the_audit_c_depends_on_sex(
    total: int, sex: Sex | None, caseness: Caseness, mappings: Mappings
) -> None:
    """Women 3, men 4; without a known sex the totals in between are left undetermined, and nobody guesses."""
    change = audit_c(total, sex, mappings)
    assert (total, caseness, caseness) == (change.latest, change.first_case, change.latest_case)


def test_no_text_of_the_epds_is_in_the_mappings(mappings: Mappings) -> None:
    """It may be reproduced only with written permission: totals and numbers are all there is."""
    assert {""} == {item.title for item in mappings.instruments["epds"].items}


@pytest.mark.parametrize("instrument", ["phq-9", "gad-7", "audit", "dast-10", "phq-9m", "wsas", "pcl-5"])
def test_a_missing_item_is_never_made_up_for(instrument: str, mappings: Mappings) -> None:
    """Without one of its items a response has no total, whatever the sender states."""
    path = next(path for path in EXAMPLES if path.parent.name == instrument)
    resource = json.loads(path.read_text())
    resource["item"] = resource["item"][1:]
    (measure,) = measures(resource, mappings)
    assert (None, None, 1) == (measure.total, measure.band, measure.items.count(None))


@pytest.mark.parametrize(("stated", "total"), [(1, None), (2, 2), (5, 5), (6, None)])
def test_a_stated_total_that_the_items_rule_out_does_not_stand(
    stated: int, total: int | None, mappings: Mappings
) -> None:
    """Nine items of the EPDS add up to 2; with the tenth, of 0 to 3 points, the total is 2 to 5."""
    points = [2, 0, 0, 0, 0, 0, 0, 0, 0]
    resource = json.loads((SPECIMENS / "epds" / "total-alone.json").read_text())
    resource["item"] = [
        {"linkId": f"epds-{number}", "answer": [{"valueInteger": given}]} for number, given in enumerate(points, 1)
    ]
    resource["item"].append({"linkId": "epds-total", "answer": [{"valueInteger": stated}]})
    (measure,) = measures(resource, mappings)
    assert (total, stated) == (measure.total, measure.stated_total)


@pytest.mark.parametrize(("number", "points"), [(0, 0), (1, None), (2, 2), (3, None), (4, 4)])
def test_items_9_and_10_of_the_audit_score_0_2_or_4(number: int, points: int | None, mappings: Mappings) -> None:
    """Another number is no answer to them: it is flagged and not counted."""
    resource = json.loads((SPECIMENS / "audit" / "coded-with-a-number-for-yes.json").read_text())
    for item in resource["item"][8:10]:
        item["answer"] = [{"valueInteger": number}]
    (measure,) = measures(resource, mappings)
    assert (points, points) == measure.items[8:]
    assert (() if points is not None else (9, 10)) == measure.contradicted
