"""What changes only name is fetched from the source's own EHR, whatever that answers, and while the intake goes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from service.fetching import Fetcher
from service.inbound.records import Limits, Record
from service.inbound.relevance import Relevance
from service.intake import Feed, Intake
from service.rest.client import FhirClient
from service.sandbox.events import instant
from service.sandbox.patients import generate
from service.settings import Fetching
from service.store import ParkedState
from tests.charts import Charts, charts, fhir, status
from tests.property.strategies import START
from tests.synthetic import SOURCE
from tests.workers import END, TOPICS, Clock, expected, stored, vitals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable

    from service.domain.mappings import Mappings
    from service.sandbox.events import Event, Resource
    from service.store import Store
    from service.vitals import Vitals

ANNA = generate(7, 1, START)[0]
WHOLE = [event for event in ANNA.events if event.resource is not None and event.key.split("/")[0] in TOPICS]
NEWEST: dict[str, Resource] = {event.key: event.resource for event in WHOLE if event.resource is not None}
SESSION = next(
    event
    for event in reversed(WHOLE)
    if event.kind == "Encounter" and event.resource is not None and event.resource["status"] == "finished"
)
MRN = "urn:oid:1.2.36.146"
HOUR = timedelta(hours=1)


@dataclass
class Site:
    """One worker of a site whose EHR sends references alone."""

    intake: Intake
    fetcher: Fetcher
    vitals: Vitals
    clock: Clock
    store: Store
    changed: list[bool]
    """One for each turn that changed a course."""

    async def take(self, records: Iterable[Record]) -> None:
        """Take records in as one batch."""
        await self.intake.process(await self.intake.read(list(records)))

    async def fetch(self) -> None:
        """Fetch until nothing is due."""
        while await self.fetcher.turn(asyncio.Event()):
            pass

    async def fetch_on(self) -> None:
        """Fetch what comes to be due within some hours."""
        for _ in range(5):
            await self.fetch()
            self.clock.at += HOUR

    async def waits(self) -> int:
        """Return how many resources wait."""
        return (await self.store.awaiting.pending(SOURCE.id)).count

    async def parked(self) -> list[tuple[str, int | None]]:
        """Return reason and offset of what is parked."""
        return [(each.reason, each.offset) for each in await self.store.operators.parked()]

    def fetches(self, outcome: str) -> float:
        """Return how many fetches ended so."""
        labels = {"source": SOURCE.id, "outcome": outcome}
        return self.vitals.metrics.registry.get_sample_value("ipt_bridge_fetches_total", labels) or 0.0


@pytest.fixture
async def ehr() -> AsyncIterator[Charts]:
    """The source's EHR."""
    async with charts() as server:
        yield server


@pytest.fixture
async def client(ehr: Charts) -> AsyncIterator[FhirClient]:
    """A client of it that waits long enough for the tests, and not for ever."""
    async with FhirClient(ehr.base, timeout_s=10) as opened:
        yield opened


def site_at(store: Store, client: FhirClient, mappings: Mappings, clock: Clock, *, search: bool = True) -> Site:
    """Return a worker that has just started."""
    context = replace(SOURCE, base=client.base, searches_subjects=search)
    feed = Feed(context, Relevance.of(mappings), mappings)
    numbers = vitals(clock)
    intake = Intake(store, dict.fromkeys(TOPICS, feed), [], Limits(), numbers)
    changed: list[bool] = []
    fetcher = Fetcher(
        store,
        intake,
        feed,
        client,
        settings=Fetching(),
        limits=Limits(),
        vitals=numbers,
        on_change=lambda: changed.append(True),
    )
    return Site(intake, fetcher, numbers, clock, store, changed)


@pytest.fixture
def site(store: Store, client: FhirClient, mappings: Mappings, clock: Clock) -> Site:
    """A worker, one on each kind of database."""
    return site_at(store, client, mappings, clock)


def named(event: Event, offset: int = 0) -> Record:
    """Return an event as LinuxForHealth sends one whose resource is too large: its reference alone."""
    meta = (event.resource or {})["meta"]
    location = f"{event.key}/_history/{meta['versionId']}"
    content = {"lastUpdated": meta["lastUpdated"], "location": location, "operationType": "update"}
    return Record(event.kind, 0, offset, event.time, None, orjson.dumps(content))


def whole(resource: Resource, offset: int = 0) -> Record:
    """Return a resource as it is."""
    return Record(resource["resourceType"], 0, offset, END, None, orjson.dumps(resource))


def by_identifier(resource: Resource, value: str = "7") -> Resource:
    """Return a resource whose patient is named by a hospital number alone."""
    return resource | {"subject": {"identifier": {"system": MRN, "value": value}}}


async def test_what_is_fetched_comes_to_what_whole_events_come_to(site: Site, ehr: Charts, mappings: Mappings) -> None:
    """All of a patient's history by reference alone gives the same courses, each resource asked for once."""
    ehr.resources |= NEWEST
    await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
    assert {} == await stored(site.store, ANNA.patient_id)
    await site.fetch()
    assert expected(ANNA.patient_id, WHOLE, mappings) == await stored(site.store, ANNA.patient_id)
    assert sorted(NEWEST) == sorted(ehr.asked)
    assert (0, []) == (await site.waits(), await site.parked())
    assert site.changed


async def test_what_waits_outlives_the_worker(
    site: Site, other: Store, client: FhirClient, ehr: Charts, mappings: Mappings
) -> None:
    """Another worker fetches what this one only noted."""
    ehr.resources |= NEWEST
    await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
    heir = site_at(other, client, mappings, site.clock)
    await heir.fetch()
    assert expected(ANNA.patient_id, WHOLE, mappings) == await stored(site.store, ANNA.patient_id)


async def test_workers_fetch_nothing_twice(
    site: Site, other: Store, client: FhirClient, ehr: Charts, mappings: Mappings
) -> None:
    """Two at once share what waits."""
    ehr.resources |= NEWEST
    await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
    await asyncio.gather(site.fetch(), site_at(other, client, mappings, site.clock).fetch())
    assert sorted(NEWEST) == sorted(ehr.asked)
    assert 0 == await site.waits()


async def test_version_that_was_read_before_is_not_fetched(site: Site, ehr: Charts) -> None:
    """Neither where it came whole, nor where it was fetched, be it ours or not."""
    other = {"resourceType": "Encounter", "id": "o-1", "status": "finished", "meta": NEWEST[SESSION.key]["meta"]}
    stranger = replace(SESSION, key="Encounter/o-1", resource=other)
    ehr.resources["Encounter/o-1"] = other
    await site.take([whole(NEWEST[SESSION.key]), named(stranger, 1)])
    await site.fetch()
    await site.take([named(SESSION, 2), named(stranger, 3)])
    await site.fetch()
    assert ["Encounter/o-1"] == ehr.asked
    assert (2, 0) == (site.fetches("known"), await site.waits())


@pytest.mark.parametrize("gone", [404, 410])
async def test_resource_that_is_gone_counts_as_deleted(gone: int, site: Site, ehr: Charts, mappings: Mappings) -> None:
    """As of the change that named it: a version written later would stay."""
    await site.take(whole(resource, offset) for offset, resource in enumerate(NEWEST.values()))
    ehr.refused[SESSION.key] = status(gone)
    await site.take([named(_next_version(SESSION), 500)])
    await site.fetch_on()
    left = [event for event in WHOLE if event.key != SESSION.key]
    assert expected(ANNA.patient_id, left, mappings) == await stored(site.store, ANNA.patient_id)
    assert 1 == site.fetches("gone")


async def test_fetched_resource_with_a_key_that_stands_twice_is_parked(site: Site, ehr: Charts) -> None:
    """As one that the stream brings: nobody can tell which of the two counts."""
    body = orjson.dumps(NEWEST[SESSION.key]).replace(b'"status":', b'"status":"cancelled","status":', 1)
    ehr.refused[SESSION.key] = Response(body, media_type="application/fhir+json")
    await site.take([named(SESSION)])
    await site.fetch()
    assert ([("duplicate-key", 0)], 0) == (await site.parked(), await site.waits())


@pytest.mark.parametrize("content", [{"message": "no Route matched with those values"}, {}])
async def test_what_a_gateway_does_not_find_is_asked_for_again(
    content: Resource, site: Site, ehr: Charts, mappings: Mappings
) -> None:
    """Only a FHIR server's word makes a session count as deleted."""
    await site.take(whole(resource, offset) for offset, resource in enumerate(NEWEST.values()))
    ehr.refused[SESSION.key] = JSONResponse(content, status_code=404)
    await site.take([named(_next_version(SESSION), 500)])
    await site.fetch_on()
    assert expected(ANNA.patient_id, WHOLE, mappings) == await stored(site.store, ANNA.patient_id)
    assert (0, 1) == (site.fetches("gone"), await site.waits())


async def test_what_a_replica_that_lags_behind_does_not_find_is_asked_for_again(
    site: Site, ehr: Charts, mappings: Mappings
) -> None:
    """Not found once, or twice, is no delete; nor is it where other faults came before."""
    ehr.resources |= NEWEST
    ehr.faults += [status(503), status(404)]
    await site.take([named(SESSION)])
    await site.fetch_on()
    only = [event for event in WHOLE if event.key == SESSION.key]
    assert expected(ANNA.patient_id, only, mappings) == await stored(site.store, ANNA.patient_id)
    assert ([SESSION.key] * 3, 0) == (ehr.asked, site.fetches("gone"))


async def test_version_that_was_not_found_and_is_read_later_counts(site: Site, ehr: Charts, mappings: Mappings) -> None:
    """What was not found is less than what is read of the same version, whichever comes first."""
    await site.take([named(SESSION)])
    await site.fetch_on()
    assert 1 == site.fetches("gone")
    assert {} == await stored(site.store, ANNA.patient_id)
    await site.take([whole(NEWEST[SESSION.key], 1)])
    only = [event for event in WHOLE if event.key == SESSION.key]
    assert expected(ANNA.patient_id, only, mappings) == await stored(site.store, ANNA.patient_id)
    assert ehr.asked == [SESSION.key] * 3


async def test_forbidden_resource_is_parked_until_the_right_is_given(site: Site, ehr: Charts) -> None:
    """A retry asks again; nobody asks before."""
    ehr.refused[SESSION.key] = status(403)
    await site.take([named(SESSION)])
    await site.fetch()
    await site.fetch()
    assert ([("fetch-forbidden", 0)], [SESSION.key]) == (await site.parked(), ehr.asked)

    ehr.refused.clear()
    ehr.resources[SESSION.key] = NEWEST[SESSION.key]
    (item,) = await site.store.operators.parked()
    (retry,) = await site.store.operators.retry([item.id], END)
    await site.take([named(SESSION)])
    async with site.store.transaction() as transaction:
        await transaction.resolve([retry.item.id], END)
    await site.fetch()
    assert [] == await site.parked()
    assert await stored(site.store, ANNA.patient_id)


async def test_retry_that_fails_again_is_before_a_person_again(site: Site, ehr: Charts) -> None:
    """Though what was parked was closed when it began to wait."""
    ehr.refused[SESSION.key] = status(403)
    await site.take([named(SESSION)])
    await site.fetch()
    (item,) = await site.store.operators.parked()
    await site.store.operators.retry([item.id], END)
    await site.take([named(SESSION)])
    async with site.store.transaction() as transaction:
        await transaction.resolve([item.id], END)
    assert [] == await site.parked()
    await site.fetch()
    assert [(item.id, ParkedState.OPEN)] == [(each.id, each.state) for each in await site.store.operators.parked()]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(400), "fetch-refused"),
        (fhir({"resourceType": "Encounter", "id": "another"}), "fetched-other"),
        (fhir({"resourceType": "OperationOutcome"}), "fetched-other"),
        (HTMLResponse('{"resourceType"', media_type="application/fhir+json"), "not-json"),
    ],
)
async def test_answer_that_is_of_no_use_is_parked_with_its_reason(
    answer: HTMLResponse, reason: str, site: Site, ehr: Charts
) -> None:
    """The record that named the resource is kept."""
    ehr.refused[SESSION.key] = answer
    await site.take([named(SESSION, 3)])
    await site.fetch()
    assert ([(reason, 3)], 0) == (await site.parked(), await site.waits())


async def test_unreadable_resource_is_parked_with_the_path_in_it(site: Site, ehr: Charts) -> None:
    """Only that one of those fetched at once."""
    ehr.resources |= NEWEST | {SESSION.key: NEWEST[SESSION.key] | {"status": "Finished"}}
    await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
    await site.fetch()
    (item,) = await site.store.operators.parked()
    assert ("bad-status", "Encounter.status") == (item.reason, item.path)
    assert await stored(site.store, ANNA.patient_id)


async def test_ehr_that_is_in_trouble_is_left_alone_and_nothing_is_lost(
    site: Site, ehr: Charts, mappings: Mappings
) -> None:
    """Whatever it answers meanwhile; what waits is asked for when the time comes that it asked for."""
    ehr.resources |= NEWEST
    ehr.faults.append(status(429, **{"Retry-After": "840"}))
    await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
    await site.fetch()
    asked = len(ehr.asked)
    assert (True, len(NEWEST)) == (asked <= Fetching().concurrency, asked - 1 + await site.waits())

    site.clock.at += timedelta(minutes=13)
    await site.fetch()
    assert asked == len(ehr.asked)
    site.clock.at += HOUR
    await site.fetch()
    await site.fetch()
    assert expected(ANNA.patient_id, WHOLE, mappings) == await stored(site.store, ANNA.patient_id)
    assert [] == await site.parked()


async def test_ehr_that_fails_one_after_the_other_is_tried_with_one(site: Site, ehr: Charts) -> None:
    """Then with all, once that one goes well."""
    ehr.resources |= NEWEST
    ehr.faults += [status(500)] * 50
    await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
    await site.fetch()
    failed = len(ehr.asked)
    assert failed < Fetching().failures + Fetching().concurrency
    site.clock.at += HOUR
    await site.fetcher.turn(asyncio.Event())
    assert failed + 1 == len(ehr.asked)
    ehr.faults.clear()
    site.clock.at += HOUR
    await site.fetch()
    await site.fetch()
    assert 0 == await site.waits()


async def test_resource_in_trouble_holds_up_no_other(site: Site, ehr: Charts) -> None:
    """It alone waits, longer each time."""
    ehr.resources |= NEWEST
    ehr.refused[SESSION.key] = status(500)
    await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
    await site.fetch()
    assert (1, len(NEWEST)) == (await site.waits(), len(ehr.asked))
    ehr.refused.clear()
    site.clock.at += HOUR
    await site.fetch()
    assert (0, 1) == (await site.waits(), site.fetches("retried"))


async def test_events_that_come_whole_go_on_while_the_ehr_gives_no_answer(
    site: Site, ehr: Charts, mappings: Mappings
) -> None:
    """The fetcher waits, and nobody else does."""
    ehr.open.clear()
    ehr.resources |= NEWEST
    await site.take([named(SESSION)])
    stop = asyncio.Event()
    fetching = asyncio.create_task(site.fetcher.run(stop))
    await ehr.called.wait()
    left = [event for event in WHOLE if event.key != SESSION.key]
    await site.take(whole(event.resource or {}, offset) for offset, event in enumerate(left, 1))
    assert expected(ANNA.patient_id, left, mappings) == await stored(site.store, ANNA.patient_id)

    stop.set()
    ehr.open.set()
    await fetching
    assert 0 == await site.waits()
    assert expected(ANNA.patient_id, WHOLE, mappings) == await stored(site.store, ANNA.patient_id)


async def test_change_that_comes_while_its_resource_is_fetched_is_fetched_too(site: Site, ehr: Charts) -> None:
    """The answer under way may be of before it."""
    ehr.open.clear()
    ehr.resources |= NEWEST
    await site.take([named(SESSION)])
    turn = asyncio.create_task(site.fetch())
    await ehr.called.wait()
    cancelled = _next_version(SESSION, status="cancelled")
    await site.take([named(cancelled, 1)])
    ehr.open.set()
    await turn
    ehr.resources[SESSION.key] = cancelled.resource or {}
    await site.fetch()
    assert ([SESSION.key] * 2, 0) == (ehr.asked, await site.waits())


async def test_address_in_the_data_is_never_called(site: Site, ehr: Charts) -> None:
    """Whatever server a notification names: only the configured one is asked."""
    ehr.resources |= NEWEST
    async with charts() as elsewhere:
        elsewhere.resources |= NEWEST
        url = f"{elsewhere.base}/{SESSION.key}"
        focus = {"name": "focus", "valueReference": {"reference": url}}
        number = {"name": "event-number", "valueString": "1"}
        event = {"name": "notification-event", "part": [number, focus]}
        told = {
            "resourceType": "Parameters",
            "parameter": [{"name": "type", "valueCode": "event-notification"}, event],
        }
        entry = {"fullUrl": url, "request": {"method": "PUT", "url": url}, "response": {"status": "200"}}
        bundle = {"resourceType": "Bundle", "type": "history", "entry": [{"resource": told}, entry]}
        await site.take([Record("Encounter", 0, 0, END, None, orjson.dumps(bundle))])
        await site.fetch()
        assert ([SESSION.key], []) == (ehr.asked, elsewhere.asked)


@pytest.mark.parametrize(("identity", "asked"), [("..", []), ("a%2F..%2Fb", ["Encounter/a%2F..%2Fb"])])
async def test_id_leads_to_no_other_place_of_the_server(
    identity: str, asked: list[str], site: Site, ehr: Charts
) -> None:
    """What stands in the data is one part of the path, or none."""
    content = {"lastUpdated": instant(END), "location": f"Encounter/{identity}", "operationType": "update"}
    await site.take([Record("Encounter", 0, 0, END, None, orjson.dumps(content))])
    await site.fetch_on()
    assert (set(asked), 0) == (set(ehr.asked), await site.waits())


async def test_without_a_base_what_is_only_named_is_parked(store: Store, mappings: Mappings, clock: Clock) -> None:
    """With the setting that helps."""
    feed = Feed(SOURCE, Relevance.of(mappings), mappings)
    intake = Intake(store, dict.fromkeys(TOPICS, feed), [], Limits(), vitals(clock))
    await intake.process(await intake.read([named(SESSION)]))
    assert ["reference-only"] == [each.reason for each in await store.operators.parked()]


async def test_patient_named_by_identifier_is_searched_for(site: Site, ehr: Charts, mappings: Mappings) -> None:
    """At the source's own EHR; the session then counts as if the patient had been named."""
    ehr.patients[f"{MRN}|7"] = [ANNA.patient_id]
    await site.take(whole(by_identifier(resource), offset) for offset, resource in enumerate(NEWEST.values()))
    assert {} == await stored(site.store, ANNA.patient_id)
    await site.fetch()
    assert expected(ANNA.patient_id, WHOLE, mappings) == await stored(site.store, ANNA.patient_id)
    assert {f"Patient?{MRN}|7"} == set(ehr.asked)
    assert (0, []) == (await site.waits(), await site.parked())


async def test_patient_is_searched_for_by_an_address_without_the_hospital_number(site: Site, ehr: Charts) -> None:
    """Addresses land in access logs; in them only where the server takes no search by POST, which is tried once."""
    ehr.patients[f"{MRN}|7"] = [ANNA.patient_id]
    await site.take([whole(by_identifier(NEWEST[SESSION.key]))])
    await site.fetch()
    assert ([""], 0) == (ehr.queries, await site.waits())

    ehr.takes_posts = False
    await site.take([whole(by_identifier(_changed("a")), 1), whole(by_identifier(_changed("b")), 2)])
    for _ in range(2):
        await site.fetch()
    assert ([], 0) == (await site.parked(), await site.waits())
    assert [True, True] == ["identifier=" in each for each in ehr.queries if each]


async def test_who_was_merged_into_the_patient_found_is_left_out(site: Site, ehr: Charts, mappings: Mappings) -> None:
    """Both answer to the one hospital number."""
    ehr.patients[f"{MRN}|7"] = ["p-old", ANNA.patient_id, "p-older"]
    ehr.replaced = {"p-old", "p-older"}
    await site.take([whole(by_identifier(NEWEST[SESSION.key]))])
    await site.fetch()
    only = [event for event in WHOLE if event.key == SESSION.key]
    assert expected(ANNA.patient_id, only, mappings) == await stored(site.store, ANNA.patient_id)
    assert [] == await site.parked()


@pytest.mark.parametrize("value", ["7" * 70_000, "7" * 1_100])
async def test_identifier_that_is_too_long_is_parked(value: str, site: Site, ehr: Charts) -> None:
    """It fits no address; the source's other records go on."""
    await site.take([whole(by_identifier(NEWEST[SESSION.key], value))])
    await site.fetch()
    assert (["unresolved-subject"], []) == ([reason for reason, _ in await site.parked()], ehr.asked)


class Defect(httpx.Auth):
    """Fails on one address as nobody foresaw."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Let all other requests go out as they are."""
        if request.url.path.endswith(SESSION.key):
            raise ZeroDivisionError
        yield request


async def test_resource_that_a_defect_ends_is_parked_alone(
    store: Store, ehr: Charts, mappings: Mappings, clock: Clock
) -> None:
    """Whatever else is asked for at the same time goes on, and nothing is asked for again and again."""
    ehr.resources |= NEWEST
    async with FhirClient(ehr.base, auth=Defect()) as client:
        site = site_at(store, client, mappings, clock)
        await site.take(named(event, offset) for offset, event in enumerate(WHOLE))
        await site.fetch()
    left = [event for event in WHOLE if event.key != SESSION.key]
    assert expected(ANNA.patient_id, left, mappings) == await stored(site.store, ANNA.patient_id)
    assert (["fetch-refused"], 0) == ([reason for reason, _ in await site.parked()], await site.waits())


@pytest.mark.parametrize(("found", "reason"), [([], "subject-not-found"), (["p-1", "p-2"], "subject-ambiguous")])
async def test_patient_who_is_not_the_only_one_found_is_not_guessed(
    found: list[str], reason: str, site: Site, ehr: Charts
) -> None:
    """Zero or several are parked."""
    ehr.patients[f"{MRN}|7"] = found
    await site.take([whole(by_identifier(NEWEST[SESSION.key]))])
    await site.fetch()
    (item,) = await site.store.operators.parked()
    assert (reason, "Encounter.subject") == (item.reason, item.path)


async def test_fetched_resource_whose_patient_is_an_identifier_is_searched_for_too(
    site: Site, ehr: Charts, mappings: Mappings
) -> None:
    """Both questions are asked in one go."""
    ehr.patients[f"{MRN}|7"] = [ANNA.patient_id]
    ehr.resources[SESSION.key] = by_identifier(NEWEST[SESSION.key])
    await site.take([named(SESSION)])
    await site.fetch()
    only = [event for event in WHOLE if event.key == SESSION.key]
    assert expected(ANNA.patient_id, only, mappings) == await stored(site.store, ANNA.patient_id)
    assert [SESSION.key, f"Patient?{MRN}|7"] == ehr.asked


@pytest.mark.parametrize(
    "subject", [{"identifier": {"value": "7"}}, {"identifier": {"system": MRN}}, {"display": "Jane Roe", "id": "x"}]
)
async def test_identifier_that_names_nobody_surely_is_parked(subject: dict[str, Any], site: Site, ehr: Charts) -> None:
    """Without its system a number is anybody's."""
    await site.take([whole(NEWEST[SESSION.key] | {"subject": subject})])
    await site.fetch()
    assert ([], 1) == (ehr.asked, len(await site.parked()))


async def test_identifiers_are_parked_where_the_source_says_so(
    store: Store, client: FhirClient, ehr: Charts, mappings: Mappings, clock: Clock
) -> None:
    """The default: no search."""
    site = site_at(store, client, mappings, clock, search=False)
    await site.take([whole(by_identifier(NEWEST[SESSION.key]))])
    await site.fetch()
    assert ([("unresolved-subject", 0)], []) == (await site.parked(), ehr.asked)


def _changed(id_: str) -> Resource:
    """Return the session as another one."""
    return NEWEST[SESSION.key] | {"id": id_}


def _next_version(event: Event, **elements: Any) -> Event:  # noqa: ANN401 - any element of a resource
    """Return an event with the next version of a resource, long after the last."""
    meta = {"versionId": "99", "lastUpdated": instant(END)}
    return replace(event, resource=(event.resource or {}) | {"meta": meta} | elements, time=END)
