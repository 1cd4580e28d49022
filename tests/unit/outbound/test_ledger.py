"""What is remembered of a FHIR server, and how a plan is told in its terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from service.outbound.careplan import render
from service.outbound.ledger import Ledger, Remote, digest, dump, load, localised, references
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

REMOTE = Remote("r-1", "3", "d", "active", foreign=True, entries=("addresses:Condition/c-1",))


def test_a_stored_ledger_is_the_same_ledger() -> None:
    """Through JSON, as the store keeps it."""
    ledger = Ledger(
        {"careplan": REMOTE, "goal/phq-9": Remote("r-2", None, "e", "active", foreign=False)}, ("Encounter/e",)
    )
    assert ledger == load(orjson.loads(orjson.dumps(dump(ledger))))


def test_nothing_known_is_an_empty_ledger() -> None:
    """As the store gives it before the first delivery."""
    assert Ledger() == load({})


def test_a_plan_without_a_ledger_is_told_as_it_is(mappings: Mappings) -> None:
    """No reference is rewritten."""
    plan = render(courses.course(), mappings)
    assert list(plan.resources) == localised(plan.resources, Ledger(), (), "main")


def test_resources_keep_the_ids_that_the_server_knows_them_by(mappings: Mappings) -> None:
    """A course that got another anchor has other ids; a clinician's CarePlan stays the same one."""
    plan = render(courses.course(), mappings)
    known = Ledger({"careplan": REMOTE, "goal/focus/role-dispute": Remote("r-2", "1", "e", "active", foreign=False)})
    local = dict(localised(plan.resources, known, (), "main"))
    assert ("r-1", "r-2") == (local["careplan"]["id"], local["goal/focus/role-dispute"]["id"])
    assert "Goal/r-2" in [goal["reference"] for goal in local["careplan"]["goal"]]
    assert [{"reference": "Goal/r-2"}] == local["careplan"]["activity"][3]["detail"]["goal"]
    assert dict(plan.resources)["careplan"]["identifier"] == local["careplan"]["identifier"]


def test_what_the_server_does_not_know_is_named_by_identifier(mappings: Mappings) -> None:
    """Still traceable, and no reason for the server to refuse the plan."""
    plan = render(courses.course(), mappings)
    local = dict(localised(plan.resources, Ledger(), {"Practitioner/t-1"}, "north clinic"))
    expected = {
        "type": "Practitioner",
        "identifier": {"system": "https://ipt-bridge.org/fhir/source/north%20clinic", "value": "Practitioner/t-1"},
    }
    assert [expected] == local["careplan"]["contributor"]
    assert "Practitioner/t-1" not in references(local["careplan"])


def test_equal_content_has_an_equal_digest() -> None:
    """Whatever the order of its elements."""
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
