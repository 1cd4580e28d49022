"""A FHIR server's history by search: whole, from any server, whatever it does with pages, order and totals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from starlette.responses import JSONResponse, Response

from service.backfill.portions import Refusal
from service.backfill.searching import OVERLAP, Query, searched
from service.rest.client import FhirClient
from service.rest.errors import Permanent
from service.sandbox.events import instant
from tests.fhir_source import FhirSource
from tests.synthetic import SOURCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.backfill.portions import Portion, Position
    from service.sandbox.events import Resource

BEGIN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def encounters(count: int, *, of: str = "p-1", together: int = 1) -> list[Resource]:
    """Return encounters, as many of them `together` as changed in one instant, the instants a minute apart."""
    return [
        {
            "resourceType": "Encounter",
            "id": f"{of}-{number:03}",
            "meta": {"lastUpdated": instant(BEGIN + timedelta(minutes=number // together))},
            "subject": {"reference": f"Patient/{of}"},
        }
        for number in range(count)
    ]


@pytest.fixture
async def ehr() -> AsyncIterator[FhirSource]:
    """An EHR with 47 encounters, that answers."""
    source = FhirSource(encounters(47))
    async with source.answering():
        yield source


async def portions(ehr: FhirSource, query: Query | None = None, position: Position | None = None) -> list[Portion]:
    """Return all that a search brings."""
    query = query or Query(("Encounter",), page_size=10)
    async with FhirClient(ehr.base, timeout_s=10) as client:
        return [each async for each in searched(client, query, SOURCE, lambda: BEGIN, position)]


def ids(found: list[Portion]) -> list[str]:
    """Return the ids of the resources that were found, each once, in order."""
    return sorted({orjson.loads(each.value or b"")["id"] for portion in found for each in portion.records})


def all_ids(ehr: FhirSource) -> list[str]:
    """Return the ids of all that it holds."""
    return sorted(str(each["id"]) for each in ehr.resources)


@pytest.mark.parametrize(
    "habits",
    [
        {},
        {"tells_total": True},
        {"sorts": False},
        {"says_so": False},
        {"most": 20},
        {"most": 20, "tells_total": True},
        {"most": 20, "tells_total": True, "caps_total": True},
        {"forgets_after": 2},
        {"forgets_after": 1, "most": 30},
        {"sorts": False, "forgets_after": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("together", [1, 7])
async def test_every_resource_is_found_whatever_the_servers_habits(
    ehr: FhirSource, habits: dict[str, Any], together: int
) -> None:
    """Unsorted, its pages ended early or forgotten, with or without a total, and equal times across pages."""
    ehr.resources = encounters(47, together=together)
    for name, value in habits.items():
        setattr(ehr, name, value)
    found = await portions(ehr)
    assert all_ids(ehr) == ids(found)
    assert 0 == sum(each.lacking for each in found)


async def test_search_goes_on_from_any_position(ehr: FhirSource) -> None:
    """What came before it and what comes after make the whole, also where the page that it names is gone."""
    ehr.resources = encounters(47, together=3)
    ehr.most = 30
    whole = await portions(ehr)
    for place, portion in enumerate(whole):
        rest = await portions(ehr, position=orjson.loads(orjson.dumps(portion.position)))
        assert all_ids(ehr) == sorted({*ids(whole[: place + 1]), *ids(rest)})


async def test_more_of_one_instant_than_the_server_gives_is_told(ehr: FhirSource) -> None:
    """They can't be had by any search; what is newer is found all the same."""
    ehr.resources, ehr.most, ehr.tells_total = encounters(50, together=40), 25, True
    found = await portions(ehr)
    assert (15, 35) == (sum(each.lacking for each in found), len(ids(found)))


async def test_server_that_sorts_no_page_and_forgets_them_is_refused(ehr: FhirSource) -> None:
    """Beginning anew brings it no further, and it is not tried for ever."""
    ehr.sorts, ehr.forgets_after = False, 1
    with pytest.raises(Refusal, match="--page-size"):
        await portions(ehr)


async def test_server_that_sorts_badly_is_not_believed(ehr: FhirSource) -> None:
    """One that says that it sorts, and doesn't: a time then tells nothing of what is to come."""
    ehr.resources = [*ehr.resources[27:], *ehr.resources[:27]]
    ehr.sorts, ehr.lies = False, True
    whole = await portions(ehr)
    assert all_ids(ehr) == ids(whole)
    forgotten = {**whole[3].position, "link": f"{ehr.base}/Encounter?page=gone"}
    assert all_ids(ehr) == ids(await portions(ehr, position=forgotten))


async def test_pages_outside_the_configured_base_are_not_followed(ehr: FhirSource) -> None:
    """Neither another host, nor another path of the same one; the message says what to set, and no address."""
    for elsewhere in ("http://127.0.0.1:9/fhir/Encounter", ehr.base.replace("/fhir", "/fhirs/Encounter")):
        ehr.links_to = elsewhere
        with pytest.raises(Permanent, match="fhir_base") as caught:
            await portions(ehr)
        assert "127.0.0.1" not in str(caught.value)


async def test_pages_that_lead_in_a_circle_are_left(ehr: FhirSource) -> None:
    """Whether of one page or of two, each with resources."""

    def page(to: str) -> Response:
        entry = [{"resource": ehr.resources[0]}]
        link = [{"relation": "next", "url": f"{ehr.base}/Encounter?page={to}"}]
        return JSONResponse({"resourceType": "Bundle", "entry": entry, "link": link})

    ehr.failing = [page(to) for to in "-abababab"]
    with pytest.raises(Refusal, match="lead nowhere"):
        await portions(ehr)


async def test_relative_links_are_followed(ehr: FhirSource) -> None:
    """Taken from the base."""
    ehr.links_to = "Encounter"
    assert all_ids(ehr) == ids(await portions(ehr))


async def test_what_is_no_result_is_left_out(ehr: FhirSource) -> None:
    """Outcomes of the search, and what came along with its results."""
    ehr.extra = [
        {"resource": {"resourceType": "OperationOutcome", "id": "o"}, "search": {"mode": "outcome"}},
        {"resource": {"resourceType": "OperationOutcome", "id": "o"}},
        {"resource": {"resourceType": "Patient", "id": "p-1"}, "search": {"mode": "include"}},
    ]
    assert all_ids(ehr) == ids(await portions(ehr))


async def test_entry_that_holds_no_resource_is_not_lost(ehr: FhirSource) -> None:
    """It is handed on as it is, for the intake to park."""
    ehr.resources, ehr.extra = [], [{"fullUrl": "urn:uuid:1"}, {"resource": 7}]
    (page, _) = await portions(ehr)
    assert [b'{"fullUrl":"urn:uuid:1"}', b"7"] == [each.value for each in page.records]


async def test_resource_that_cannot_be_read_spoils_no_other_of_its_page(ehr: FhirSource) -> None:
    """Half a character, and a key that stands twice: both are handed on as the server wrote them."""
    half = b'{"resourceType":"Encounter","id":"a","note":"\\ud800"}'
    twice = b'{"resourceType":"Encounter","id":1,"id":2}'
    sound = orjson.dumps(ehr.resources[0])
    entries = b",".join(b'{"resource":' + each + b"}" for each in (half, sound, twice))
    total = JSONResponse({"resourceType": "Bundle", "total": 3})
    page_of_three = b'{"resourceType":"Bundle","entry":[' + entries + b"]}"
    ehr.failing = [total, Response(page_of_three, media_type="application/json")]
    (page, _) = await portions(ehr)
    assert [half, sound, twice] == [each.value for each in page.records]


async def test_search_is_bounded_by_time_and_patient(ehr: FhirSource) -> None:
    """It begins a little earlier than asked, and never asks for another patient's resources."""
    ehr.resources += encounters(20, of="p-2") + encounters(20, of="p-3")
    since, until = BEGIN + OVERLAP + timedelta(minutes=2), BEGIN + timedelta(minutes=12)
    found = await portions(ehr, Query(("Encounter",), since, until, ("p-2", "p-1"), page_size=4))
    assert [f"{patient}-{number:03}" for patient in ("p-1", "p-2") for number in range(2, 12)] == ids(found)
    assert (2, 2) == (found[-1].done, found[-1].total)


async def test_patient_is_searched_for_by_its_own_id(ehr: FhirSource) -> None:
    """A Patient is about nobody else."""
    await portions(ehr, Query(("Patient", "Encounter"), patients=("p-1",)))
    assert ["/fhir/Patient?_id=p-1", "/fhir/Encounter?patient=p-1"] == [each.partition("&")[0] for each in ehr.asked]


async def test_server_that_is_away_for_a_moment_is_asked_again(ehr: FhirSource) -> None:
    """In the middle of a search too."""
    ehr.failing = [JSONResponse({}, 503, {"Retry-After": "0"})]
    assert all_ids(ehr) == ids(await portions(ehr))


async def test_page_that_is_too_large_is_asked_for_in_smaller_ones(ehr: FhirSource) -> None:
    """From where the search has come to."""
    ehr.resources[30]["note"] = "x" * 3_000
    assert all_ids(ehr) == ids(await portions(ehr, Query(("Encounter",), page_size=20, page_bytes=4_500)))


async def test_no_more_than_a_page_is_held(ehr: FhirSource) -> None:
    """However many resources there are."""
    ehr.resources = encounters(300)
    assert 10 == max(len(each.records) for each in await portions(ehr))


async def into(found: list[Portion], read: AsyncIterator[Portion]) -> None:
    """Add all that is read, until something is raised."""
    async for portion in read:
        found.append(portion)  # noqa: PERF401 - what came before it counts


async def test_type_that_is_refused_keeps_no_other_from_being_found() -> None:
    """All else is found first; the next run asks for that type alone."""
    ehr = FhirSource([*encounters(3), {"resourceType": "Task", "id": "t", "meta": {"lastUpdated": instant(BEGIN)}}])
    ehr.forbidden = frozenset({"Patient"})
    found: list[Portion] = []
    query = Query(("Patient", "Encounter", "Task"))
    async with ehr.answering(), FhirClient(ehr.base, timeout_s=10) as client:
        with pytest.raises(Permanent, match="forbids"):
            await into(found, searched(client, query, SOURCE, lambda: BEGIN))
        assert all_ids(ehr) == ids(found)
        ehr.asked.clear()
        with pytest.raises(Permanent, match="forbids"):
            await into(found, searched(client, query, SOURCE, lambda: BEGIN, found[-1].position))
    assert {"/fhir/Patient"} == {each.partition("?")[0] for each in ehr.asked}


async def test_type_that_the_server_may_lack_is_passed_over() -> None:
    """Where nobody says that it has it."""
    ehr = FhirSource(encounters(3))
    ehr.forbidden = frozenset({"Patient"})
    async with ehr.answering():
        found = await portions(ehr, Query(("Patient", "Encounter"), may_lack=frozenset({"Patient"})))
    assert all_ids(ehr) == ids(found)


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_refusal_of_the_search_is_told_without_the_servers_words(ehr: FhirSource, status: int) -> None:
    """It may quote what was asked for."""
    outcome = {"issue": [{"severity": "error", "code": "invalid", "diagnostics": "Ms Doe"}]}
    ehr.failing = [JSONResponse({"resourceType": "OperationOutcome", **outcome}, status)] * 2
    with pytest.raises(Permanent, match="search") as caught:
        await portions(ehr)
    assert (("invalid",), False) == (caught.value.outcome_codes, "Doe" in str(caught.value))
