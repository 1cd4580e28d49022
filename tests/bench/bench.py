"""One run: the parts, the scale, the data sets that are written once, and what was measured."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench import events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.events import Event
    from tests.bench.parts import Parts, Waiting
    from tests.bench.scale import Scale

SHUFFLED = "shuffled"
CLOSE = "close"
MOSTLY_OTHERS = "sparse"
PREFIX = "prefix"


@dataclass(slots=True)
class Bench:
    """What the rows of one run share."""

    parts: Parts
    scale: Scale
    courses: int = 0
    """Courses that were held against their events, and equal."""
    _waiting: dict[str, Waiting] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    async def waiting(self, what: str) -> Waiting:
        """Return a data set on its topics, written when it is first asked for."""
        if what not in self._waiting:
            self.say(f"writing the events: {what}")
            self._waiting[what] = await self.parts.write(what, self.events(what))
        return self._waiting[what]

    def events(self, what: str) -> Iterator[Event]:
        """Return the events of a data set."""
        scale = self.scale
        if what == SHUFFLED:
            return iter(events.shuffled(scale.patients, scale.each))
        if what == PREFIX:
            return iter(events.shuffled(scale.patients, scale.each)[: scale.naive])
        if what == CLOSE:
            return iter(events.lying_close(scale.close_patients, scale.close_each))
        return events.sparse(scale.sparse)

    def say(self, what: str) -> None:
        """Tell whoever waits how far it is."""
        sys.stderr.write(f"{time.monotonic() - self._began:7.1f} s  {what}\n")
        sys.stderr.flush()
