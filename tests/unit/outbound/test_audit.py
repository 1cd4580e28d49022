"""The audit trail of what a delivery wrote, and its AuditEvents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import pytest

from service.outbound.audit import Audited, Naming, Write, audit_event

if TYPE_CHECKING:
    from service.outbound.audit import Action
    from service.sandbox.validator import Validator

TOLD = Audited(
    at=datetime(2026, 3, 4, 10, tzinfo=UTC),
    write=Write("create", "CarePlan", "cp-1", "1"),
    destination="ehr",
    base="https://ehr.example/fhir",
    course_id="6b0c8d0a-6f0b-5f7e-9a39-5d3c1a1f3c11",
    source="main",
    patient_id="p-1",
    revision="r1",
    row=7,
)


@pytest.mark.parametrize("action", ["create", "update", "delete"])
def test_an_audit_event_is_valid_and_tells_nothing_of_what_was_written(action: Action, validator: Validator) -> None:
    """Who, what, when, where, for whom, by which request; in the shape of IHE's Basic Audit Log Patterns."""
    told = replace(TOLD, write=TOLD.write._replace(action=action))
    event = audit_event(told)
    bare = {
        name: value for name, value in event.items() if name != "meta"
    }  # the profile's own definition is not at hand
    assert [] == [issue for issue in validator.validate(bare) if issue.is_error]
    assert f"IHE.BasicAudit.Patient{action.capitalize()}" == event["meta"]["profile"][0].rpartition("/")[2]
    assert action[0].upper() == event["action"]
    patient, data, request = event["entity"]
    assert ("Patient/p-1", "CarePlan/cp-1/_history/1", "r1") == (
        patient["what"]["identifier"]["value"],
        data["what"]["reference"],
        request["what"]["identifier"]["value"],
    )


def test_the_same_write_has_the_same_audit_event() -> None:
    """Told twice it is stored once; each other write has its own."""
    assert audit_event(TOLD) == audit_event(TOLD)
    other = replace(TOLD, row=8)
    assert audit_event(TOLD)["id"] != audit_event(other)["id"]
    assert orjson.dumps(audit_event(TOLD))


def test_a_write_that_failed_is_told_with_what_it_failed_with(validator: Validator) -> None:
    """Without an id, where none was told, and as another event than the write that succeeds later."""
    failed = replace(TOLD, write=Write("create", "Goal", None, None, "http-503"))
    event = audit_event(failed)
    bare = {name: value for name, value in event.items() if name != "meta"}
    assert [] == [issue for issue in validator.validate(bare) if issue.is_error]
    assert ("8", "http-503") == (event["outcome"], event["outcomeDesc"])
    assert {"type": "Goal", "display": "under an id that was not told"} == event["entity"][1]["what"]
    later = replace(failed, write=Write("create", "Goal", None, None), row=8)
    assert event["id"] != audit_event(later)["id"]


@pytest.mark.parametrize(
    ("naming", "patient", "written"),
    [
        (Naming.OUTSIDE, None, "CarePlan/cp-1/_history/1"),
        (Naming.REFERENCES, "Patient/p-1", "CarePlan/cp-1/_history/1"),
        (Naming.PATIENT, "Patient/p-1", None),
        (Naming.IDENTIFIERS, None, None),
    ],
)
def test_an_audit_event_refers_to_nothing_that_may_be_gone(
    naming: Naming, patient: str | None, written: str | None, validator: Validator
) -> None:
    """What is not referred to is named by an identifier: who reads it knows in any case what it was."""
    event = audit_event(TOLD, naming)
    bare = {name: value for name, value in event.items() if name != "meta"}
    assert [] == [issue for issue in validator.validate(bare) if issue.is_error]
    assert (naming is Naming.OUTSIDE) is ("meta" in event)  # an EHR may not know the profile
    who, what, _ = (each["what"] for each in event["entity"])
    assert (patient, written) == (who.get("reference"), what.get("reference"))
    assert "Patient/p-1" == who["identifier"]["value"]
    assert "CarePlan/cp-1/_history/1" == what.get("reference", what.get("identifier", {}).get("value"))
