"""Starts several parts at once and shows what they load meanwhile."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from service.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress, TaskID


class Part(Protocol):
    """What the sandbox starts and stops."""

    def start(self) -> None:
        """Return when the part serves."""

    def stop(self) -> None:
        """End the part; harmless where it does not run."""


@dataclass(slots=True)
class Loading:
    """Shows what the parts load, from any of their threads; ends the loading once nobody waits for it."""

    bars: Progress
    given_up: bool = False
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how much of something is loaded. Raises SandboxError once it was given up."""
        if self.given_up:
            raise SandboxError("The demo was ended while it was loading. What is loaded stays; start it again.")
        with self._lock:
            task = self._tasks.get(what)
            if task is None:
                task = self._tasks[what] = self.bars.add_task(f"Loading {what}", size="")
            self.bars.update(task, completed=done, total=total, size=f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def give_up(self) -> None:
        """Let whatever still loads end."""
        self.given_up = True


def start_all(parts: Sequence[Part]) -> None:
    """Return when all parts run; raise what the first one raises that fails."""
    outcomes: SimpleQueue[Exception | None] = SimpleQueue()

    def start(part: Part) -> None:
        try:
            part.start()
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            outcomes.put(error)
        else:
            outcomes.put(None)

    for part in parts:
        # A thread that nobody waits for at the end: Ctrl-C ends the demo at once, whatever still loads.
        threading.Thread(target=start, args=(part,), daemon=True).start()
    for _ in parts:
        if (error := outcomes.get()) is not None:
            raise error
