"""The slow look at open Tasks, at a server where some can't be read: the others are looked at all the same."""

from __future__ import annotations

from asyncio import Event
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from service import rounds
from service.domain.mapping_files import vendor_profiles
from service.outbound.agreement import Agreement
from service.outbound.ehr import EhrDestination
from service.outbound.ledger import Ledger, Remote, dump
from service.rest.client import MOST_PAGES, FhirClient
from service.rounds import MOST_FAILED, OVERLAP, Rounds
from service.store import Store
from tests.charts import Charts, charts, fhir, status
from tests.integration.store.samples import EHR, LEASE, NOW, course, deliver, done, update, write
from tests.workers import Clock, vitals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

NAMES = "abcdef"
"""Of the courses, in their order; each has a Task of the same name."""


@dataclass
class Scene:
    """Courses whose plans ask for something at one server, and what was told of it."""

    store: Store
    ehr: Charts
    clock: Clock
    rounds: Rounds
    told: list[str] = field(default_factory=list)

    async def look(self) -> list[str]:
        """Look once; return the Tasks that were told as completed."""
        self.told.clear()
        await self.rounds.look(Event())
        return [each.removeprefix("ehr.") for each in self.told]

    def complete(self, *names: str) -> None:
        """Let a clinician complete Tasks."""
        for name in names:
            self.ehr.resources[f"Task/{name}"]["status"] = "completed"


@asynccontextmanager
async def opened(path: Path, ehr: Charts, agreement: Agreement | None = None) -> AsyncIterator[Scene]:
    """Open a scene at a server."""
    async with await Store.open(f"sqlite:///{path}/store.sqlite") as store, FhirClient(ehr.base) as client:
        await store.migrate()
        await write(store, update(*map(course, NAMES)), to=(EHR,))
        for each in await store.deliveries.claim("ehr", NOW, len(NAMES), LEASE):
            name = each.course_id
            ehr.resources[f"Task/{name}"] = {"resourceType": "Task", "id": name, "status": "requested"}
            await store.deliveries.acknowledge([done(each, remote(name))], NOW)
        clock = Clock(NOW)
        place = EhrDestination("ehr", client, agreement=agreement)
        told: list[str] = []

        async def take_in(_source: str, tasks: Sequence[Mapping[str, Any]]) -> None:
            told.extend(each["id"] for each in tasks)

        yield Scene(store, ehr, clock, Rounds(store, place, take_in, vitals(clock), every_s=600), told)


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A server that can't be searched."""
    monkeypatch.setattr(rounds, "PAUSE_S", 0.0)
    async with charts() as ehr, opened(tmp_path, ehr) as made:
        yield made


@pytest.fixture
async def searched(
    tmp_path: Path, mapping_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    """A server that can be searched, and was looked at once; what a search finds is in `refused`."""
    monkeypatch.setattr(rounds, "PAUSE_S", 0.0)
    async with charts() as ehr, FhirClient(ehr.base) as client:
        ehr.resources["metadata"] = statement("Task", "identifier", "status", "_lastUpdated")
        agreement = Agreement("ehr", client, vendor_profiles(mapping_files))
        assert await agreement.ask()
        async with opened(tmp_path, ehr, agreement) as made:
            await made.look()
            ehr.asked.clear()
            ehr.queries.clear()
            ehr.refused["Task"] = fhir({"resourceType": "Bundle", "type": "searchset"})
            yield made


def statement(kind: str, *searched_by: str) -> dict[str, Any]:
    """Return what a server states that takes one type, and lets it be searched."""
    codes = ("read", "create", "update", "search-type")
    resource = {
        "type": kind,
        "interaction": [{"code": code} for code in codes],
        "updateCreate": True,
        "searchParam": [{"name": name} for name in searched_by],
    }
    rest = [{"mode": "server", "resource": [resource, {**resource, "type": "CarePlan"}]}]
    return {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": rest}


def remote(name: str) -> dict[str, Any]:
    """Return the ledger of a plan with one open Task."""
    return dump(Ledger({f"task/{name}": Remote(name, "1", "", "requested", foreign=False)}))


@pytest.mark.parametrize("code", [500, 403])
async def test_a_task_that_can_not_be_read_holds_up_no_other(scene: Scene, code: int) -> None:
    """It is read again each time, until it can be."""
    scene.complete("a", "c")
    scene.ehr.refused["Task/a"] = status(code)
    assert ["c"] == await scene.look()
    del scene.ehr.refused["Task/a"]
    assert "a" in await scene.look()


async def test_a_server_in_trouble_is_left_alone_and_the_next_look_goes_on(scene: Scene) -> None:
    """Several in a row end a look; the same ones do not end the next."""
    scene.complete(*NAMES)
    broken, well = NAMES[:MOST_FAILED], NAMES[MOST_FAILED:]
    scene.ehr.refused = {f"Task/{name}": status(500) for name in broken}
    assert [] == await scene.look()
    assert [f"Task/{name}" for name in broken] == scene.ehr.asked
    assert [*well] == await scene.look()


async def test_a_course_that_can_not_be_looked_at_holds_up_no_other(scene: Scene) -> None:
    """A ledger that does not load; the service goes on."""
    await write(scene.store, update(course("a", "r2")), to=(EHR,))
    await deliver(scene.store, "ehr", {"remotes": {"task/a": {"status": "requested"}}})
    scene.complete("b")
    assert ["b"] == await scene.look()


async def test_what_must_not_be_asked_again_is_not(scene: Scene) -> None:
    """A parked delivery, at which a person looks first."""
    await write(scene.store, update(course("a", "r2")), to=(EHR,))
    (claimed,) = await scene.store.deliveries.claim("ehr", NOW, 1, LEASE)
    await scene.store.deliveries.park_delivery(claimed, "never-retried", NOW)
    await scene.look()
    assert [f"Task/{name}" for name in NAMES[1:]] == scene.ehr.asked


async def test_what_is_completed_during_a_pause_is_searched_for_after_it(searched: Scene) -> None:
    """However long it was: the search goes back to the last look before it."""
    await searched.store.desk.pause("ehr", NOW)
    for _ in range(3):
        searched.clock.at += timedelta(hours=1)
        assert [] == await searched.look()
    assert [] == searched.ehr.queries
    await searched.store.desk.resume("ehr")
    searched.complete("b")
    found = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": searched.ehr.resources["Task/b"]}]}
    searched.ehr.refused["Task"] = fhir(found)
    assert ["b"] == await searched.look()
    assert [f"ge{(NOW - OVERLAP).isoformat()}"] == parse_qs(searched.ehr.queries[0])["_lastUpdated"]


async def test_a_task_that_can_not_be_read_is_read_again_where_others_are_searched(searched: Scene) -> None:
    """No later search need find it."""
    searched.complete("b")
    found = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": searched.ehr.resources["Task/b"]}]}
    searched.ehr.refused |= {"Task": fhir(found), "Task/b": status(403)}
    assert [] == await searched.look()
    searched.ehr.refused = {"Task": fhir({"resourceType": "Bundle", "type": "searchset"})}
    assert ["b"] == await searched.look()
    assert [] == await searched.look()


@pytest.mark.parametrize("pages", ["refused", "endless"])
async def test_where_a_search_is_refused_or_finds_too_much_each_task_is_read(searched: Scene, pages: str) -> None:
    """Else what was completed would wait for a search that only comes to find more."""
    link = {"relation": "next", "url": f"{searched.ehr.base}/Task?page=next"}
    endless = {"resourceType": "Bundle", "type": "searchset", "link": [link]}
    searched.ehr.refused["Task"] = status(400) if pages == "refused" else fhir(endless)
    searched.complete("b")
    assert ["b"] == await searched.look()
    assert ["100"] == parse_qs(searched.ehr.queries[0])["_count"]
    assert [f"Task/{name}" for name in NAMES] == [each for each in searched.ehr.asked if each.startswith("Task/")]
    assert (1 if pages == "refused" else MOST_PAGES) == len(searched.ehr.asked) - len(NAMES)
