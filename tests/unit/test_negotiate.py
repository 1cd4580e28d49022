"""`ipt-bridge negotiate`: what it prints, its exit codes, and what it does with servers that are none."""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from service.cli import cli, main
from service.commands import statements
from service.configuration import environment_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


STATEMENT = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "4.0.1",
    "software": {"name": "Epic", "version": "May"},
    "rest": [
        {
            "mode": "server",
            "resource": [
                {"type": "CarePlan", "interaction": [{"code": "read"}]},
                {"type": "DocumentReference", "interaction": [{"code": "create"}]},
            ],
        }
    ],
}
SMART = {
    "token_endpoint": "https://ehr.example.org/token",
    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
}


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder, without any setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)


def run(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["negotiate", *map(str, arguments)])


def written(path: Path, content: object) -> Path:
    """Write a JSON file."""
    path.write_bytes(orjson.dumps(content))
    return path


class Web:
    """A web server that answers each path with a status, headers and a body; any other with 404."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.base = ""

    def says(self, path: str, content: object, status: int = 200, **headers: str) -> None:
        """Set what a path answers."""
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        self.answers[path] = (status, headers, body)


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on a port of its own."""
    told = Web()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        told.asked.append(handler.path)
        status, headers, body = told.answers.get(handler.path, (404, {}, b""))
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def silent(*_: Any) -> None:  # noqa: ANN401 - what http.server logs
        """Log nothing."""

    handler = type("Handler", (BaseHTTPRequestHandler,), {"do_GET": answer, "log_message": silent})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        told.base = f"http://127.0.0.1:{server.server_address[1]}/fhir"
        yield told
        server.shutdown()
        thread.join()


def test_a_file_as_json_has_exactly_the_published_shape(tmp_path: Path) -> None:
    """One object; each route with its reason."""
    smart = written(tmp_path / "smart.json", SMART)
    ran = run(written(tmp_path / "statement.json", STATEMENT), "--smart", smart, "--json")
    assert 0 == ran.exit_code, ran.output
    found = orjson.loads(ran.stdout_bytes)
    assert ["software", "fhirVersion", "profile", "routes", "auth"] == list(found)
    assert ["CarePlan", "Goal", "Task", "Flag", "Provenance", "DocumentReference", "AuditEvent"] == list(
        found["routes"]
    )
    assert all(["route", "reason"] == list(each) for each in found["routes"].values())
    assert ("Epic May", "epic", "document") == (
        found["software"],
        found["profile"],
        found["routes"]["CarePlan"]["route"],
    )
    assert "backend-services" == found["auth"]["method"]


def test_the_table_says_what_was_decisive_and_what_is_missing(tmp_path: Path) -> None:
    """And what the profile knows, with its source."""
    ran = run(written(tmp_path / "statement.json", STATEMENT))
    text = " ".join(ran.stdout.split())
    assert 0 == ran.exit_code
    assert "profile epic" in text
    assert "supersedes" in text
    assert "4130, 4131, 4134" in text


def test_a_profile_can_be_named(tmp_path: Path) -> None:
    """An unknown one is wrong usage."""
    file = written(tmp_path / "statement.json", STATEMENT)
    assert "google" == orjson.loads(run(file, "--profile", "google", "--json").stdout_bytes)["profile"]
    assert 2 == run(file, "--profile", "nobody").exit_code


def test_another_fhir_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Exit code 1, nothing on standard output."""
    ran = run(written(tmp_path / "statement.json", {**STATEMENT, "fhirVersion": "5.0.0"}), "--json")
    assert (1, "") == (ran.exit_code, ran.stdout)
    assert "ipt-bridge: The server speaks FHIR 5.0.0 (R5); FHIR R4 (4.0) is needed.\n" == ran.stderr


def test_a_file_that_is_not_there_is_wrong_usage() -> None:
    """Exit code 2, as of the other commands."""
    assert 2 == run("nowhere.json").exit_code


def test_a_server_is_asked_for_both_documents(web: Web) -> None:
    """At its base, whichever way the URL is written."""
    web.says("/fhir/metadata", STATEMENT)
    web.says("/fhir/.well-known/smart-configuration", SMART)
    for url in (web.base, f"{web.base}/", f"{web.base}/metadata"):
        assert "backend-services" == orjson.loads(run(url, "--json").stdout_bytes)["auth"]["method"]
    assert {"/fhir/metadata", "/fhir/.well-known/smart-configuration"} == set(web.asked)


def test_a_redirect_is_followed_on_the_same_host_only(web: Web) -> None:
    """Another host may be anybody's."""
    web.says("/fhir/metadata", b"", 302, Location="/r4/metadata")
    web.says("/r4/metadata", STATEMENT)
    assert 0 == run(web.base).exit_code
    web.says("/fhir/metadata", b"", 302, Location="http://localhost:9/metadata")
    ran = run(web.base)
    assert 1 == ran.exit_code
    assert "sends on to localhost" in ran.stderr
    web.says("/fhir/metadata", b"", 302, Location="/fhir/metadata")
    assert "sends on more than" in run(web.base).stderr


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"<!doctype html><html>Log in</html>", 200, "is a web page"),
        (b"", 404, "answers 404"),
        (b"{}", 401, "from strangers (401)"),
        (b"{}", 200, "no FHIR resource"),
    ],
)
def test_what_is_no_fhir_server_is_told_in_a_sentence(web: Web, content: bytes, status: int, told: str) -> None:
    """Exit code 1."""
    web.says("/fhir/metadata", content, status)
    ran = run(web.base)
    assert (1, 1) == (ran.exit_code, ran.stderr.count("\n"))
    assert told in ran.stderr


def test_an_endless_answer_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit."""
    monkeypatch.setattr(statements, "LARGEST", 100)
    web.says("/fhir/metadata", b" " * 200)
    ran = run(web.base)
    assert 1 == ran.exit_code
    assert "larger than 100 bytes" in ran.stderr


def exit_code(monkeypatch: pytest.MonkeyPatch, url: str) -> object:
    """Run the command as the shell does."""
    monkeypatch.setattr(sys, "argv", ["ipt-bridge", "negotiate", url])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_server_that_cannot_be_reached_is_unavailable(
    web: Web, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens, no such host, out of order, too slow: exit code 69 and a sentence."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert 69 == exit_code(monkeypatch, f"http://127.0.0.1:{free.getsockname()[1]}/fhir")
    assert 69 == exit_code(monkeypatch, "http://ehr.invalid/fhir")
    web.says("/fhir/metadata", b"<html>", 503)
    assert 69 == exit_code(monkeypatch, web.base)
    web.says("/fhir/metadata", STATEMENT)
    monkeypatch.setattr(statements, "DEADLINE_S", -1.0)
    assert 69 == exit_code(monkeypatch, web.base)
    told = capsys.readouterr().err.splitlines()
    assert 4 == len(told)
    assert all(line.startswith("ipt-bridge: ") for line in told)


def test_a_password_in_the_url_is_refused_and_not_repeated(web: Web) -> None:
    """It would stand in logs and process lists."""
    ran = run(web.base.replace("127", "me:secret@127"))
    assert 1 == ran.exit_code
    assert "secret" not in ran.output
    assert [] == web.asked
