"""Courses that are followed by further instruments, each of them once."""

from __future__ import annotations

from service.sandbox.stories.story import Archetype, Story

STORIES = (
    Story(
        Archetype.DRUG_USE,
        "drug use beside a depression: AUDIT-C without a known sex, DAST-10",
        ("initial.complete", "data.sex-unknown"),
        "role-dispute",
        held=6,
        planned=14,
        phq_9=(16, 11),
        gad_7=(11, 8),
        stage="renegotiation",
        instruments=(("audit-c", (3, 3, 2)), ("dast-10", (5, 4, 2))),
    ),
    Story(
        Archetype.AFTER_BIRTH,
        "after a birth: EPDS totals, work and social functioning, a positive suicide risk screener",
        ("initial.complete", "safety.screener-positive"),
        "role-transition",
        held=7,
        planned=12,
        phq_9=(15, 9),
        gad_7=(10, 7),
        sex="female",
        age=31,
        instruments=(("epds", (17, 14, 9)), ("wsas", (24, 19, 12)), ("c-ssrs", (0, 0, 2))),
    ),
    Story(
        Archetype.TRAUMA,
        "grief after an accident: PCL-5, and the PHQ-9 for teens",
        ("initial.complete",),
        "grief",
        held=5,
        planned=12,
        phq_9=(14, 10),
        gad_7=(12, 9),
        age=17,
        instruments=(("pcl-5", (44, 38, 29)), ("phq-9m", (15, 12, 10))),
    ),
)
