"""Safety: what a patient answers about self-harm calls a clinician the same day, whatever the total."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.domain.course import FindingState
from service.domain.evidence import Scored, interpret
from service.domain.facts import PatientKey
from service.domain.projection import project
from tests.history import week
from tests.synthetic import facts_in

if TYPE_CHECKING:
    from service.domain.course import Finding
    from service.domain.mappings import Mappings

SCORES = Path(__file__).parents[1] / "specimens" / "scores"


def response(instrument: str, example: str) -> dict[str, Any]:
    """Return an example of an instrument's response."""
    found: dict[str, Any] = json.loads((SCORES / instrument / f"{example}.json").read_text())
    return found


def safety_findings(instrument: str, example: str, mappings: Mappings) -> list[Finding]:
    """Return what an assessment and then a response raise about safety."""
    visit = {
        "resourceType": "Encounter",
        "id": "e-1",
        "status": "finished",
        "class": {"code": "AMB"},
        "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "443730003"}]}],
        "subject": {"reference": "Patient/p-1"},
        "period": {"start": "2026-03-02T10:00:00Z", "end": "2026-03-02T10:50:00Z"},
    }
    facts = [fact for resource in (visit, response(instrument, example)) for fact in facts_in(resource, mappings)]
    projection = project(PatientKey("main", "p-1"), facts, week(20), mappings)
    (course,) = projection.courses
    return [finding for finding in course.findings if finding.rule.startswith("safety.")]


@pytest.mark.parametrize(
    ("instrument", "example", "rule"),
    [
        ("phq-9", "coded", "safety.self-harm-item"),
        ("epds", "items-by-number", "safety.self-harm-item"),
        ("c-ssrs", "not-asked-further", "safety.screener-positive"),
        ("c-ssrs", "with-a-method", "safety.screener-positive"),
        ("c-ssrs", "left-off", "safety.screener-positive"),
    ],
)
def test_a_clinician_is_called_the_same_day(instrument: str, example: str, rule: str, mappings: Mappings) -> None:
    """The finding is critical, due on the day of the answer, and names the response."""
    (finding,) = safety_findings(instrument, example, mappings)
    assert (rule, "critical", finding.raised, FindingState.OPEN) == (
        finding.rule,
        finding.severity,
        finding.due,
        finding.state,
    )
    assert (f"QuestionnaireResponse/{response(instrument, example)['id']}",) == finding.facts


@pytest.mark.parametrize(
    ("instrument", "example"), [("phq-9m", "numbers"), ("epds", "total-alone"), ("wsas", "numbers")]
)
def test_nobody_is_called_without_an_answer(instrument: str, example: str, mappings: Mappings) -> None:
    """Nor by an answer of 0, an instrument that does not ask, or a total alone."""
    assert [] == safety_findings(instrument, example, mappings)


def test_an_answer_in_words_is_not_passed_over(mappings: Mappings) -> None:
    """Nobody could read it: it is kept as such, and what it might have said about self-harm is asked for."""
    resource = response("phq-9", "coded")
    for item in resource["item"]:
        if item["linkId"] == "/44260-8":
            item["answer"] = [{"valueString": "Several days"}]
    measure = next(
        each.measure
        for fact in facts_in(resource, mappings)
        for each in interpret(fact, mappings)
        if isinstance(each, Scored)
    )
    assert (None, (9,), True) == (measure.total, measure.contradicted, measure.safety_unanswered)
