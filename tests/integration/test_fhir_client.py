"""What a FHIR server, or what stands before it, can answer: a real socket, answers written byte by byte."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import orjson
import pytest

from service.domain.course import Severity
from service.outbound.careplan import render, withheld
from service.outbound.destination import PlanDelivery
from service.outbound.ehr import EhrDestination
from service.outbound.identity import Place, establish
from service.outbound.ledger import digest
from service.outbound.recording import Recording
from service.outbound.terms import Taken, Versions
from service.rest.answers import Refused
from service.rest.client import Conflict, FhirClient
from service.rest.errors import Conflicting, Permanent, Transient
from tests import courses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from service.domain.mappings import Mappings

PLAN = {"resourceType": "CarePlan", "id": "c-1"}
DROPPED = b""
"""No answer: the connection is closed when the request has been read."""


def answer(status: str, *headers: str, body: bytes = b"", media_type: str = "application/fhir+json") -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Type: {media_type}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def outcome(*issues: dict[str, object]) -> bytes:
    """Return an OperationOutcome."""
    return orjson.dumps({"resourceType": "OperationOutcome", "issue": issues})


@dataclass
class Script:
    """Answers in their order, and the requests that got them."""

    base: str = ""
    answers: deque[bytes] = field(default_factory=deque)
    requests: list[bytes] = field(default_factory=list)
    pause_s: float | None = None
    """Between an answer's bytes; without it, the answer goes out whole."""
    reply: Callable[[bytes], bytes] | None = None
    """What makes the answers, where they are not in an order."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an answer has gone out, or whoever waited for it has gone."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""
        self.requests.append(head + body)
        reply = self.reply(self.requests[-1]) if self.reply else self.answers.popleft()
        pieces = [reply] if self.pause_s is None else [reply[at : at + 1] for at in range(len(reply))]
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.pause_s or 0)
        writer.close()
        self.ended.set()


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    """Return a server that answers as it is told."""
    told = Script()
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir"
    yield told
    server.close()
    await server.wait_closed()


@pytest.fixture
async def client(script: Script) -> AsyncIterator[FhirClient]:
    """Return a client of that server, with a small limit for answers."""
    async with FhirClient(script.base, timeout_s=5, body_limit=10_000) as opened:
        yield opened


@pytest.mark.parametrize(
    ("reply", "code", "wait"),
    [
        (answer("503 Unavailable", "Retry-After: 17"), "http-503", 17.0),
        (answer("429 Too Many", "Retry-After: 0"), "http-429", 0.0),
        (answer("408 Timeout"), "http-408", None),
        (answer("500 Error", body=b"<html>", media_type="text/html"), "http-500", None),
        (answer("503 Unavailable", "Retry-After: soon"), "http-503", None),
        (
            answer(
                "503 Unavailable",
                "Date: Tue, 03 Mar 2026 10:00:00 GMT",
                "Retry-After: Tue, 03 Mar 2026 10:02:00 GMT",
            ),
            "http-503",
            120.0,
        ),
        (answer("401 Unauthorized"), "unauthorised", None),
        (answer("302 Found", "Location: https://login.example/"), "redirected", None),
        (answer("200 OK", body=b"<html>Please log in</html>", media_type="text/html"), "not-fhir", None),
        (answer("404 Not Found", body=b"<html>nginx</html>", media_type="text/html; charset=utf-8"), "not-fhir", None),
        (DROPPED, "unreachable", None),
        (b"nonsense\r\n\r\n", "unreachable", None),
    ],
)
async def test_what_says_nothing_of_the_plan_is_transient(
    reply: bytes, code: str, wait: float | None, script: Script, client: FhirClient
) -> None:
    """With the wait that the server asks for."""
    script.answers.append(reply)
    with pytest.raises(Transient) as caught:
        await client.put(PLAN, if_match="1", request_id="r")
    assert (code, wait) == (caught.value.code, caught.value.retry_after)


async def test_a_server_that_does_not_answer_in_time_is_transient(script: Script) -> None:
    """An answer of which only the beginning comes."""
    script.answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")
    async with FhirClient(script.base, timeout_s=0.2) as hasty:
        with pytest.raises(Transient) as caught:
            await hasty.put(PLAN, if_match=None, request_id="r")
    assert caught.value.code in {"timeout", "unreachable"}


async def test_an_address_that_can_be_none_is_permanent(client: FhirClient) -> None:
    """Nothing is sent, and it is not tried again."""
    with pytest.raises(Permanent) as caught:
        await client.get(f"Encounter/{'e' * 70_000}")
    assert "bad-address" == caught.value.code


async def test_a_server_that_is_away_is_transient() -> None:
    """Nobody listens at the discard port."""
    async with FhirClient("http://127.0.0.1:9/fhir") as lonely:
        with pytest.raises(Transient) as caught:
            await lonely.read("CarePlan", "c-1")
    assert "unreachable" == caught.value.code


async def test_a_refusal_tells_its_errors_codes_and_no_text(script: Script, client: FhirClient) -> None:
    """Warnings are not why; a code that is a sentence is a text."""
    issues: tuple[dict[str, object], ...] = (
        {"severity": "warning", "code": "informational"},
        {"severity": "error", "code": "invalid", "diagnostics": "Ms Doe", "details": {"coding": [{"code": "per-1"}]}},
        {"severity": "fatal", "code": "Ms Doe was born in 1970", "details": {"text": "Ms Doe"}},
    )
    script.answers.append(answer("422 Unprocessable", body=outcome(*issues)))
    with pytest.raises(Refused) as caught:
        await client.put(PLAN, if_match="1", request_id="r")
    assert ("http-422", ("invalid", "per-1")) == (caught.value.code, caught.value.outcome_codes)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"[]", b'{"resourceType": "OperationOutcome"}', outcome({"severity": "error"})]
)
async def test_a_refusal_without_codes_is_a_refusal(body: bytes, script: Script, client: FhirClient) -> None:
    """Whatever its body is."""
    script.answers.append(answer("400 Bad Request", body=body))
    with pytest.raises(Refused) as caught:
        await client.put(PLAN, if_match="1", request_id="r")
    assert () == caught.value.outcome_codes


@pytest.mark.parametrize(("status", "code"), [("403 Forbidden", "forbidden"), ("405 Not Allowed", "not-supported")])
async def test_what_the_server_never_takes_is_permanent(
    status: str, code: str, script: Script, client: FhirClient
) -> None:
    """Trying again would not help: what was to be updated is there."""
    script.answers += [answer(status), answer("200 OK", body=b"{}")]
    with pytest.raises(Permanent) as caught:
        await client.put(PLAN, if_match="1", request_id="r")
    assert code == caught.value.code


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("401 Unauthorized", "Check the authentication that is set for it."),
        ("301 Moved", "Set its base to where it really is."),
        ("403 Forbidden", "Ask for the right to read these resources."),
        ("405 Not Allowed", "Look at what its statement lets read."),
    ],
)
async def test_what_cannot_be_read_is_told_as_of_any_server(
    status: str, message: str, script: Script, client: FhirClient
) -> None:
    """Sources are read from, too: neither a destination nor a plan is spoken of."""
    script.answers.append(answer(status))
    with pytest.raises((Permanent, Transient)) as caught:
        await client.get("Encounter/e-1")
    told = str(caught.value)
    assert (message, False, False) == (told[-len(message) :], "destination" in told, "plan" in told)


@pytest.mark.parametrize("read", ["404 Not Found", "410 Gone"])
async def test_an_update_of_what_was_deleted_is_a_conflict_where_the_server_chooses_ids(
    read: str, script: Script, client: FhirClient
) -> None:
    """It answers 405, since it would have to make it again under an id of ours."""
    script.answers += [answer("405 Method Not Allowed"), answer(read)]
    with pytest.raises(Conflict):
        await client.put(PLAN, if_match="1", request_id="r")


@pytest.mark.parametrize("status", ["409 Conflict", "412 Precondition Failed", "404 Not Found", "410 Gone"])
async def test_another_version_or_none_is_a_conflict(status: str, script: Script, client: FhirClient) -> None:
    """Servers differ in how they say it."""
    script.answers.append(answer(status))
    with pytest.raises(Conflict):
        await client.put(PLAN, if_match="1", request_id="r")


@pytest.mark.parametrize(
    ("etag", "version"), [('ETag: W/"7"', "7"), ('ETag: "a-b"', "a-b"), ("ETag: 3", "3"), ("X: 1", None)]
)
async def test_the_new_version_is_what_the_server_names(
    etag: str, version: str | None, script: Script, client: FhirClient
) -> None:
    """Weak, strong or bare."""
    script.answers += [answer("200 OK", etag), answer("200 OK", body=orjson.dumps(PLAN))]
    assert version == await client.put(PLAN, if_match="6", request_id="r")
    assert b'if-match: w/"6"' in script.requests[0].lower()


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(script: Script, client: FhirClient) -> None:
    """A resource that others have filled beyond measure needs a person."""
    script.answers.append(answer("200 OK", body=orjson.dumps({**PLAN, "title": "x" * 20_000})))
    with pytest.raises(Permanent) as caught:
        await client.read("CarePlan", "c-1")
    assert "answer-too-large" == caught.value.code


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"resourceType":"Patient"}', b'{"a": NaN}', b"[" * 9_000])
async def test_what_is_not_the_resource_is_not_taken_for_it(body: bytes, script: Script, client: FhirClient) -> None:
    """A page, a cut answer, another type."""
    script.answers.append(answer("200 OK", body=body))
    with pytest.raises(Transient) as caught:
        await client.read("CarePlan", "c-1")
    assert "not-fhir" == caught.value.code


async def test_a_foreign_number_is_written_back_digit_by_digit(script: Script, client: FhirClient) -> None:
    """FHIR's decimals have a precision: 1.50 is not 1.5."""
    foreign = b'"detailQuantity":{"value":1.50},"n":123456789012345678901234567890'
    held = answer("200 OK", body=b'{"resourceType":"Goal","id":"g",' + foreign + b"}")
    script.answers += [held, answer("200 OK", 'ETag: W/"2"')]
    found = await client.read("Goal", "g")
    assert found is not None
    await client.put(found.resource, if_match=None, request_id="r")
    assert foreign in script.requests[1]


async def test_a_server_without_transactions_is_written_to_one_by_one(script: Script, mappings: Mappings) -> None:
    """Each resource is looked for, then created: Goals first."""
    plan = render(courses.course(goals=(), focus_areas=(), changes=()), mappings)
    goals = render(courses.course(goals=(), changes=()), mappings)
    goals = replace(
        goals, resources=tuple(each for each in goals.resources if each[1]["resourceType"] in {"CarePlan", "Goal"})[:2]
    )
    absent, created = answer("404 Not Found"), answer("201 Created", 'ETag: W/"1"')
    script.answers += [absent, absent, answer("405 Not Allowed"), absent, created, absent, created]
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        delivered = await destination.deliver(PlanDelivery(plan.course_id, "r", 1, goals, (), {}))
    finally:
        await destination.close()
    assert "create-update" == delivered.route
    methods = [request.split(b" ", 2)[:2] for request in script.requests]
    assert [b"GET", b"GET", b"POST", b"GET", b"PUT", b"GET", b"PUT"] == [method for method, _ in methods]
    assert [b"/fhir/Goal", b"/fhir/CarePlan"] == [methods[n][1].rpartition(b"/")[0] for n in (4, 6)]
    assert [True, True] == [b"if-none-match: *" in script.requests[n].lower() for n in (4, 6)]


async def test_what_the_server_took_and_hides_is_not_overwritten(script: Script, mappings: Mappings) -> None:
    """A known Goal reads 404: for want of a right, or in another partition; all else is written, and no Goal."""
    whole = render(courses.course(), mappings)
    plan = replace(whole, resources=whole.resources[:2])
    absent, done = answer("404 Not Found"), answer("200 OK", 'ETag: W/"2"', body=b"")
    known = {
        role: {"id": body["id"], "version": None, "digest": "", "status": "active", "foreign": True, "entries": ()}
        for role, body in plan.resources
    }
    held = answer("200 OK", 'ETag: W/"1"', body=orjson.dumps(plan.resources[0][1] | {"title": "Before"}))
    script.answers += [absent, absent, held, done]
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        with pytest.raises(Conflicting) as caught:
            await destination.deliver(PlanDelivery(plan.course_id, "r", 1, plan, (), {"remotes": known}))
    finally:
        await destination.close()
    assert caught.value.hashes.endswith("there none")
    assert [b"GET /fhir/Goal", b"GET /fhir/Goal", b"GET /fhir/CarePlan", b"PUT /fhir/CarePlan"] == [
        request.split(b" HTTP", 1)[0].rpartition(b"/")[0] for request in script.requests
    ]


async def test_a_goal_that_a_clinician_and_then_we_cancelled_is_not_taken_up_again(
    script: Script, mappings: Mappings
) -> None:
    """They cancel it, the plan drops it, a late record brings it back."""
    whole = render(courses.course(), mappings)
    plan = replace(whole, resources=whole.resources[:2])
    (_, careplan), (role, goal) = plan.resources
    cancelled = answer("200 OK", 'ETag: W/"2"', body=orjson.dumps(goal | {"lifecycleStatus": "cancelled"}))
    known = {
        name: {"id": body["id"], "version": "1", "digest": digest(body), "status": "active", "foreign": False}
        | {"entries": ()}
        for name, body in plan.resources
    }
    script.answers += [cancelled, cancelled]
    without = replace(plan, resources=plan.resources[:1])
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        dropped = await destination.deliver(PlanDelivery(plan.course_id, "r", 1, without, (), {"remotes": known}))
        back = await destination.deliver(PlanDelivery(plan.course_id, "s", 2, plan, (), dropped.ledger))
    finally:
        await destination.close()
    assert (f"{role} cancelled",) == back.respected
    assert [b"GET", b"GET"] == [request.split(b" ", 1)[0] for request in script.requests]
    assert careplan["id"] == back.ledger["remotes"]["careplan"]["id"]


async def test_a_plan_that_was_half_written_is_taken_back_whole(script: Script, mappings: Mappings) -> None:
    """No ledger tells of the Goal and Task that an attempt left; each is entered in error and says nothing."""
    day = date(2026, 3, 4)
    found = courses.finding(
        "safety.self-harm-item", Severity.CRITICAL, day, due=day, instrument="phq-9", on="2026-03-04", item=9
    )
    asking = courses.course(findings=(found,))
    told = dict(render(asking, mappings).resources)
    left = {
        f"{told[role]['resourceType']}/{told[role]['id']}": told[role]
        for role in ("goal/phq-9", f"task/{asking.findings[0].id}")
    }
    put: dict[str, dict[str, object]] = {}

    def reply(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        method, path = head.split(b" ")[:2]
        reference = path.decode().removeprefix("/fhir/").partition("?")[0]
        if method == b"PUT":
            put[reference] = orjson.loads(body)
            return answer("200 OK", 'ETag: W/"2"')
        held = left.get(reference)
        return answer("404 Not Found") if held is None else answer("200 OK", 'ETag: W/"1"', body=orjson.dumps(held))

    script.reply = reply
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        await destination.deliver(PlanDelivery(asking.id, "r", 1, withheld(asking, mappings), (), {}))
    finally:
        await destination.close()
    assert left.keys() == put.keys()  # and no CarePlan is made where none was
    assert {"entered-in-error"} == {each.get("status", each.get("lifecycleStatus")) for each in put.values()}
    assert b"PHQ" in orjson.dumps([*left.values()])
    assert b"PHQ" not in orjson.dumps([*put.values()])


@pytest.mark.parametrize(
    ("theirs", "ends"),
    [
        ({"author": {"display": "The server"}}, ["entered-in-error"]),
        ({"note": [{"text": "Another clinician's"}]}, []),
    ],
)
async def test_a_duplicate_is_taken_back_or_told_of(
    theirs: dict[str, object], ends: list[str], script: Script, mappings: Mappings
) -> None:
    """What the server puts into both is no clinician's; two plans that clinicians use are a person's to merge."""
    (_, ours), *_ = render(courses.course(), mappings).resources
    added = {"author": {"display": "The server"}}
    held = [ours | {"id": "a"} | added, ours | {"id": "b"} | added | theirs]
    taken = Taken(ours=False, update=True, versions=Versions.NAMED, searched_by=frozenset({"identifier"}))
    found = orjson.dumps({"resourceType": "Bundle", "entry": [{"resource": each} for each in held]})
    script.answers += [answer("200 OK", body=found), answer("200 OK", 'ETag: W/"2"')]
    async with FhirClient(script.base) as opened:
        place = Place(Recording(opened, []), taken, "r")
        await establish(place, ours)
    writes = [orjson.loads(each.partition(b"\r\n\r\n")[2]) for each in script.requests if each.startswith(b"PUT")]
    assert ends == [each["status"] for each in writes]
    assert [("duplicate",)] * (1 - len(ends)) == [(each.code,) for each in place.troubles]


async def test_goals_that_are_there_without_their_plan_are_merged_not_replaced(
    script: Script, mappings: Mappings
) -> None:
    """The ledger was lost and the CarePlan is gone: no transaction puts our Goal over what a clinician wrote."""
    whole = render(courses.course(), mappings)
    plan = replace(whole, resources=whole.resources[:2])
    (_, careplan), (_, goal) = plan.resources
    held = answer("200 OK", 'ETag: W/"1"', body=orjson.dumps(goal | {"note": [{"text": "Theirs"}]}))
    told = {careplan["id"].encode(): [answer("404 Not Found")] * 2, goal["id"].encode(): [held] * 2}

    def reply(request: bytes) -> bytes:
        if request.startswith(b"GET"):
            return next(answers for name, answers in told.items() if name in request.split(b"\r\n")[0]).pop()
        return answer("201 Created", 'ETag: W/"1"')

    script.reply = reply
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        await destination.deliver(PlanDelivery(plan.course_id, "r", 1, plan, (), {}))
    finally:
        await destination.close()
    writes = [request.split(b" HTTP", 1)[0] for request in script.requests if not request.startswith(b"GET")]
    assert [f"PUT /fhir/CarePlan/{careplan['id']}".encode()] == writes


async def test_an_update_whose_answer_was_lost_is_simply_done_again(script: Script, mappings: Mappings) -> None:
    """The second attempt finds its own resource and has nothing to write."""
    whole = render(courses.course(goals=(), focus_areas=(), changes=()), mappings)
    plan = replace(whole, resources=whole.resources[:1])
    resource = plan.resources[0][1]
    absent = answer("404 Not Found")
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        script.answers += [absent, DROPPED]
        with pytest.raises(Transient):
            await destination.deliver(PlanDelivery(plan.course_id, "r", 1, plan, (), {}))
        stored = resource | {"meta": resource["meta"] | {"versionId": "1"}}
        held = answer("200 OK", 'ETag: W/"1"', body=orjson.dumps(stored))
        script.answers += [held, held]
        delivered = await destination.deliver(PlanDelivery(plan.course_id, "r", 1, plan, (), {}))
    finally:
        await destination.close()
    assert "1" == delivered.ledger["remotes"]["careplan"]["version"]
    assert [b"GET", b"POST", b"GET", b"GET"] == [request.split(b" ", 1)[0] for request in script.requests]


async def test_somebody_who_keeps_writing_makes_it_wait(script: Script, mappings: Mappings) -> None:
    """Re-reading is bounded, and the next attempt comes later; hashes tell what is ours from what is there."""
    whole = render(courses.course(goals=(), focus_areas=(), changes=()), mappings)
    plan = replace(whole, resources=whole.resources[:1])
    theirs = orjson.dumps({**plan.resources[0][1], "title": "Theirs"})
    held, stale = answer("200 OK", 'ETag: W/"1"', body=theirs), answer("409 Conflict")
    script.answers += [held, *[held, stale] * 5, held]
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        with pytest.raises(Conflicting) as caught:
            await destination.deliver(PlanDelivery(plan.course_id, "r", 1, plan, (), {}))
    finally:
        await destination.close()
    assert "conflict" == caught.value.code
    ours = digest(plan.resources[0][1])
    assert f"ours {ours}, there {digest(orjson.loads(theirs))}" == caught.value.hashes


NOTE = {"resourceType": "DocumentReference", "id": "n-1", "meta": {"versionId": "3"}}


async def test_a_create_tells_the_servers_id_from_wherever_it_says_it(script: Script, client: FhirClient) -> None:
    """In Location, in Content-Location, in the body, or not at all."""
    body = orjson.dumps(NOTE)
    script.answers += [
        answer("201 Created", "Location: https://elsewhere.example/fhir/DocumentReference/n-1/_history/3"),
        answer("201 Created", "Content-Location: DocumentReference/n-1", 'ETag: W/"3"'),
        answer("201 Created", body=body),
        answer("201 Created", "Location: https://elsewhere.example/fhir/Binary/7"),
        answer("200 OK", "Location: /fhir/DocumentReference/n-1/_history/3"),
    ]
    made = [await client.create(PLAN | NOTE, unless=None, request_id="r") for _ in range(4)]
    made.append(await client.create(PLAN | NOTE, unless="identifier=s|v", request_id="r"))
    assert [("n-1", "3", False)] * 3 + [(None, None, False), ("n-1", "3", True)] == [
        (each.id, each.version, each.existed) for each in made
    ]
    assert b"if-none-exist: identifier=s|v" in script.requests[-1].lower()
    assert b"if-none-exist" not in script.requests[0].lower()


@pytest.mark.parametrize(
    ("reply", "error"),
    [(answer("412 Precondition Failed"), Conflict), (answer("422 Unprocessable"), Refused), (DROPPED, Transient)],
)
async def test_a_create_that_fails_says_how(
    reply: bytes, error: type[Exception], script: Script, client: FhirClient
) -> None:
    """Several that match, refused content, an answer that was lost."""
    script.answers.append(reply)
    with pytest.raises(error):
        await client.create(NOTE, unless="identifier=s|v", request_id="r")


def page(link: str | None, *found: object) -> bytes:
    """Return a page of a searchset, and its link to the next."""
    links = [{"relation": "next", "url": link}] if link is not None else []
    entries = [{"resource": each} for each in found]
    return answer("200 OK", body=orjson.dumps({"resourceType": "Bundle", "link": links, "entry": entries}))


async def test_a_search_follows_pages(script: Script, client: FhirClient) -> None:
    """Under the server's base, as an address of its own or relative to it."""
    outcome_entry = {"resourceType": "OperationOutcome"}
    script.answers += [
        page(f"{script.base}?_getpages=7", NOTE, outcome_entry, None),
        page("DocumentReference?page=3"),
        page(None, {**NOTE, "id": "n-2"}),
    ]
    found = await client.search("DocumentReference", {"identifier": "s|v"})
    assert [("n-1", "3"), ("n-2", "3")] == [(each.resource["id"], each.version) for each in found]
    assert b"GET /fhir?_getpages=7 HTTP/1.1" in script.requests[1]
    assert b"GET /fhir/DocumentReference?page=3 HTTP/1.1" in script.requests[2]


@pytest.mark.parametrize("link", ["https://elsewhere.example/fhir?_getpages=8", "{base}/../other?page=2"])
async def test_a_search_that_goes_on_elsewhere_is_not_taken_for_complete(
    link: str, script: Script, client: FhirClient
) -> None:
    """What is not found would be made a second time; and the link is not followed, whatever the answer says."""
    script.answers.append(page(link.format(base=script.base), NOTE))
    with pytest.raises(Permanent) as caught:
        await client.search("DocumentReference", {"identifier": "s|v"})
    assert ("foreign-link", 1) == (caught.value.code, len(script.requests))


async def test_an_endless_search_is_not_taken_for_complete(script: Script, client: FhirClient) -> None:
    """It ends after ten pages, and a person has to look."""
    script.answers += [page(f"{script.base}?page=1")] * 12
    with pytest.raises(Permanent) as caught:
        await client.search("DocumentReference", {})
    assert ("too-many-found", 10) == (caught.value.code, len(script.requests))


MAINTENANCE = answer("200 OK", body=b"maintenance", media_type="text/plain")
RESPONSE = {"resourceType": "Bundle", "type": "transaction-response"}


@pytest.mark.parametrize(
    "reply",
    [
        MAINTENANCE,
        answer("200 OK"),
        answer("200 OK", body=b'{"status": "maintenance"}'),
        answer("200 OK", body=orjson.dumps(RESPONSE | {"entry": []})),
        answer("200 OK", body=orjson.dumps(RESPONSE | {"type": "batch-response", "entry": [{"response": {}}]})),
        answer("200 OK", body=orjson.dumps(RESPONSE | {"entry": [{"response": {"status": "404 Not Found"}}]})),
    ],
)
async def test_a_transaction_is_done_only_where_the_answer_says_so_of_each_entry(
    reply: bytes, script: Script, client: FhirClient
) -> None:
    """A proxy's page, nothing, another kind of Bundle, fewer entries, an entry that was refused."""
    script.answers.append(reply)
    with pytest.raises(Transient) as caught:
        await client.transaction({"resourceType": "Bundle", "entry": [{"resource": PLAN}]}, request_id="r")
    assert "not-fhir" == caught.value.code
    done = RESPONSE | {"entry": [{"response": {"status": "201 Created", "etag": 'W/"1"'}}]}
    script.answers.append(answer("200 OK", body=orjson.dumps(done)))
    assert ["1"] == await client.transaction({"resourceType": "Bundle", "entry": [{"resource": PLAN}]}, request_id="r")


@pytest.mark.parametrize("reply", [MAINTENANCE, answer("200 OK", body=b'{"status": "maintenance"}')])
async def test_a_proxys_page_is_no_write(reply: bytes, script: Script, client: FhirClient) -> None:
    """Whatever its status: an update and a create are done where a FHIR server says so."""
    script.answers += [reply, reply]
    with pytest.raises(Transient) as updated:
        await client.put(PLAN, if_match=None, request_id="r")
    with pytest.raises(Transient) as created:
        await client.create(PLAN, unless=None, request_id="r")
    assert ["not-fhir"] * 2 == [updated.value.code, created.value.code]


async def test_an_update_that_is_answered_by_nothing_is_read_back(script: Script, client: FhirClient) -> None:
    """It is there, at a version that may be another's; or it is not, and is tried again."""
    held = answer("200 OK", body=orjson.dumps(PLAN | {"meta": {"versionId": "4"}}))
    script.answers += [answer("200 OK"), held, answer("200 OK"), answer("404 Not Found")]
    assert await client.put(PLAN, if_match=None, request_id="r") is None
    with pytest.raises(Transient):
        await client.put(PLAN, if_match=None, request_id="r")


async def test_a_delete_of_what_is_gone_is_harmless(script: Script, client: FhirClient) -> None:
    """What others refer to stays."""
    script.answers += [answer("204 No Content"), answer("410 Gone"), answer("409 Conflict"), answer("403 Forbidden")]
    for _ in range(2):
        await client.delete("Provenance", "p", request_id="r")
    with pytest.raises(Conflict):
        await client.delete("Provenance", "p", request_id="r")
    with pytest.raises(Permanent):
        await client.delete("Provenance", "p", request_id="r")


async def test_a_statement_is_asked_for_again_by_its_etag(script: Script, client: FhirClient) -> None:
    """Unchanged, nothing is sent; it may be larger than any resource."""
    script.answers += [answer("200 OK", 'ETag: W/"a b"', body=b"x" * 20_000), answer("304 Not Modified")]
    first = await client.document("metadata", None)
    assert first is not None
    assert (b"x" * 20_000, 'W/"a b"') == (first.content, first.etag)
    assert await client.document("metadata", first.etag) is None
    assert b'if-none-match: w/"a b"' in script.requests[1].lower()


@pytest.mark.parametrize(
    "status", ["401 Unauthorized", "403 Forbidden", "409 Conflict", "500 Error", "503 Unavailable"]
)
async def test_some_codes_are_never_tried_again(status: str, script: Script, client: FhirClient) -> None:
    """Whatever the status would say by itself; the headers that the server needs go with every request."""
    client.heed({"X-Needed": "yes"}, ("4130", "4131"))
    refusal = outcome({"severity": "fatal", "code": "security", "details": {"coding": [{"code": "4131"}]}})
    script.answers += [answer(status, body=refusal)]
    with pytest.raises(Permanent) as caught:
        await client.put(PLAN, if_match="1", request_id="r")
    assert ("never-retried", ("security", "4131")) == (caught.value.code, caught.value.outcome_codes)
    assert not isinstance(caught.value, Refused)
    assert b"x-needed: yes" in script.requests[0].lower()


async def test_no_more_requests_go_out_than_the_rate_allows(script: Script) -> None:
    """However many want to at once: the third of three waits for two intervals, by the event loop's own clock."""
    script.answers += [answer("200 OK", 'ETag: W/"1"')] * 3
    async with FhirClient(script.base, requests_per_second=20) as client:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(client.put(PLAN, if_match="1", request_id="r") for _ in range(3)))
        took = asyncio.get_running_loop().time() - began
    assert took >= 2 / 20


async def test_an_answer_that_comes_byte_by_byte_has_no_more_time_than_another(script: Script) -> None:
    """A server that always sends a little would hold a delivery for ever."""
    script.answers.append(answer("200 OK", body=b" " * 1_000))
    script.pause_s = 0.05
    async with FhirClient(script.base, timeout_s=0.3) as hasty:
        with pytest.raises(Transient) as caught:
            await hasty.read("CarePlan", "c-1")
    await script.ended.wait()
    assert "timeout" == caught.value.code
