"""Archives are loaded once, are taken only as the lock names them, and what fails says what to do."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from service.sandbox.jars import Jar, load, locked
from service.sandbox.process import SandboxError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = b"an archive"
JAR = Jar("org.example.parts:part:1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the test's output to the test."""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: its own cache, Maven folder and settings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    return tmp_path


@pytest.fixture
def repository(machine: Path) -> Iterator[Path]:
    """The folder of the only repository that the machine knows, served over HTTP."""
    folder = machine / "repository"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _use_repository(machine, server.server_port)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def _use_repository(machine: Path, port: int) -> None:
    (machine / "jgo.conf").write_text(f"[repositories]\ncentral = http://127.0.0.1:{port}\n")


def _put(folder: Path, content: bytes) -> None:
    (folder / JAR.path).parent.mkdir(parents=True)
    (folder / JAR.path).write_bytes(content)


def test_archive_is_loaded_once(repository: Path) -> None:
    """What was loaded serves when the repository no longer has it."""
    _put(repository, CONTENT)
    (first,) = load([JAR], "The part")
    (repository / JAR.path).unlink()

    (second,) = load([JAR], "The part")

    assert CONTENT == first.read_bytes() == second.read_bytes()


def test_progress_goes_from_nothing_to_all(repository: Path) -> None:
    """Whoever watches is told the bytes, up to their sum."""
    _put(repository, CONTENT)
    told: list[tuple[str, int, int]] = []

    load([JAR], "The part", lambda what, done, total: told.append((what, done, total)))

    assert ("The part", 0, JAR.size) == told[0]
    assert ("The part", JAR.size, JAR.size) == told[-1]


def test_archive_with_other_content_is_refused(repository: Path, machine: Path) -> None:
    """A changed archive is neither used nor kept."""
    _put(repository, b"other word")

    with pytest.raises(SandboxError, match="another content"):
        load([JAR], "The part")

    assert [] == list((machine / "cache").rglob("*.jar"))


def test_half_an_archive_is_loaded_again(repository: Path) -> None:
    """A file cut short in the cache, as a full disk leaves it, is replaced."""
    _put(repository, CONTENT)
    (path,) = load([JAR], "The part")
    path.write_bytes(CONTENT[:3])

    load([JAR], "The part")

    assert CONTENT == path.read_bytes()


def test_the_machines_own_maven_folder_is_used(machine: Path) -> None:
    """What Maven has loaded before needs no network."""
    _use_repository(machine, free_port())
    _put(machine / "m2", CONTENT)

    (path,) = load([JAR], "The part")

    assert CONTENT == path.read_bytes()


def test_no_network_says_how_much_is_missing_and_what_to_check(machine: Path) -> None:
    """Where nobody answers, the error names the size and the proxy's settings."""
    _use_repository(machine, free_port())

    with pytest.raises(SandboxError, match=r"The part .*1 archives.*HTTPS_PROXY"):
        load([JAR], "The part")


@pytest.mark.usefixtures("repository")
def test_archive_that_no_repository_has_is_named() -> None:
    """A repository without the archive is told apart from no network."""
    with pytest.raises(SandboxError, match=f"No repository has {JAR.coordinates}"):
        load([JAR], "The part")


@pytest.mark.parametrize("part", ["compiler", "hapi", "kafka", "validator"])
def test_every_part_is_locked_by_hash(part: str) -> None:
    """Each line of a lock file names an archive, 64 hexadecimal digits and a size."""
    jars = locked(part)

    assert jars
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 0 for jar in jars)
    assert len(jars) == len({jar.path for jar in jars})
