"""An offline FHIR R4 validator: HAPI's own, with definitions of ours."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import orjson

from service.sandbox.jars import Progress, load, locked, silent
from service.sandbox.java import Program, command, compiled
from service.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEAP = "768m"
GRACE_S = 10


@dataclass(frozen=True, slots=True)
class Issue:
    """What the validator says of one place: `fatal`, `error`, `warning` or `information`.

    `path` is the place, as `CarePlan.activity[0].detail`.
    """

    severity: str
    path: str
    message: str

    @property
    def is_error(self) -> bool:
        """Whether a server that validates would refuse the resource for this."""
        return self.severity in {"fatal", "error"}


class Validator:
    """A validator while the `with` block lasts, or from `start()` to `stop()`.

    `definitions` are folders with StructureDefinitions, CodeSystems, ValueSets and Questionnaires as
    JSON, beyond those of FHIR R4. An extension or profile that none of them defines is an error.
    It never uses the network, so it can't judge a StructureDefinition itself (HAPI would load the
    definitions of R4 as a package), nor whether a LOINC or SNOMED CT code exists.
    """

    def __init__(self, definitions: Sequence[Path] = (), *, progress: Progress = silent) -> None:
        self._definitions = list(definitions)
        self._progress = progress
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the validator has read all definitions."""
        jars = load(locked("validator"), "The FHIR validator", self._progress)
        classes = compiled("Validator.java", jars, self._progress)
        self._folder = Path(tempfile.mkdtemp(prefix="ipt-bridge-validator-"))
        program = Program(
            "Validator",
            [classes, *jars],
            HEAP,
            {"user.home": str(self._folder)},  # the libraries make folders there
        )
        line = command(program, *map(str, self._definitions), folder=self._folder)
        with self._log.open("wb") as log:
            # It ends with its input, so it needs no keeper to end with this process.
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self._read_line()

    def stop(self) -> None:
        """End the validator."""
        if self._process is not None:
            _pipe(self._process.stdin).close()
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            _pipe(self._process.stdout).close()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def validate(self, resource: bytes | Mapping[str, Any], *, profile: str = "") -> list[Issue]:
        """Everything the validator says of a resource, by its own profiles and by `profile`."""
        one_line = resource.replace(b"\n", b" ") if isinstance(resource, bytes) else orjson.dumps(resource)
        if self._process is None:
            raise SandboxError("The FHIR validator does not run. Start it first.")
        stdin = _pipe(self._process.stdin)
        stdin.write(profile.encode() + b"\t" + one_line + b"\n")
        stdin.flush()
        return [Issue(**issue) for issue in orjson.loads(self._read_line())]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return Path(str(self._folder)) / "validator.log"

    def _read_line(self) -> bytes:
        if self._process is None:
            raise SandboxError("The FHIR validator does not run. Start it first.")
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise SandboxError(f"The FHIR validator ended by itself. Read {self._log}.")
        return line


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("the validator is always started with pipes")
    return stream
