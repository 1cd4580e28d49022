"""What a FHIR server, or what stands before it, can answer: a real socket, answers written byte by byte."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import orjson
import pytest

from service.outbound.careplan import render
from service.outbound.destination import PlanDelivery
from service.outbound.ehr import EhrDestination
from service.rest.client import Conflict, FhirClient, Refused
from service.rest.errors import Permanent, Transient
from tests import courses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""
        self.requests.append(head + body)
        writer.write(self.answers.popleft())
        await writer.drain()
        writer.close()


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
    """Trying again would not help."""
    script.answers.append(answer(status))
    with pytest.raises(Permanent) as caught:
        await client.put(PLAN, if_match="1", request_id="r")
    assert code == caught.value.code


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
    script.answers.append(answer("200 OK", etag))
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
    script.answers += [answer("200 OK", body=b'{"resourceType":"Goal","id":"g",' + foreign + b"}"), answer("200 OK")]
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
    script.answers += [absent, answer("405 Not Allowed"), absent, created, absent, created]
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        delivered = await destination.deliver(PlanDelivery(plan.course_id, "r", 1, goals, (), {}))
    finally:
        await destination.close()
    assert "create-update" == delivered.route
    methods = [request.split(b" ", 2)[:2] for request in script.requests]
    assert [b"GET", b"POST", b"GET", b"PUT", b"GET", b"PUT"] == [method for method, _ in methods]
    assert [b"/fhir/Goal", b"/fhir/CarePlan"] == [methods[n][1].rpartition(b"/")[0] for n in (3, 5)]


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
        held = answer("200 OK", 'ETag: W/"1"', body=orjson.dumps({**resource, "meta": {"versionId": "1"}}))
        script.answers += [held, held]
        delivered = await destination.deliver(PlanDelivery(plan.course_id, "r", 1, plan, (), {}))
    finally:
        await destination.close()
    assert "1" == delivered.ledger["remotes"]["careplan"]["version"]
    assert [b"GET", b"POST", b"GET", b"GET"] == [request.split(b" ", 1)[0] for request in script.requests]


async def test_somebody_who_keeps_writing_makes_it_wait(script: Script, mappings: Mappings) -> None:
    """Re-reading is bounded; the next attempt comes later."""
    plan = render(courses.course(goals=(), focus_areas=(), changes=()), mappings)
    theirs = orjson.dumps({**plan.resources[0][1], "title": "Theirs"})
    held, stale = answer("200 OK", 'ETag: W/"1"', body=theirs), answer("409 Conflict")
    script.answers += [held, *[held, stale] * 5]
    destination = EhrDestination("ehr", FhirClient(script.base))
    try:
        with pytest.raises(Transient) as caught:
            await destination.deliver(PlanDelivery(plan.course_id, "r", 1, plan, (), {}))
    finally:
        await destination.close()
    assert "conflict" == caught.value.code
