"""Courses that show the process: how a focus area comes up and changes, and addiction beside mental illness."""

from __future__ import annotations

from service.sandbox.stories.story import Archetype, Story

STORIES = (
    Story(
        Archetype.SUGGESTED,
        "a death in the family as the reason, before the focus is agreed",
        ("focus.suggested",),
        "grief",
        held=2,
        planned=16,
        phq_9=(17, 16),
        gad_7=(11, 11),
        formulated_at=None,
        reason="Z63.4",
    ),
    Story(
        Archetype.REFOCUSED,
        "a dispute that ended in separation: the role transition became the focus",
        ("initial.complete",),
        "role-dispute",
        held=9,
        planned=16,
        phq_9=(16, 10),
        gad_7=(11, 8),
        stage="dissolution",
        missed=((7, "cancelled"),),
        refocused=(6, "role-transition"),
    ),
    Story(
        Archetype.ADDICTION,
        "alcohol use beside depression, with addiction care under way",
        ("initial.complete",),
        "communication-patterns",
        held=8,
        planned=16,
        phq_9=(18, 10),
        gad_7=(12, 8),
        audit=(22, 18, 12),
        care="under-way",
        labels=("42CFRPart2",),
    ),
)
