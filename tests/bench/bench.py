"""One run: the parts, the scale, the data sets that are written once, and what was measured."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tests.bench import events
from tests.bench.installation import install
from tests.bench.multiplied import fill, templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AsyncExitStack

    from tests.bench.events import Event
    from tests.bench.multiplied import Templates
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
    keep: AsyncExitStack
    """What lives as long as the run."""
    courses: int = 0
    """Courses that were held against their events, and equal."""
    _waiting: dict[str, Waiting] = field(default_factory=dict)
    _filled: dict[int, str] = field(default_factory=dict)
    _templates: Templates | None = None
    _began: float = field(default_factory=time.monotonic)

    async def waiting(self, what: str) -> Waiting:
        """Return a data set on its topics."""
        return await self.written(what, partial(self.events, what))

    async def written(self, what: str, made: Callable[[], Iterable[Event]]) -> Waiting:
        """Return events on topics of their own, made and written when they are first asked for."""
        if what not in self._waiting:
            self.say(f"writing the events: {what}")
            self._waiting[what] = await self.parts.write(what, made())
        return self._waiting[what]

    async def templates(self) -> Templates:
        """Return the patients that stores are filled from."""
        if self._templates is None:
            self.say("reading the templates")
            self._templates = await templates(self.parts, self.scale.templates)
        return self._templates

    async def filled(self, courses: int) -> str:
        """Return the URL of a database with so many courses, to be copied; it stays as it is."""
        if courses not in self._filled:
            made = await self.templates()
            url = await self.keep.enter_async_context(self.parts.database("postgresql"))
            self.say(f"filling a store with {courses:,} courses")
            await install(self.parts, await self.parts.topics("none"), url)
            await fill(url, made, courses, self.parts.mappings)
            self._filled[courses] = url
        return self._filled[courses]

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
