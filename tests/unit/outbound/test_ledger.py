"""What is remembered of a FHIR server, and how a plan is told in its terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from service.outbound.acts import Act
from service.outbound.careplan import render
from service.outbound.edits import Mark
from service.outbound.ledger import Ledger, Remote, digest, dump, load, localised, names, references
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings
    from service.outbound.careplan import Plan


def told(plan: Plan, ledger: Ledger, unresolved: set[str], source: str = "main") -> dict[str, dict[str, Any]]:
    """Return a plan's resources as a server has to be told them, by role."""
    named = names(plan.resources, ledger.remotes, unresolved, source)
    return {role: localised(body, named, ledger.remotes.get(role)) for role, body in plan.resources}


REMOTE = Remote(
    "r-1",
    "3",
    "d",
    "active",
    foreign=True,
    entries=("addresses:Condition/c-1",),
    hashes=("title=1f0c",),
    marks={"title": Mark.LEFT},
)


def test_a_stored_ledger_is_the_same_ledger() -> None:
    """Through JSON, as the store keeps it."""
    ledger = Ledger(
        {"careplan": REMOTE, "goal/phq-9": Remote("r-2", None, "e", "active", foreign=False)},
        ("Encounter/e",),
        (Act("CarePlan", "r-1", "careplan", "revoked", "3", "2026-03-02T16:20:00Z", ("CarePlan.title",), 7),),
    )
    assert ledger == load(orjson.loads(orjson.dumps(dump(ledger))))


def test_a_ledger_of_before_edits_were_told_is_read() -> None:
    """It remembers nothing of them."""
    old = dump(Ledger({"careplan": REMOTE}, (), (Act("CarePlan", "r-1", "careplan", "revoked", "3", ""),)))
    for each in (old["remotes"]["careplan"], old["acts"][0]):
        for name in ("hashes", "marks", "edited", "counter"):
            each.pop(name, None)
    ledger = load(old)
    assert ((), {}) == (ledger.remotes["careplan"].hashes, ledger.remotes["careplan"].marks)
    assert Act("CarePlan", "r-1", "careplan", "revoked", "3", "") == ledger.acts[0]


def test_nothing_known_is_an_empty_ledger() -> None:
    """As the store gives it before the first delivery."""
    assert Ledger() == load({})


def test_a_plan_without_a_ledger_is_told_as_it_is(mappings: Mappings) -> None:
    """No reference is rewritten."""
    plan = render(courses.course(), mappings)
    assert dict(plan.resources) == told(plan, Ledger(), set())


def test_resources_keep_the_ids_that_the_server_knows_them_by(mappings: Mappings) -> None:
    """A course that got another anchor has other ids; a clinician's CarePlan stays the same one."""
    plan = render(courses.course(), mappings)
    known = Ledger({"careplan": REMOTE, "goal/focus/role-dispute": Remote("r-2", "1", "e", "active", foreign=False)})
    local = told(plan, known, set())
    assert ("r-1", "r-2") == (local["careplan"]["id"], local["goal/focus/role-dispute"]["id"])
    assert "Goal/r-2" in [goal["reference"] for goal in local["careplan"]["goal"]]
    assert [{"reference": "Goal/r-2"}] == local["careplan"]["activity"][3]["detail"]["goal"]
    assert dict(plan.resources)["careplan"]["identifier"] == local["careplan"]["identifier"]


def test_what_the_server_does_not_know_is_named_by_identifier(mappings: Mappings) -> None:
    """Still traceable, and no reason for the server to refuse the plan."""
    plan = render(courses.course(), mappings)
    local = told(plan, Ledger(), {"Practitioner/t-1"}, "north clinic")
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
