"""The stories that synthetic patients play, one module for each sort of story. No story is played here."""

from __future__ import annotations

from service.sandbox.stories import adult, findings, instruments, process, protocols
from service.sandbox.stories.story import Archetype, Story

__all__ = ["STORIES", "Archetype", "Story"]

_PLACES = {archetype: place for place, archetype in enumerate(Archetype)}

STORIES = tuple(
    sorted(
        (
            *adult.STORIES,
            *findings.STORIES,
            *process.STORIES,
            *protocols.STORIES,
            *instruments.STORIES,
        ),
        key=lambda story: _PLACES[story.archetype],
    )
)
"""One story for each archetype, in the archetypes' order; patients play them in turn."""
