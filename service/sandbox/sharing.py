"""Class-data archives: a Java program that has run once starts in half the time."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from service.sandbox.jars import cache_folder
from service.sandbox.java import java

if TYPE_CHECKING:
    from service.sandbox.java import Program

TERMINATED = 128 + 15  # exit code of a JVM that ended in its own way after SIGTERM


@dataclass(frozen=True, slots=True)
class Sharing:
    """Flags that let a program use its archive, or write one when it ends; where it writes to."""

    flags: tuple[str, ...] = ()
    fresh: Path | None = None
    final: Path | None = None

    def keep(self, exit_code: int) -> None:
        """Take the archive that the program wrote, unless it ended badly; drop those of older versions."""
        if self.fresh is None or self.final is None:
            return
        if exit_code in {0, TERMINATED} and self.fresh.exists():
            main = self.final.stem.rpartition("-")[0]
            for old in self.final.parent.glob(f"{main}-*.jsa"):
                old.unlink(missing_ok=True)
            self.fresh.replace(self.final)
        self.fresh.unlink(missing_ok=True)


def sharing(program: Program) -> Sharing:
    """How a program shares class data with its own runs to come; no flags where that can't be.

    The JVM itself checks an archive against its own version and the class path, and starts without
    where they differ. Writing one makes the first end ten seconds slower for a large program.
    """
    jdk = Path(java()).parents[1] / "release"
    identity = [jdk.read_text(), program.heap, *map(str, program.classpath)]
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    folder = cache_folder() / "classes"
    folder.mkdir(parents=True, exist_ok=True)
    base = _base(folder, jdk)
    if base is None:
        return Sharing()
    final = folder / f"{program.main}-{key}.jsa"
    if final.exists():
        return Sharing((f"-XX:SharedArchiveFile={base}{os.pathsep}{final}",))
    fresh = folder / f".{final.stem}-{os.getpid()}.jsa"
    return Sharing((f"-XX:SharedArchiveFile={base}", f"-XX:ArchiveClassesAtExit={fresh}"), fresh, final)


def _base(folder: Path, jdk: Path) -> Path | None:
    # The runtime comes without the archive of its own classes on which every other one builds.
    target = folder / f"jdk-{hashlib.sha256(str(jdk).encode() + jdk.read_bytes()).hexdigest()[:16]}.jsa"
    if not target.exists():
        with TemporaryDirectory(prefix=".jdk-", dir=folder) as work:
            made = Path(work) / target.name
            line = [java(), "-Xshare:dump", "-XX:+UseSerialGC", f"-XX:SharedArchiveFile={made}"]
            done = subprocess.run(line, capture_output=True, check=False)  # noqa: S603 - our own command
            if done.returncode or not made.exists():
                return None
            made.replace(target)
    return target
