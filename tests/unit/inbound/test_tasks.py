"""What is read of a Task: only of one of our plans, and only what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.domain.evidence import TaskDone, interpret
from service.domain.facts import Code, TaskReading

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.domain.mappings import Mappings
    from service.inbound.reading import RecordReading
    from service.inbound.relevance import Relevance

COURSE = "3f8c2a5e-0000-5000-8000-000000000001"
FINDING = "safety.self-harm-item/QuestionnaireResponse/q-1"
OURS = {"system": "https://ipt-bridge.org/fhir/course", "value": f"{COURSE}/task/{FINDING}"}
TASK = {
    "resourceType": "Task",
    "id": "t-1",
    "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]},
    "identifier": [{"system": "urn:other", "value": "7"}, OURS],
    "status": "completed",
    "intent": "proposal",
    "for": {"reference": "Patient/p-1"},
    "lastModified": "2026-03-02T16:20:00-05:00",
    "owner": {"reference": "https://ehr.example/fhir/Practitioner/t-1"},
    "note": [{"text": "never kept"}],
}


def test_a_task_of_ours_is_read(read_value: Callable[..., RecordReading], mappings: Mappings) -> None:
    """Status, identifier, time and owner; the finding that it answers is named by the identifier."""
    (fact,) = read_value(TASK).facts
    modified = datetime(2026, 3, 2, 21, 20, tzinfo=UTC)
    assert TaskReading("completed", OURS["value"], modified, "Practitioner/t-1") == fact.reading
    assert ("Task/t-1", "p-1") == (fact.key.reference, fact.patient_id)
    assert (Code("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "R"),) == fact.labels
    assert (TaskDone(modified, "Task/t-1", COURSE, FINDING, "Practitioner/t-1"),) == interpret(fact, mappings)


@pytest.mark.parametrize("status", ["requested", "in-progress", "rejected", "cancelled", "entered-in-error"])
def test_only_a_completed_task_answers(
    status: str, read_value: Callable[..., RecordReading], mappings: Mappings
) -> None:
    """Nobody has dealt with what was declined or called off."""
    (fact,) = read_value(TASK | {"status": status}).facts
    assert () == interpret(fact, mappings)


def test_a_task_that_asks_about_no_finding_answers_none(
    read_value: Callable[..., RecordReading], mappings: Mappings
) -> None:
    """Another role of the plan."""
    (fact,) = read_value(TASK | {"identifier": [OURS | {"value": COURSE}]}).facts
    assert () == interpret(fact, mappings)


@pytest.mark.parametrize(
    "identifier", [None, [], [{"system": "urn:other", "value": OURS["value"]}], "x", [None, 7], [{"system": 7}]]
)
def test_other_tasks_are_not_ours(relevance: Relevance, identifier: object) -> None:
    """A hospital has many; ours are told by the system of an identifier."""
    assert not relevance.decide(TASK | {"identifier": identifier}, 100, "Task")


def test_without_a_time_of_its_own_the_time_is_that_of_the_version(
    read_value: Callable[..., RecordReading], mappings: Mappings
) -> None:
    """Some servers don't keep lastModified."""
    resource: dict[str, Any] = TASK | {"meta": {"lastUpdated": "2026-03-03T08:00:00Z"}}
    del resource["lastModified"]
    (fact,) = read_value(resource).facts
    (done,) = interpret(fact, mappings)
    assert datetime(2026, 3, 3, 8, tzinfo=UTC) == done.start


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"status": "Completed"}, "bad-status", "Task.status"),
        ({"lastModified": "yesterday"}, "bad-time", "Task.lastModified"),
        ({"owner": ["x"]}, "wrong-type", "Task.owner"),
        ({"for": None}, "no-subject", "Task.for"),
        ({"for": {"reference": "Group/g-1"}}, "subject-not-a-patient", "Task.for"),
    ],
)
def test_a_task_of_ours_that_can_not_be_read_is_parked(
    wrong: dict[str, Any], code: str, path: str, read_value: Callable[..., RecordReading]
) -> None:
    """With the element that is wrong, so that no answer is lost."""
    ((_, problem),) = read_value(TASK | wrong).unreadable
    assert (code, path) == (problem.code, problem.path)
