"""The audit trail of what a delivery wrote, and its AuditEvents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import pytest

from service.outbound.audit import Audited, Write, audit_event, writes
from service.outbound.ledger import Ledger, Remote, dump

if TYPE_CHECKING:
    from service.outbound.audit import Action
    from service.sandbox.validator import Validator

HELD = Remote("cp-1", "1", "digest", "active", foreign=False)
TOLD = Audited(
    at=datetime(2026, 3, 4, 10, tzinfo=UTC),
    write=Write("create", "CarePlan", "cp-1", "1"),
    destination="ehr",
    base="https://ehr.example/fhir",
    course_id="6b0c8d0a-6f0b-5f7e-9a39-5d3c1a1f3c11",
    source="main",
    patient_id="p-1",
    revision="r1",
)


def ledger(**remotes: Remote) -> dict[str, object]:
    """Return a ledger as it is kept."""
    return dump(Ledger(remotes))


def test_writes_are_what_a_delivery_changed_in_the_ledger() -> None:
    """Created, updated, deleted; what has the same version was left alone, though ours changed in what it asks for."""
    before = ledger(careplan=HELD, provenance=replace(HELD, id="pr-1"), flag=replace(HELD, id="f-1"))
    after = ledger(
        careplan=replace(HELD, version="2"),
        provenance=replace(HELD, id="pr-1", digest="other"),
        task=replace(HELD, id="t-1"),
    )
    assert (
        Write("update", "CarePlan", "cp-1", "2"),
        Write("create", "Task", "t-1", "1"),
        Write("delete", "Flag", "f-1", None),
    ) == writes(before, after)
    assert () == writes(after, after)


def test_at_a_server_without_versions_content_tells() -> None:
    """Only there: a version says more."""
    held = replace(HELD, version=None)
    after = ledger(careplan=replace(held, digest="other"))
    assert (Write("update", "CarePlan", "cp-1", None),) == writes(ledger(careplan=held), after)
    assert () == writes(after, after)


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
    other = replace(TOLD, write=TOLD.write._replace(version="2"))
    assert audit_event(TOLD)["id"] != audit_event(other)["id"]
    assert orjson.dumps(audit_event(TOLD))
