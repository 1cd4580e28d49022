"""Processes that live exactly as long as the Python that needs them."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from service.sandbox import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

POLL_S = 0.05


class SandboxError(Exception):
    """A part of the sandbox can't be had; the message says why, and what to do."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Way:
    """How a program is run: the signal that asks it to end; the system user, if not this one."""

    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None


TERMINATE = Way()


class Child:
    """A running program whose output goes to a log file and which ends when this process ends.

    `keeper.py` stands between, so that the program is ended even when this process is killed and
    can do nothing itself; it then deletes the folder `remove` too.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        remove: Path | None = None,
        way: Way = TERMINATE,
    ) -> None:
        self.name = name
        self.log = log
        options = [f"--signal={way.stop_signal.value}"]
        options += [f"--user={way.user}"] if way.user else []
        options += [f"--remove={remove}"] if remove else []
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(  # noqa: S603 - the command is the sandbox's own
                [sys.executable, "-I", "-S", keeper.__file__, *options, "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                # A terminal's Ctrl-C reaches only this process, which then stops its parts in order.
                start_new_session=True,
            )
        line = _pipe(self._keeper.stdout).readline()
        if not line:
            self._end(b"", grace_s=1)
            raise SandboxError(f"{name} could not be started. Read {log}.")
        self.pid = int(line)

    @property
    def running(self) -> bool:
        """Whether the program still runs."""
        return self._keeper.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, deadline_s: float) -> None:
        """Return when `ready` says so; SandboxError when the program ends or the time is over.

        Whatever keeps it from returning, Ctrl-C too, the program is ended: nobody else could.
        """
        try:
            self._wait_until(ready, time.monotonic() + deadline_s)
        except BaseException:
            self.kill()
            raise

    def _wait_until(self, ready: Callable[[], bool], end: float) -> None:
        while not ready():
            if not self.running:
                code = self._keeper.returncode
                raise SandboxError(f"{self.name} ended while it was starting (exit code {code}). Read {self.log}.")
            if time.monotonic() > end:
                raise SandboxError(
                    f"{self.name} was not ready in time and was ended. "
                    f"Read {self.log}; if the machine is busy, try again."
                )
            time.sleep(POLL_S)

    def stop(self) -> int:
        """End the program in its own way or, if that takes too long, at once; its exit code."""
        return self._end(b"s", grace_s=keeper.GRACE_S + 5)

    def kill(self) -> None:
        """End the program at once, as a power cut would (SIGKILL)."""
        self._end(b"k", grace_s=5)

    def _end(self, order: bytes, *, grace_s: float) -> int:
        stdin = _pipe(self._keeper.stdin)
        with contextlib.suppress(BrokenPipeError, ValueError):  # it ended by itself, or was ended before
            stdin.write(order)
            stdin.flush()
        try:
            return self._keeper.wait(grace_s)
        finally:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
            _pipe(self._keeper.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("the keeper is always started with pipes")
    return stream
