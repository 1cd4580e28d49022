"""Edits that are met while a plan is written: what is remembered of them, whatever becomes of the writes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from service.outbound.edits import Mark, sent
from service.outbound.ledger import Remote, digest
from service.outbound.recording import Recording
from service.outbound.terms import EVERYTHING
from service.outbound.writing import Writing
from service.rest.client import FhirClient
from service.rest.errors import Permanent, Transient
from service.store.ledgers import doubted
from tests.charts import Charts, charts, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATH = "CarePlan/c-1"
THEIRS = "Theirs"


@pytest.fixture
async def ehr() -> AsyncIterator[Charts]:
    """Return a server that takes updates."""
    async with charts() as opened:
        opened.takes_puts = True
        yield opened


def plan(number: int = 0) -> dict[str, Any]:
    """Return our CarePlan after so many changes."""
    return {
        "resourceType": "CarePlan",
        "id": "c-1",
        "meta": {},
        "status": "active",
        "title": "Psychotherapy",
        "description": f"Session {number}",
    }


async def deliver(ehr: Charts, ours: dict[str, Any], known: Remote | None = None) -> tuple[Remote, Writing]:
    """Return what is known of the CarePlan once it was delivered, or that failed, and how it went."""
    async with FhirClient(ehr.base) as client:
        writing = Writing(Recording(client, []), EVERYTHING, "r", 2, {"careplan": known} if known else {})
        try:
            await writing.bring_about("careplan", ours)
        except (Permanent, Transient):
            assert [] == ehr.put_faults
    return writing.remotes["careplan"], writing


def edit(ehr: Charts, **elements: Any) -> None:  # noqa: ANN401 - any JSON value
    """Change the CarePlan as a clinician does."""
    ehr.write(PATH, ehr.resources[PATH] | elements)


async def put_back(ehr: Charts) -> Remote:
    """Return what is known once a title of theirs was put back."""
    known, _ = await deliver(ehr, plan())
    edit(ehr, title=THEIRS)
    known, _ = await deliver(ehr, plan(1), known)
    assert ({"title": Mark.PUT_BACK}, "Psychotherapy") == (known.marks, ehr.resources[PATH]["title"])
    return known


@pytest.mark.parametrize("code", [429, 503, 422])
async def test_what_was_left_stays_left_and_told_though_the_write_fails(code: int, ehr: Charts) -> None:
    """The ledger of the failed attempt has it, and the next attempt overwrites nothing."""
    known = await put_back(ehr)
    edit(ehr, title=THEIRS)
    ehr.put_faults = [status(code)]
    known, writing = await deliver(ehr, plan(2), known)
    assert ({"title": Mark.LEFT}, ["careplan"]) == (known.marks, [act.role for act in writing.acts.values()])
    known, writing = await deliver(ehr, plan(2), known)
    assert ({"title": Mark.LEFT}, THEIRS) == (known.marks, ehr.resources[PATH]["title"])
    assert "Session 2" == ehr.resources[PATH]["description"]
    assert [] == list(writing.acts.values())


async def test_what_was_not_put_back_for_the_write_failed_is_not_left_for_it(ehr: Charts) -> None:
    """It was never ours again: the next attempt puts it back for the first time."""
    known, _ = await deliver(ehr, plan())
    edit(ehr, title=THEIRS)
    ehr.put_faults = [status(503)]
    known, _ = await deliver(ehr, plan(1), known)
    known, _ = await deliver(ehr, plan(1), known)
    assert ({"title": Mark.PUT_BACK}, "Psychotherapy") == (known.marks, ehr.resources[PATH]["title"])


async def test_where_nothing_is_put_what_is_there_is_not_remembered_as_ours(ehr: Charts) -> None:
    """A narrative of theirs, which nothing is written for; what they edit in that version later counts."""
    known = await put_back(ehr)
    edit(ehr, title=THEIRS)
    known, _ = await deliver(ehr, plan(2), known)
    seen, ours = known.version, plan(2) | {"text": {"status": "generated", "div": "<div>Ours</div>"}}
    known = replace(known, digest=digest(ours), hashes=sent(ours))
    edit(ehr, text={"status": "generated", "div": "<div>Theirs</div>"})
    known, _ = await deliver(ehr, ours, known)
    assert seen == known.version


async def test_all_that_can_be_edited_is_written_again_after_an_attempt_that_was_never_heard_of(ehr: Charts) -> None:
    """What it wrote may lie over what is remembered, though the wish is as it was before it."""
    known, _ = await deliver(ehr, plan())
    await deliver(ehr, plan(1), known)
    told = doubted({"remotes": {"careplan": {"digest": known.digest, "hashes": list(known.hashes)}}})["remotes"]
    forgotten = replace(known, digest=told["careplan"]["digest"], hashes=tuple(told["careplan"]["hashes"]))
    known, _ = await deliver(ehr, plan(), forgotten)
    assert ("Session 0", {}) == (ehr.resources[PATH]["description"], known.marks)
    assert sent(plan()) == known.hashes


async def test_what_a_server_makes_of_a_later_value_is_no_second_edit(ehr: Charts) -> None:
    """The title was put back long ago; the next one the server takes in its own way, and somebody adds a note."""
    known = await put_back(ehr)
    ehr.stores = lambda body: body | {"title": body["title"][:12]}
    known, _ = await deliver(ehr, plan(2) | {"title": "Psychotherapy, later"}, known)
    edit(ehr, note=[{"text": THEIRS}])
    known, writing = await deliver(ehr, plan(3) | {"title": "Psychotherapy, later"}, known)
    assert ({"title": Mark.RESHAPED}, []) == (known.marks, list(writing.acts.values()))
    ehr.stores = dict
    known, _ = await deliver(ehr, plan(4) | {"title": "Psychotherapy, later"}, known)
    edit(ehr, note=[])
    known, _ = await deliver(ehr, plan(5) | {"title": "Psychotherapy, later"}, known)
    assert {} == known.marks


async def test_without_a_version_what_is_not_as_it_was_sent_counts_for_nothing(ehr: Charts) -> None:
    """Somebody may have written before the look: it is put back again, and is not taken for the server's doing."""
    known = await put_back(ehr)
    known = replace(known, marks={})
    edit(ehr, title=THEIRS)
    ehr.names_versions = False
    ehr.stores = lambda body: body | {"title": "Theirs at once"}
    known, _ = await deliver(ehr, plan(2), known)
    assert {} == known.marks


async def test_an_edit_and_a_status_are_told_each_by_itself_and_once(ehr: Charts) -> None:
    """As of the version in which each came to be so: an edit after the end says nothing of the end."""
    known = await put_back(ehr)
    edit(ehr, status="revoked")
    known, writing = await deliver(ehr, plan(2), known)
    assert [("revoked", None)] == [(act.status, act.edited) for act in writing.acts.values()]
    edit(ehr, title=THEIRS)
    version = ehr.resources[PATH]["meta"]["versionId"]
    known, writing = await deliver(ehr, plan(3), known)
    (act,) = writing.acts.values()
    assert ("", ("CarePlan.title",), version) == (act.status, act.edited, act.version)
    edit(ehr, status="active")
    known, writing = await deliver(ehr, plan(4), known)
    assert [("", None)] == [(act.status, act.edited) for act in writing.acts.values()]
    edit(ehr, title="Psychotherapy")
    _, writing = await deliver(ehr, plan(5), known)
    assert [("", ())] == [(act.status, act.edited) for act in writing.acts.values()]
