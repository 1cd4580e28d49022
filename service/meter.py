"""The conformance meter: now and then a resource of each source is held against the full model of its FHIR version.

The full model takes some hundred times as long as reading what the service needs: it gets a small share of the time.
"""

from __future__ import annotations

from random import shuffle
from time import perf_counter
from typing import TYPE_CHECKING

from service.inbound.changes import Change
from service.inbound.conformance import deviations
from service.inbound.envelopes import open_record
from service.inbound.relevance import READ_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from service.inbound.records import Limits, Record, SourceContext
    from service.tally import Tally

SHARE = 0.01
"""Of the time that goes by, at most so much is spent on all sources together."""
MOST_BYTES = 64 * 1024
"""Larger records are passed over: the full model of one would hold up the others (some 10 ms at this size)."""
MOST_RESOURCES = 5
"""Of one record, say of a Bundle."""
MOST_OPENED = 16
"""Records that are opened to find one with a resource that is read; most of a stream are others."""


class Meter:
    """Takes samples, as many as its share of the time allows."""

    def __init__(
        self, sources: Mapping[str, SourceContext], limits: Limits, clock: Callable[[], float] = perf_counter
    ) -> None:
        """`sources` by topic; `clock` in seconds, from anywhere."""
        self._sources = sources
        self._limits = limits
        self._clock = clock
        self._pause = len({source.id for source in sources.values()}) / SHARE
        self._rests_until: dict[str, float] = {}

    def sample(self, records: Sequence[Record], tally: Tally) -> None:
        """Count in a tally where a resource of each source among these records deviates, if it is time for one."""
        started = self._clock()
        due = {name for name, each in self._sources.items() if self._rests_until.get(each.id, started) <= started}
        if not due:
            return
        waiting = [each for each in records if each.topic in due and each.value and len(each.value) <= MOST_BYTES]
        shuffle(waiting)
        for source in {self._sources[each.topic].id: self._sources[each.topic] for each in waiting}.values():
            begun = self._clock()
            mine = [each for each in waiting if self._sources[each.topic] is source]
            for change in self._resources(mine[:MOST_OPENED], source):
                found = deviations(change, source.fhir_version)
                tally.counts[source.id, change.resource_type, "deviating" if found else "conformant"] += 1
                tally.deviations.update((source.id, path) for path in found)
            ended = self._clock()
            self._rests_until[source.id] = ended + (ended - begun) * self._pause

    def _resources(self, records: Sequence[Record], source: SourceContext) -> Iterator[Change]:
        """Yield the resources of the first of these records that has any of those that are read."""
        for record in records:
            changes = open_record(record, source, self._limits).changes
            held = [
                each
                for each in changes
                if isinstance(each, Change) and each.resource is not None and each.resource_type in READ_TYPES
            ]
            if held:
                yield from held[:MOST_RESOURCES]
                return
