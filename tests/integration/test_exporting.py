"""A bulk export over real sockets: begun, waited for, fetched, deleted; taken up again wherever a run ends."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from service.backfill.exporting import Wanted, exported
from service.backfill.portions import Refusal
from service.health import serving
from service.rest.bulk import BulkExport
from service.rest.client import FhirClient
from service.rest.errors import Permanent, Transient
from tests.synthetic import SOURCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from service.backfill.portions import Portion, Position

PARAMETERS = (("_type", "Encounter,QuestionnaireResponse"), ("_since", "2026-01-01T00:00:00Z"))
TIME = "2026-03-02T08:00:00Z"
DELETED = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [{"request": {"method": "DELETE", "url": "Encounter/gone"}}],
}


@dataclass
class Exporter:
    """A FHIR server that exports, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By name, as they are sent."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """What the manifest says beside its output."""
    pending: list[Response] = field(default_factory=list)
    """Answers of the job's state before the manifest."""
    start: Response | None = None
    """Instead of beginning."""
    base: str = ""
    files_at: str = ""
    """Where the files are; empty: at the server itself."""
    breaks_after: dict[str, int] = field(default_factory=dict)
    """Bytes after which the connection of a file's first answer breaks."""
    jobs: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""
    headers: list[dict[str, str]] = field(default_factory=list)

    async def begin(self, request: Request) -> Response:
        """Begin an export."""
        self._note(request)
        if self.start is not None:
            return self.start
        job = f"job-{len(self.asked)}"
        self.jobs.add(job)
        place = self.base.removesuffix("/fhir") + f"/state/{job}"
        return Response(status_code=202, headers={"Content-Location": place})

    async def state(self, request: Request) -> Response:
        """Tell of an export, or delete it."""
        self._note(request)
        job = request.path_params["job"]
        if job not in self.jobs:
            return JSONResponse({"resourceType": "OperationOutcome", "issue": []}, 404)
        if request.method == "DELETE":
            self.jobs.discard(job)
            return Response(status_code=202)
        if self.pending:
            return self.pending.pop(0)
        place = self.files_at or self.base.removesuffix("/fhir")
        output = [
            {"type": name.partition("-")[0], "url": f"{place}/file/{name}"}
            for name in self.files
            if name.startswith(("Encounter", "Patient", "QuestionnaireResponse"))
        ]
        other = {
            kind: [{"type": "Bundle", "url": f"{place}/file/{name}"} for name in self.files if name.startswith(kind)]
            for kind in ("deleted", "error")
        }
        return JSONResponse(
            {"transactionTime": TIME, "requiresAccessToken": True, "output": output} | other | self.manifest
        )

    async def file(self, request: Request) -> Response:
        """Send a file."""
        self._note(request)
        name = request.path_params["name"]
        content = self.files[name]
        end = self.breaks_after.pop(name, None)
        if end is None:
            return Response(content)

        async def broken() -> AsyncIterator[bytes]:
            yield content[:end]
            raise ConnectionError

        return StreamingResponse(broken(), headers={"Content-Length": str(len(content))})

    def _note(self, request: Request) -> None:
        query = f"?{request.url.query}" if request.url.query else ""
        self.asked.append((request.method, request.url.path + query))
        self.headers.append(dict(request.headers))

    def app(self) -> Starlette:
        """Return what answers."""
        return Starlette(
            routes=[
                Route("/fhir/Patient/$export", self.begin),
                Route("/fhir/Group/{group}/$export", self.begin),
                Route("/state/{job}", self.state, methods=["GET", "DELETE"]),
                Route("/file/{name}", self.file),
            ]
        )


def lines(count: int, name: str = "e") -> bytes:
    """Return a file of encounters."""
    return b"".join(orjson.dumps({"resourceType": "Encounter", "id": f"{name}-{n}"}) + b"\n" for n in range(count))


@pytest.fixture
async def ehr(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Exporter]:
    """An EHR that exports two files of encounters, in portions of ten."""
    monkeypatch.setattr("service.backfill.files.MOST_LINES", 10)
    exporter = Exporter({"Encounter-1": lines(25), "Encounter-2": gzip.compress(lines(12, "f"))})
    async with serving(exporter.app(), "127.0.0.1", 0) as url:
        exporter.base = f"{url}/fhir"
        yield exporter


async def portions(
    ehr: Exporter, position: Position | None = None, *, group: str | None = None, hosts: tuple[str, ...] = ()
) -> list[Portion]:
    """Return all that an export brings."""
    wanted = Wanted(PARAMETERS, frozenset({"Encounter"}), group)
    async with FhirClient(ehr.base, timeout_s=10, auth=httpx.BasicAuth("ipt", "secret")) as client:
        server = BulkExport(client, frozenset(hosts))
        return [each async for each in exported(server, wanted, SOURCE, 100_000, position)]


def ids(found: list[Portion]) -> list[str]:
    """Return the ids of what was found, in order."""
    return [orjson.loads(each.value or b"").get("id", "-") for portion in found for each in portion.records]


ALL = [f"e-{number}" for number in range(25)] + [f"f-{number}" for number in range(12)]


async def test_export_is_begun_waited_for_read_and_deleted(ehr: Exporter) -> None:
    """As the specification has it, with the waits that the server asks for."""
    busy = Response(status_code=202, headers={"Retry-After": "0", "X-Progress": "about 40% done"})
    too_often = Response(status_code=429, headers={"Retry-After": "0"})
    ehr.pending = [busy, too_often, busy]
    found = await portions(ehr)
    assert ALL == ids(found)
    assert ["GET"] * 5 + ["GET", "GET", "DELETE"] == [method for method, _ in ehr.asked]
    assert (
        "/fhir/Patient/$export?_type=Encounter%2CQuestionnaireResponse&_since=2026-01-01T00%3A00%3A00Z"
        == ehr.asked[0][1]
    )
    assert ("respond-async", "application/fhir+json") == (ehr.headers[0]["prefer"], ehr.headers[0]["accept"])
    assert "the server prepares the export (40 %)" == found[0].stage
    assert {TIME} == {each.timestamp.isoformat().replace("+00:00", "Z") for one in found for each in one.records}
    assert (set(), 2, 2) == (ehr.jobs, found[-1].done, found[-1].total)


async def test_export_of_a_group_asks_for_its_patients_only(ehr: Exporter) -> None:
    """By the group's own operation."""
    await portions(ehr, group="g-1")
    assert ehr.asked[0][1].startswith("/fhir/Group/g-1/$export?")


async def test_run_goes_on_wherever_it_was_ended(ehr: Exporter) -> None:
    """The export is not begun again; files are read from the line after."""
    whole = await portions(ehr)
    job = next(str(each.position["status"]) for each in whole)
    for place, portion in enumerate(whole):
        ehr.jobs.add(job.rpartition("/")[2])
        ehr.asked.clear()
        rest = await portions(ehr, orjson.loads(orjson.dumps(portion.position)))
        assert ALL == [*ids(whole[: place + 1]), *ids(rest)]
        assert not any("$export" in path for _, path in ehr.asked)


async def test_export_that_the_server_has_forgotten_is_begun_again(ehr: Exporter) -> None:
    """And read whole: its files may be others."""
    position = {"status": ehr.base.replace("/fhir", "/state/gone"), "file": 1, "offset": 50}
    assert ALL == ids(await portions(ehr, position))


async def test_connection_that_breaks_is_taken_up_after_the_last_whole_line(ehr: Exporter) -> None:
    """Nothing is read twice, nothing left out."""
    ehr.breaks_after = {"Encounter-1": 500, "Encounter-2": 60}
    assert ALL == ids(await portions(ehr))
    paths = [path for _, path in ehr.asked]
    assert (2, 2) == (paths.count("/file/Encounter-1"), paths.count("/file/Encounter-2"))


async def test_deletes_of_an_export_are_read(ehr: Exporter) -> None:
    """They are Bundles whose entries delete; what is not wanted is not even fetched."""
    ehr.files |= {"deleted-1": orjson.dumps(DELETED), "Patient-1": b"{}"}
    found = await portions(ehr)
    assert DELETED in [orjson.loads(each.value or b"") for portion in found for each in portion.records]
    assert "/file/Patient-1" not in [path for _, path in ehr.asked]


async def test_what_the_server_could_not_export_is_counted(ehr: Exporter, caplog: pytest.LogCaptureFixture) -> None:
    """Each outcome with an error; its text, which may name a patient, is told nowhere."""
    issue = {"severity": "error", "code": "exception", "diagnostics": "Ms Doe"}
    outcomes: list[dict[str, Any]] = [
        {"resourceType": "OperationOutcome", "issue": [issue]},
        {"resourceType": "OperationOutcome", "issue": [{**issue, "severity": "information"}]},
        {"resourceType": "OperationOutcome", "issue": [issue]},
    ]
    ehr.files["error-1"] = b"\n".join(map(orjson.dumps, outcomes))
    found = await portions(ehr)
    assert (2, ALL) == (sum(each.lacking for each in found), ids(found))
    assert "Doe" not in caplog.text


async def test_files_elsewhere_are_fetched_only_from_hosts_that_are_named(ehr: Exporter) -> None:
    """With credentials only where the manifest says that they are needed."""
    store = Exporter(dict(ehr.files))
    async with serving(store.app(), "127.0.0.1", 0) as url:
        ehr.files_at, host = url, url.removeprefix("http://")
        with pytest.raises(Permanent, match=f"--allow-host {host}"):
            await portions(ehr)
        assert [] == store.asked
        ehr.manifest = {"requiresAccessToken": False}
        assert ALL == ids(await portions(ehr, hosts=(host,)))
        assert [False, False] == ["authorization" in each for each in store.headers]
        store.headers.clear()
        ehr.manifest = {"requiresAccessToken": True}
        assert ALL == ids(await portions(ehr, hosts=(host,)))
        assert [True, True] == ["authorization" in each for each in store.headers]


async def test_state_of_an_export_is_asked_for_at_the_server_alone(ehr: Exporter) -> None:
    """Whatever the hosts of files are."""
    ehr.start = Response(status_code=202, headers={"Content-Location": "http://127.0.0.1:9/state/1"})
    with pytest.raises(Permanent, match="fhir_base"):
        await portions(ehr, hosts=("127.0.0.1:9",))


async def test_manifest_over_several_pages_is_read_whole(ehr: Exporter) -> None:
    """Each names the next one."""
    first = {
        "transactionTime": TIME,
        "output": [{"type": "Encounter", "url": f"{ehr.base.removesuffix('/fhir')}/file/Encounter-2"}],
        "link": [{"relation": "next", "url": "/state/other"}],
    }
    ehr.pending, ehr.jobs = [JSONResponse(first)], {"other"}
    del ehr.files["Encounter-1"]
    found = await portions(ehr)
    assert 2 == found[-1].total


async def test_manifest_whose_pages_never_end_is_refused(ehr: Exporter) -> None:
    """Each page names another, and they come again."""
    ehr.jobs = {"a", "b"}
    ehr.pending = [
        JSONResponse({"transactionTime": TIME, "link": [{"relation": "next", "url": f"/state/{job}"}]})
        for job in "ababab"
    ]
    with pytest.raises(Permanent, match="never end"):
        await portions(ehr)


async def test_server_that_forgets_its_exports_is_asked_for_few(ehr: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is hours of work there; one that is lost is begun anew, not for ever."""
    monkeypatch.setattr("service.backfill.exporting.LOST_S", 0.0)
    forgotten = JSONResponse({"resourceType": "OperationOutcome", "issue": []}, 404)
    ehr.pending = [forgotten, forgotten]
    assert ALL == ids(await portions(ehr))
    ehr.asked, ehr.pending = [], [forgotten] * 100
    with pytest.raises(Refusal, match="backfill search"):
        await portions(ehr)
    assert 3 == sum("$export" in path for _, path in ehr.asked)


@pytest.mark.parametrize("status", [400, 403, 404, 501])
async def test_server_that_does_not_export_says_so(ehr: Exporter, status: int) -> None:
    """In one sentence, with its codes and without its words."""
    issue = {"severity": "error", "code": "not-supported", "diagnostics": "Ms Doe"}
    ehr.start = JSONResponse({"resourceType": "OperationOutcome", "issue": [issue]}, status)
    with pytest.raises(Permanent, match="does not start the export") as caught:
        await portions(ehr)
    assert "Doe" not in str(caught.value)


async def test_server_that_answers_otherwise_is_not_believed(ehr: Exporter) -> None:
    """A page instead of a manifest, or an acceptance that says nowhere where to ask."""
    for start, pending in ((Response(status_code=202), []), (None, [Response("<html>", media_type="text/html")])):
        ehr.start, ehr.pending = start, pending
        with pytest.raises(Transient) as caught:
            await portions(ehr)
        assert "not-fhir" == caught.value.code
