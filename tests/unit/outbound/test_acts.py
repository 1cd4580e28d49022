"""What a clinician did to a resource of a plan becomes a fact: minimised, ordered, of the course that it is of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from service.domain.facts import UNVERSIONED, ActReading, FactKey, merge
from service.outbound.acts import Act, act_of, fact_of, is_told
from service.outbound.careplan import render
from service.outbound.destination import PlanDelivery
from service.outbound.ehr import EhrDestination
from service.outbound.ledger import Ledger, Remote, dump, load
from service.outbound.recording import Recording
from service.outbound.terms import EVERYTHING
from service.outbound.writing import Writing
from service.rest.client import FhirClient
from service.rest.errors import Permanent
from tests import courses
from tests.charts import charts

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

SEEN = datetime(2026, 3, 9, 8, tzinfo=UTC)
PLAN = {
    "resourceType": "CarePlan",
    "id": "c-1",
    "meta": {"versionId": "7", "lastUpdated": "2026-03-02T16:20:00.5-05:00", "security": [{"code": "R"}]},
    "status": "revoked",
    "note": [{"authorString": "Dr Roe", "text": "Moved away"}],
}
WRITTEN = datetime(2026, 3, 2, 21, 20, 0, 500_000, tzinfo=UTC)


def test_only_status_version_and_time_are_taken() -> None:
    """No note, no author, no label."""
    act = act_of("careplan", PLAN, "revoked")
    assert Act("CarePlan", "c-1", "careplan", "revoked", "7", "2026-03-02T16:20:00.5-05:00") == act


def test_the_fact_has_the_destination_before_the_id_and_the_order_of_its_version() -> None:
    """So it never passes for a resource of the source's own, and a newer version wins."""
    course = courses.course()
    fact = fact_of(act_of("careplan", PLAN, "revoked"), course, "ehr", SEEN)
    assert (FactKey(course.source, "CarePlan", "ehr.c-1"), course.patient_id, ()) == (
        fact.key,
        fact.patient_id,
        fact.labels,
    )
    assert ActReading("revoked", course.id, "careplan", "ehr", WRITTEN, "7") == fact.reading
    assert (1_772_486_400_500_000, 7, False) == fact.order[:3]


@pytest.mark.parametrize("meta", [{}, {"meta": 7}, {"meta": {"versionId": 3, "lastUpdated": "yesterday"}}])
def test_where_the_server_gives_no_time_it_is_when_it_was_seen(meta: dict[str, object]) -> None:
    """Some servers name neither versions nor times."""
    act = act_of("careplan", {"resourceType": "CarePlan", "id": "c-1"} | meta, "completed")
    fact = fact_of(act, courses.course(), "ehr", SEEN)
    assert isinstance(fact.reading, ActReading)
    assert (SEEN, "") == (fact.reading.at, fact.reading.version)
    assert UNVERSIONED == fact.order.version


def test_acts_come_together_in_any_order() -> None:
    """Ended, taken up again, ended: the last version is what counts, read twice or not."""
    course = courses.course()
    acts = [
        replace(act_of("careplan", PLAN, status), version=version) for status, version in (("revoked", "7"), ("", "8"))
    ]
    facts = [fact_of(act, course, "ehr", SEEN) for act in acts]
    ends = set()
    for one, other in permutations(facts):
        ends.add(merge(merge(one, other), one))
    assert {facts[1]} == ends


@pytest.mark.parametrize("order", [1, -1])
def test_of_one_version_what_was_seen_later_counts(order: int) -> None:
    """Our wish came to equal theirs, and nobody wrote since: they have nothing edited any longer."""
    course = courses.course()
    for titles in permutations([("CarePlan.title",), ()]):
        acts = [act_of("careplan", PLAN, "", edited, counter) for edited, counter in zip(titles, (9, 10), strict=True)]
        facts = [fact_of(act, course, "ehr", SEEN) for act in acts]
        one, other = facts[::order]
        assert facts[1] == merge(one, other)


@pytest.mark.parametrize(
    ("role", "kind"), [("careplan", "CarePlan"), ("goal/x", "Goal"), ("task/x", "Task"), ("flag/x", "Flag")]
)
def test_what_was_edited_stands_beside_what_became_of_the_status(role: str, kind: str) -> None:
    """Two facts of one resource: neither moves the other's day, nor takes it away."""
    resource, course = {"resourceType": kind, "id": "t-1"}, courses.course()
    fact = fact_of(act_of(role, resource, "", (f"{kind}.code",), 3), course, "ehr", SEEN)
    assert FactKey(course.source, kind, "ehr.edited.t-1") == fact.key
    assert isinstance(fact.reading, ActReading)
    assert (f"{kind}.code",) == fact.reading.edited
    assert fact.key == fact_of(act_of(role, resource, "", (), 4), course, "ehr", SEEN).key
    assert "ehr.t-1" == fact_of(act_of(role, resource, "revoked"), course, "ehr", SEEN).key.resource_id


def test_tasks_and_flags_are_not_told_so() -> None:
    """Of Tasks their completion is told."""
    told = {role: is_told(role) for role in ("careplan", "goal/phq-9", "task/x", "flag/x", "provenance")}
    assert {"careplan": True, "goal/phq-9": True, "task/x": False, "flag/x": False, "provenance": False} == told


@pytest.mark.parametrize(
    ("status", "theirs", "pending", "noted"),
    [
        ("rejected", "", (), ["rejected"]),
        ("rejected", "rejected", (), []),
        ("active", "rejected", (), [""]),
        ("active", "", (), []),
        ("rejected", "", ("rejected",), ["rejected"]),
        ("active", "", ("rejected",), [""]),
    ],
)
async def test_an_act_is_noted_once_and_until_it_is_told(
    status: str, theirs: str, pending: tuple[str, ...], noted: list[str]
) -> None:
    """What was told before is told again only when it changes; what could not be told is kept as it was seen."""
    ours = {"resourceType": "Goal", "id": "g-1", "meta": {}, "lifecycleStatus": "active"}
    known = Remote("g-1", "1", "before", "active", foreign=True, theirs=theirs)
    first = tuple(Act("Goal", "g-1", "goal/phq-9", each, "2", "2026-03-01T00:00:00Z") for each in pending)
    ledger = Ledger({"goal/phq-9": known}, (), first)
    async with charts() as ehr, FhirClient(ehr.base) as client:
        ehr.resources["Goal/g-1"] = ours | {"lifecycleStatus": status, "meta": {"versionId": "3"}}
        writing = Writing(
            Recording(client, []),
            EVERYTHING,
            "r",
            2,
            dict(ledger.remotes),
            acts={act.about: act for act in ledger.acts},
        )
        await writing.bring_about("goal/phq-9", ours)
    assert noted == [act.status for act in writing.acts.values()]
    if pending == ("rejected",) and status == "rejected":
        assert first == tuple(writing.acts.values())


async def test_an_act_that_was_seen_outlives_a_delivery_that_fails(mappings: Mappings) -> None:
    """What it learnt stays in the ledger: the next one reads a version that may be our own."""
    course = courses.course()
    plan = render(course, mappings)
    (ours,) = [body for role, body in plan.resources if role == "careplan"]
    known = Remote(ours["id"], "1", "before", "active", foreign=True)
    delivery = PlanDelivery(course.id, "r", 2, plan, (), dump(Ledger({"careplan": known})))
    async with charts() as ehr:
        theirs = ours | {"title": "Theirs", "status": "revoked", "meta": {"versionId": "7"}}
        ehr.resources |= {f"{body['resourceType']}/{body['id']}": body for _, body in plan.resources}
        ehr.resources[f"CarePlan/{ours['id']}"] = theirs
        place = EhrDestination("ehr", FhirClient(ehr.base))
        with pytest.raises(Permanent):
            await place.deliver(delivery)
        await place.close()
    assert delivery.progress.ledger is not None
    (act,) = load(delivery.progress.ledger).acts
    assert ("careplan", "revoked", "7", None) == (act.role, act.status, act.version, act.edited)
