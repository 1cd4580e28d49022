"""Creates that nobody could look for afterwards: what of them stays in the ledger, and what a person's word undoes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from service.domain.course import uuid5
from service.outbound.elements import COURSE_IDENTIFIER
from service.outbound.intents import meaning
from service.outbound.ledger import Remote, localised
from service.outbound.recording import Recording
from service.outbound.terms import EVERYTHING, Taken, Versions
from service.outbound.writing import Writing
from service.rest.answers import Answer, raise_unless_fhir
from service.rest.client import FhirClient
from service.rest.errors import UNANSWERED, Transient
from tests.charts import Charts, charts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CHANGED = Taken(ours=False, update=True, versions=Versions.NAMED)
ADDED = replace(CHANGED, update=False)
BLIND = replace(
    EVERYTHING, taken={"CarePlan": CHANGED, "Goal": CHANGED, "DocumentReference": ADDED, "Communication": ADDED}
)
"""Terms of a server that can't be searched, and chooses ids."""
PLAN = {"resourceType": "CarePlan", "status": "entered-in-error"}
NOTE = {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": {"data": "a"}}]}
GOAL = {"resourceType": "Goal", "lifecycleStatus": "active"}
COURSE = "6ff0cc4f-7d5c-5a2f-9e5b-3c1d8f4f5a10"
OUTCOME = orjson.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "transient"}]})


@dataclass
class Word:
    """What a person has said of a delivery, kept as the database keeps it: their leave is used up by a create."""

    given: bool = False

    async def remember(self, ledger: Mapping[str, Any]) -> None:
        """Use the leave up."""
        assert ledger["remotes"]
        self.given = False

    async def may_repeat(self) -> bool:
        """Return whether there is leave."""
        return self.given


@dataclass
class Scene:
    """A delivery to such a server, and a person's word."""

    ehr: Charts
    writing: Writing
    word: Word

    async def lose(self, role: str, ours: dict[str, Any]) -> None:
        """Create something there, and lose the answer."""
        self.ehr.lost = 1
        with pytest.raises(Transient):
            await self.writing.bring_about(role, ours)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Return a delivery of which nothing was sent, nor said."""
    async with charts() as ehr, FhirClient(ehr.base) as client:
        ehr.takes_creates = ehr.takes_puts = True
        word = Word()
        yield Scene(ehr, Writing(Recording(client, []), BLIND, "r", 2, {}, intents=word), word)


def ours(resource: dict[str, Any], role: str) -> dict[str, Any]:
    """Return a resource of a plan, with what all have."""
    identifier = {"system": COURSE_IDENTIFIER, "value": COURSE if role == "careplan" else f"{COURSE}/{role}"}
    whole = {"id": uuid5(COURSE, role), "meta": {}, "identifier": [identifier], "subject": {"reference": "Patient/p"}}
    return whole | resource


async def test_a_goal_that_may_be_there_and_is_to_go_is_left_to_a_person(scene: Scene) -> None:
    """Nobody can find it under its id; once they have looked it is forgotten."""
    await scene.lose("goal/a", ours(GOAL, "goal/a"))

    await scene.writing.retire_others(set(), withdrawn=False)
    assert ([UNANSWERED], ["goal/a"]) == (codes(scene.writing), list(scene.writing.remotes))

    scene.word.given, scene.writing.troubles = True, []
    await scene.writing.retire_others(set(), withdrawn=False)
    assert ([], {}) == (codes(scene.writing), scene.writing.remotes)


async def test_a_withdrawn_plan_that_may_be_there_is_never_created_again(scene: Scene) -> None:
    """Not with a person's leave either: it says that nothing is left to be taken back."""
    plan = ("careplan", ours(PLAN, "careplan"))
    await scene.lose(*plan)

    assert {"careplan"} == await scene.writing.find_again([plan, plan])
    assert ([UNANSWERED], ["careplan"]) == (codes(scene.writing), list(scene.writing.remotes))
    assert "taken it back there by hand" in str(scene.writing.troubles[0])

    scene.word.given, scene.writing.troubles = True, []
    assert {"careplan"} == await scene.writing.find_again([plan, plan])
    assert ([], {}) == (codes(scene.writing), scene.writing.remotes)


async def test_a_withdrawn_plan_that_was_never_meant_is_not_there(scene: Scene) -> None:
    """Nothing is created to say that it was withdrawn."""
    assert {"careplan"} == await scene.writing.find_again([("careplan", ours(PLAN, "careplan"))])
    assert [] == codes(scene.writing)


async def test_a_note_that_was_never_seen_there_is_replaced_by_none(scene: Scene) -> None:
    """Its id is ours alone; the edition after one that was acknowledged replaces that one, whatever got lost since."""
    await scene.lose("note", ours(NOTE, "note"))
    for text in ("b", "c"):
        scene.word.given = True
        await scene.writing.bring_about("note", again(scene, text))
    await scene.lose("note", again(scene, "d"))
    scene.word.given = True
    await scene.writing.bring_about("note", again(scene, "d"))

    replaced = [each.get("relatesTo", [{}])[0].get("target") for each in scene.ehr.created]
    (second, third) = [{"reference": f"DocumentReference/theirs-{number}"} for number in (1, 2)]
    assert [None, None, second, third, third] == replaced


def again(scene: Scene, text: str) -> dict[str, Any]:
    """Return the note as it is sent after what is known of it."""
    content = [{"attachment": {"data": text}}]
    return localised(ours(NOTE | {"content": content}, "note"), {}, scene.writing.remotes["note"])


async def test_a_message_that_may_have_been_sent_is_sent_once_a_person_says_so(scene: Scene) -> None:
    """What was only meant is not taken for sent."""
    message = ours({"resourceType": "Communication", "status": "completed"}, "message/a")
    await scene.lose("message/a", message)
    scene.word.given = True
    await scene.writing.bring_about("message/a", message)
    assert (2, "theirs-1", True) == (
        len(scene.ehr.created),
        scene.writing.remotes["message/a"].id,
        scene.writing.remotes["message/a"].sure,
    )


def codes(writing: Writing) -> list[str]:
    """Return why a delivery has failed."""
    return [each.code for each in writing.troubles]


@pytest.mark.parametrize(
    ("status", "headers", "body", "may_be_there"),
    [
        (503, {}, b"upstream connect error or disconnect/reset before headers", True),
        (503, {"Retry-After": "5"}, b"", False),
        (503, {"Content-Type": "application/fhir+json"}, OUTCOME, False),
        (504, {"Retry-After": "5"}, OUTCOME, True),
        (408, {}, b"", True),
        (429, {}, b"", False),
    ],
)
async def test_what_a_gateway_may_have_passed_on_is_not_taken_for_undone(
    status: int, headers: dict[str, str], body: bytes, *, may_be_there: bool
) -> None:
    """A 503 is an answer only where the server itself gives it: as an OperationOutcome, or with a time to wait."""
    remotes: dict[str, Remote] = {}
    with contextlib.suppress(Transient):
        async with meaning("careplan", Remote("c-1", None, "", "active", foreign=False), remotes, None):
            raise_unless_fhir(Answer(status, None, body), httpx.Headers(headers))
    assert may_be_there == ("careplan" in remotes)
