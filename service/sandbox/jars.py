"""The Java archives of each part: named, sized and hashed in `locks/*.lock`, loaded once a machine."""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from service.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jgo.maven import MavenContext

Progress = Callable[[str, int, int], None]
"""Called with what is loading, bytes loaded so far and bytes in all; from any thread, one at a time."""

CONNECTIONS = 8
TIMEOUT_S = 30
STORAGE_ERRORS = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS})
ATTEMPTS = 3  # a registry or a proxy drops a connection now and then


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress for those who wait without looking."""


def cache_folder() -> Path:
    """Where the sandbox keeps what it loads and compiles: the user's cache folder."""
    try:
        from platformdirs import user_cache_path  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        raise missing_extra() from error
    return user_cache_path("ipt-bridge", ensure_exists=True)


def missing_extra() -> SandboxError:
    """The error for an installation without the extra."""
    return SandboxError('The sandbox is not installed. Install it: pip install "ipt-bridge[sandbox]".')


@dataclass(frozen=True, slots=True)
class Jar:
    """One archive: Maven coordinates, SHA-256 of its content in hex, size in bytes."""

    coordinates: str
    sha256: str
    size: int

    @property
    def path(self) -> Path:
        """Its place below a Maven repository's root."""
        group, artifact, version, *classifier = self.coordinates.split(":")
        name = "-".join([artifact, version, *classifier])
        return Path(*group.split("."), artifact, version, f"{name}.jar")


def locked(name: str) -> list[Jar]:
    """The archives that `locks/{name}.lock` lists, one a line: coordinates, SHA-256, size."""
    text = (files("service.sandbox") / "locks" / f"{name}.lock").read_text()
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [Jar(coordinates, sha256, int(size)) for coordinates, sha256, size in rows]


def load(jars: Sequence[Jar], title: str, progress: Progress = silent) -> list[Path]:
    """Paths of the archives, loaded first where they are missing.

    An archive that the machine's own Maven folder has is taken from there. Whatever is loaded is
    taken only with the size and hash that the lock file names. Raises SandboxError.
    """
    store = cache_folder() / "jars"
    missing = [jar for jar in jars if not _complete(store / jar.path, jar)]
    if missing:
        try:
            _load(missing, store, partial(progress, title))
        except OSError as error:  # the errors of requests are OSErrors too
            raise _explained(error, title, missing, store) from error
    return [store / jar.path for jar in jars]


def _complete(path: Path, jar: Jar) -> bool:
    return path.is_file() and path.stat().st_size == jar.size


def _load(missing: Sequence[Jar], store: Path, progress: Callable[[int, int], None]) -> None:
    total = sum(jar.size for jar in missing)
    done = 0
    one_at_a_time = threading.Lock()

    def loaded(size: int) -> None:
        nonlocal done
        with one_at_a_time:
            done = min(done + size, total)  # what had to be loaded twice counts once
            progress(done, total)

    loaded(0)
    store.mkdir(parents=True, exist_ok=True)
    # A folder for this run alone: what a broken run leaves behind is never taken for an archive.
    with TemporaryDirectory(prefix=".loading-", dir=store.parent) as part:
        context = maven(Path(part), loaded)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for content in pool.map(partial(_content, context, loaded), missing):
                content.place(store)


@dataclass(frozen=True, slots=True)
class _Loaded:
    jar: Jar
    path: Path

    def place(self, store: Path) -> None:
        target = store / self.jar.path
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)


def _content(context: MavenContext, loaded: Callable[[int], None], jar: Jar) -> _Loaded:
    found = context.repo_cache / jar.path
    own = _own_repository() / jar.path
    if _complete(own, jar) and _sha256(own) == jar.sha256:
        found.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(own, found)
        loaded(jar.size)
        return _Loaded(jar, found)
    group, artifact, version, *classifier = jar.coordinates.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact("".join(classifier))
    for attempt in range(1, ATTEMPTS + 1):
        found.unlink(missing_ok=True)
        try:
            wanted.resolve()
        except OSError:
            if attempt == ATTEMPTS:
                raise
        except RuntimeError as error:
            raise SandboxError(
                f"No repository has {jar.coordinates}. Look at the repositories in jgo's settings file."
            ) from error
        else:
            if _sha256(found) == jar.sha256:
                return _Loaded(jar, found)
    raise SandboxError(
        f"{jar.coordinates} arrived with another content than the one this version was made with. "
        "Try again; if it stays so, look at what stands between this machine and the registry."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_repository() -> Path:
    from jgo.config import GlobalSettings  # noqa: PLC0415 - the extra may be missing

    return Path(GlobalSettings.load().repo_cache)


def maven(repo_cache: Path, loaded: Callable[[int], None] = lambda _: None) -> MavenContext:
    """A way to the repositories that this machine is set up for, through jgo.

    `repo_cache` receives what is loaded; `loaded` is called with the size of each piece.
    """
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - the extra may be missing
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - as above
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - as above
    except ImportError as error:
        raise missing_extra() from error

    @contextmanager
    def on_download(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield loaded

    settings = GlobalSettings.load()
    return MavenContext(
        resolver=PythonResolver(progress_callback=on_download),
        repo_cache=repo_cache,
        local_repos=[],
        # A site's own repository comes first, or stands for the public one where it has its name.
        remote_repos=settings.repositories | {"central": settings.repositories.get("central", MAVEN_CENTRAL_URL)},
        timeout=TIMEOUT_S,
    )


def _explained(error: OSError, title: str, missing: Sequence[Jar], store: Path) -> SandboxError:
    size = sum(jar.size for jar in missing) / 1e6
    if error.errno in STORAGE_ERRORS:
        return SandboxError(
            f"{title} can't be stored in {store}: {error.strerror}. It needs {size:.0f} MB there; "
            "free some space, or set XDG_CACHE_HOME to another folder."
        )
    return SandboxError(
        f"{title} could not be loaded ({len(missing)} archives, {size:.0f} MB): "
        f"{type(error).__name__}. It is loaded once, from the Maven repositories: check the network "
        "and the proxy (HTTPS_PROXY, REQUESTS_CA_BUNDLE), then try again."
    )
