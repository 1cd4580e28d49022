"""Attempts that end in the midst of a plan, at a FHIR server that fails where a test says: nothing is forgotten."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.health import serving
from service.outbound.careplan import render, retract, withheld
from service.outbound.destination import PlanDelivery, Progress
from service.outbound.ehr import EhrDestination
from service.outbound.ledger import load
from service.outbound.negotiation import Way
from service.outbound.terms import EVERYTHING, Taken, Terms, Versions
from service.rest.client import FhirClient
from service.rest.errors import Permanent, Transient
from tests import courses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.requests import Request

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.outbound.careplan import Plan

FHIR = "application/fhir+json"
UNSEARCHED = Taken(ours=False, update=True, versions=Versions.CHECKED)
"""A type under the server's ids, which no search finds again."""
DELETING = replace(EVERYTHING, taken={kind: replace(taken, delete=True) for kind, taken in EVERYTHING.taken.items()})
"""A server that takes everything, and lets it be deleted."""


@dataclass
class Shelf:
    """A FHIR server with versions, that fails for the types in `failing`: before it writes, or after."""

    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By relative reference."""
    failing: set[str] = field(default_factory=set)
    after_writing: bool = False
    keeping: Mapping[str, int] = field(default_factory=dict)
    """How it refuses to delete, by type (HTTP status)."""
    deleted: list[str] = field(default_factory=list)
    """Types of what was deleted, in order."""
    base: str = ""

    async def answer(self, request: Request) -> Response:
        """Read, create or update; transactions it does not take."""
        kind, known = request.path_params.get("kind", ""), request.path_params.get("id")
        if not kind:
            return Response(status_code=501)
        path = f"{kind}/{known or f'{kind.lower()}-{len(self.held)}'}"
        if request.method == "GET":
            held = self.held.get(path)
            return Response(status_code=404) if held is None else JSONResponse(held, media_type=FHIR)
        if request.method == "DELETE":
            return self._removed(path, kind)
        if kind not in self.failing:
            return self._written(path, await request.json(), request.headers.get("If-Match"))
        if self.after_writing:
            self._written(path, await request.json(), request.headers.get("If-Match"))
        return Response(status_code=503)

    def _written(self, path: str, body: dict[str, Any], if_match: str | None) -> Response:
        before = int(self.held[path]["meta"]["versionId"]) if path in self.held else 0
        if if_match is not None and if_match != f'W/"{before}"':
            return Response(status_code=412)
        version = str(before + 1)
        meta = {**body.get("meta", {}), "versionId": version}
        self.held[path] = {**body, "id": path.partition("/")[2], "meta": meta}
        headers = {"ETag": f'W/"{version}"', "Location": f"{self.base}/{path}/_history/{version}"}
        return Response(status_code=200 if before else 201, headers=headers)

    def _removed(self, path: str, kind: str) -> Response:
        if kind in self.keeping:
            return Response(status_code=self.keeping[kind], media_type=FHIR)
        del self.held[path]
        self.deleted.append(kind)
        return Response(status_code=204)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return what it holds of a type."""
        return [each for path, each in self.held.items() if path.startswith(f"{kind}/")]


class Stated:
    """Terms that are agreed from the beginning."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    async def terms(self) -> Terms:
        """Return them."""
        return self._terms


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    """An empty server."""
    made = Shelf()
    everything = ["GET", "POST", "PUT", "DELETE"]
    routes = [Route(path, made.answer, methods=everything) for path in ("/fhir", "/fhir/{kind}", "/fhir/{kind}/{id}")]
    async with serving(Starlette(routes=routes), "127.0.0.1", 0) as url:
        made.base = f"{url}/fhir"
        yield made


@asynccontextmanager
async def destination(
    shelf: Shelf, terms: Terms = EVERYTHING, *, deletes: bool = False
) -> AsyncIterator[EhrDestination]:
    """Open the server as a destination on these terms."""
    opened = EhrDestination("ehr", FhirClient(shelf.base), agreement=Stated(terms), deletes=deletes)  # type: ignore[arg-type] # asks nobody
    try:
        yield opened
    finally:
        await opened.close()


async def attempt(ehr: EhrDestination, plan: Plan, ledger: Mapping[str, Any], counter: int = 1) -> Mapping[str, Any]:
    """Deliver a plan; return what is known afterwards, be it after a failure."""
    delivery = PlanDelivery(plan.course_id, f"r{counter}", counter, plan, (), ledger)
    try:
        return (await ehr.deliver(delivery)).ledger
    except Transient:
        return delivery.progress.ledger if delivery.progress.ledger is not None else ledger


async def test_nothing_is_created_twice_where_the_last_resource_fails_again_and_again(
    shelf: Shelf, mappings: Mappings
) -> None:
    """At a server that chooses ids and can't be searched, only the ledger knows what is there."""
    plan = render(courses.course("anna"), mappings)
    terms = Terms(plan=Way.CREATE_UPDATE, taken=dict.fromkeys(EVERYTHING.taken, UNSEARCHED))
    shelf.failing = {"Provenance"}
    ledger: Mapping[str, Any] = {}
    async with destination(shelf, terms) as ehr:
        for _ in range(3):
            ledger = await attempt(ehr, plan, ledger)
        shelf.failing = set()
        ledger = await attempt(ehr, plan, ledger)
    wanted = sorted(body["resourceType"] for _, body in plan.resources)
    assert wanted == sorted(each["resourceType"] for each in shelf.held.values())
    assert {role for role, _ in plan.resources} == set(load(ledger).remotes)


@pytest.mark.parametrize("kind", ["Goal", "CarePlan", "Task", "Flag"])
async def test_what_was_written_without_an_answer_is_taken_back_when_the_course_goes(
    kind: str, shelf: Shelf, mappings: Mappings
) -> None:
    """The server had stored it before it failed: nothing of ours may go on standing as if it were true."""
    made = [(each, render(each, mappings)) for each in courses.states().values()]
    course, plan = next(each for each in made if kind in {body["resourceType"] for _, body in each[1].resources})
    shelf.failing, shelf.after_writing = {kind}, True
    async with destination(shelf) as ehr:
        ledger = await attempt(ehr, plan, {})
        shelf.failing, unanswered = set(), len(shelf.of(kind))
        await attempt(ehr, retract(course, mappings), ledger, 2)
    standing = [
        each
        for each in shelf.held.values()
        if each.get("lifecycleStatus", each.get("status")) in {"active", "requested", "proposed", "planned"}
    ]
    assert (1, []) == (unanswered, standing)


@pytest.mark.parametrize("make", [retract, withheld])
async def test_plan_that_can_no_longer_be_taken_back_waits_for_a_person(
    make: Callable[[Course, Mappings], Plan], shelf: Shelf, mappings: Mappings
) -> None:
    """Where the server has come to take nothing, or no Goals; never does it count as taken back."""
    course = courses.course("anna")
    less = {kind: taken for kind, taken in EVERYTHING.taken.items() if kind != "Goal"}
    async with destination(shelf) as ehr:
        ledger = await attempt(ehr, render(course, mappings), {})
    for terms in (Terms(Way.CHART_ONLY, {}), Terms(Way.CREATE_UPDATE, less)):
        async with destination(shelf, terms) as ehr:
            with pytest.raises(Permanent) as refused:
                await attempt(ehr, make(course, mappings), ledger, 2)
            assert "not-taken-back" == refused.value.code


async def test_plan_that_is_withheld_leaves_no_texts_of_what_was_found(shelf: Shelf, mappings: Mappings) -> None:
    """Goals, Tasks and Flags say that they were entered in error; a clinician's note stays."""
    made = [(each, render(each, mappings)) for each in courses.states().values()]
    course, plan = next(each for each in made if "Task" in {body["resourceType"] for _, body in each[1].resources})
    async with destination(shelf) as ehr:
        ledger = await attempt(ehr, plan, {})
        for each in shelf.of("Task"):
            each["note"] = [{"text": "Called."}]
        await attempt(ehr, withheld(course, mappings), ledger, 2)
    for each in (*shelf.of("Goal"), *shelf.of("Task"), *shelf.of("Flag")):
        assert "Entered in error" == each["description" if each["resourceType"] == "Goal" else "code"]["text"]
        assert each.keys().isdisjoint({"reasonCode", "achievementStatus"})
    assert {"Called."} == {each["note"][0]["text"] for each in shelf.of("Task")}


async def test_goal_that_an_attempt_without_an_answer_sent_is_not_taken_for_a_clinicians(
    shelf: Shelf, mappings: Mappings
) -> None:
    """Written, never acknowledged, and gone from the next plan: it goes from the CarePlan too."""
    course = courses.course("anna", conditions=("Condition/c-1",))
    shelf.held["Condition/c-1"] = {"resourceType": "Condition", "id": "c-1", "meta": {"versionId": "1"}}
    shelf.failing, shelf.after_writing = {"CarePlan"}, True
    async with destination(shelf) as ehr:
        ledger = await attempt(ehr, render(course, mappings), {})
        shelf.failing = set()
        (sent,) = shelf.of("CarePlan")
        await attempt(ehr, render(courses.course("anna", conditions=()), mappings), ledger, 2)
    (held,) = shelf.of("CarePlan")
    assert (["Condition/c-1"], []) == (
        [each["reference"] for each in sent["addresses"]],
        held.get("addresses", []),
    )


async def test_each_write_is_recorded_where_it_is_made_and_what_it_failed_with(
    shelf: Shelf, mappings: Mappings
) -> None:
    """An attempt that fails tells what it wrote, and the resource without an answer; nothing is told of nothing."""
    plan = render(courses.course("anna"), mappings)
    shelf.failing = {"Provenance"}
    async with destination(shelf) as ehr:
        failed = PlanDelivery(plan.course_id, "r1", 1, plan, (), {})
        with pytest.raises(Transient):
            await ehr.deliver(failed)
        shelf.failing = set()
        again = replace(failed, ledger=failed.progress.ledger or {}, progress=Progress())
        delivered = await ehr.deliver(again)
        for path in shelf.held:  # somebody saves each, and changes nothing of ours
            shelf.held[path]["meta"]["versionId"] = "7"
        unchanged = replace(failed, ledger=delivered.ledger, progress=Progress())
        await ehr.deliver(unchanged)

    told = [(each.action, each.resource_type, each.version, each.outcome) for each in failed.progress.writes]
    refused = [each for each in told if each[3] == "not-taken"]
    one_by_one = told[len(refused) :]
    assert len(plan.resources) == len(refused)
    assert ("create", "Provenance", None, "http-503") == one_by_one.pop()
    assert {("create", "1", "success")} == {(action, version, outcome) for action, _, version, outcome in one_by_one}
    assert len(plan.resources) - 1 == len(one_by_one)
    assert [("create", "Provenance", "1", "success")] == [
        (each.action, each.resource_type, each.version, each.outcome) for each in again.progress.writes
    ]
    assert [] == unchanged.progress.writes


async def test_plan_whose_course_is_gone_is_deleted_where_that_is_configured(shelf: Shelf, mappings: Mappings) -> None:
    """What refers goes first; done again, nothing is made only to be in error."""
    course = courses.course("anna")
    async with destination(shelf, DELETING, deletes=True) as ehr:
        ledger = await attempt(ehr, render(course, mappings), {})
        ledger = await attempt(ehr, retract(course, mappings), ledger, 2)
        first = load(ledger).remotes
        await attempt(ehr, retract(course, mappings), ledger, 3)
    assert ({}, {}) == (first, shelf.held)
    referred_to = ["Goal", "CarePlan", "Task", "Flag", "Provenance"]
    assert sorted(shelf.deleted, key=referred_to.index, reverse=True) == shelf.deleted
    assert {"Goal", "CarePlan", "Provenance"} <= set(shelf.deleted)


@pytest.mark.parametrize("status", [405, 409])
async def test_what_the_server_does_not_let_be_deleted_is_entered_in_error(
    status: int, shelf: Shelf, mappings: Mappings
) -> None:
    """By rule of the server, or because others refer to it; what it refers to stays with it."""
    course, shelf.keeping = courses.course("anna"), {"CarePlan": status}
    async with destination(shelf, DELETING, deletes=True) as ehr:
        ledger = await attempt(ehr, render(course, mappings), {})
        await attempt(ehr, retract(course, mappings), ledger, 2)
    assert {"CarePlan", "Goal"} == {each["resourceType"] for each in shelf.held.values()}
    assert {"entered-in-error"} == {each.get("lifecycleStatus", each.get("status")) for each in shelf.held.values()}


async def test_plan_that_a_clinician_has_written_to_is_never_deleted(shelf: Shelf, mappings: Mappings) -> None:
    """Their words stay, with a status that says that ours were in error."""
    course = courses.course("anna")
    async with destination(shelf, DELETING, deletes=True) as ehr:
        ledger = await attempt(ehr, render(course, mappings), {})
        (held,) = shelf.of("CarePlan")
        path = f"CarePlan/{held['id']}"
        shelf.held[path] = {**held, "note": [{"text": "Call the school."}], "meta": {**held["meta"], "versionId": "2"}}
        await attempt(ehr, retract(course, mappings), ledger, 2)
    (kept,) = shelf.of("CarePlan")
    assert ([], "entered-in-error", [{"text": "Call the school."}]) == (shelf.deleted, kept["status"], kept["note"])
