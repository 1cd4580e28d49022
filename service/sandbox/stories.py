"""The stories that synthetic patients play: which course, and what a clinician should see in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Archetype(StrEnum):
    """A patient whom a clinic knows."""

    RESPONDER = "responder"
    NON_RESPONDER = "non-responder"
    SELF_HARM = "self-harm"
    ENDING = "ending"
    DETERIORATING = "deteriorating"
    ALCOHOL = "alcohol"
    OVERRUN = "overrun"
    USED_UP = "used-up"
    DROPOUT = "dropout"
    ENDED = "ended"
    LATE_RESPONDER = "late-responder"
    WRONG_TOTAL = "wrong-total"
    ITEM_UNANSWERED = "item-unanswered"
    MAINTENANCE = "maintenance"
    ODD_RECORDS = "odd-records"
    CORRECTED = "corrected"
    NEWCOMER = "newcomer"


@dataclass(frozen=True, slots=True)
class Story:
    """A course as it is played."""

    archetype: Archetype
    shows: str
    """What it illustrates, in a few words."""
    rules: tuple[str, ...]
    """Rules of `mappings/rules/` that find something in it, once it is played to its end."""
    focus: str
    held: int
    """Sessions held by the end of the story."""
    planned: int
    """Sessions agreed with the patient."""
    phq_9: tuple[int, ...]
    """Totals at evenly spaced points from the assessment to the last session."""
    gad_7: tuple[int, ...]
    stage: str | None = None
    """Of a dispute."""
    formulated_at: int | None = 3
    """Session at which focus, formulation and agreement are documented; None if they never are."""
    missed: tuple[tuple[int, str], ...] = ()
    """After how many held sessions one was missed, and how: `cancelled` or `no-show`."""
    weeks_since: int = 0
    """Full weeks between the last session and the end of the story, with nothing booked if any."""
    audit: tuple[int, ...] = ()
    self_harm: int = 0
    """Points of PHQ-9 item 9 in the last session."""
    decision: str | None = None
    """What the ending form decides."""
    maintenance: int = 0
    """Monthly sessions held after the ending."""


STORIES = (
    Story(
        Archetype.RESPONDER,
        "steady improvement in the middle phase",
        ("initial.complete", "change.improvement"),
        "grief",
        held=7,
        planned=16,
        phq_9=(19, 9),
        gad_7=(14, 7),
        missed=((4, "cancelled"),),
    ),
    Story(
        Archetype.NON_RESPONDER,
        "no improvement by the firm review",
        ("initial.complete", "review.firm", "ending.due"),
        "role-dispute",
        held=9,
        planned=12,
        phq_9=(17, 17),
        gad_7=(11, 11),
        stage="impasse",
        missed=((6, "no-show"),),
    ),
    Story(
        Archetype.SELF_HARM,
        "a self-harm answer before the focus is agreed",
        ("safety.self-harm-item",),
        "role-transition",
        held=3,
        planned=16,
        phq_9=(21, 22),
        gad_7=(16, 15),
        formulated_at=None,
        self_harm=2,
    ),
    Story(
        Archetype.ENDING,
        "remission as the ending nears",
        ("initial.complete", "change.improvement", "ending.due"),
        "role-transition",
        held=15,
        planned=16,
        phq_9=(16, 3),
        gad_7=(9, 2),
        missed=((9, "cancelled"),),
    ),
    Story(
        Archetype.DETERIORATING,
        "reliably worse than at the start",
        ("initial.complete", "change.deterioration", "review.soft"),
        "communication-patterns",
        held=6,
        planned=16,
        phq_9=(12, 20),
        gad_7=(9, 14),
    ),
    Story(
        Archetype.ALCOHOL,
        "alcohol use, with a goal and coping strategies of its own",
        ("initial.complete", "change.improvement"),
        "role-dispute",
        held=8,
        planned=16,
        phq_9=(18, 9),
        gad_7=(12, 7),
        stage="renegotiation",
        audit=(12, 11, 9),
    ),
    Story(
        Archetype.OVERRUN,
        "an initial phase that does not come to an agreement",
        ("initial.overrun",),
        "communication-patterns",
        held=6,
        planned=16,
        phq_9=(15, 12),
        gad_7=(10, 8),
        formulated_at=None,
        missed=((2, "cancelled"),),
    ),
    Story(
        Archetype.USED_UP,
        "all planned sessions held and no ending documented",
        ("initial.complete", "sessions.used-up", "change.improvement"),
        "grief",
        held=12,
        planned=12,
        phq_9=(20, 11),
        gad_7=(13, 8),
        weeks_since=1,
    ),
    Story(
        Archetype.DROPOUT,
        "no session for weeks",
        ("initial.complete", "course.stalled"),
        "role-transition",
        held=4,
        planned=16,
        phq_9=(16, 14),
        gad_7=(12, 11),
        missed=((4, "no-show"), (4, "no-show")),
        weeks_since=7,
    ),
    Story(
        Archetype.ENDED,
        "a course that ended well, with gains and a relapse-prevention plan",
        ("change.improvement",),
        "grief",
        held=16,
        planned=16,
        phq_9=(18, 3),
        gad_7=(13, 3),
        missed=((7, "cancelled"),),
        weeks_since=1,
        decision="end",
    ),
    Story(
        Archetype.LATE_RESPONDER,
        "flat until session 5, as some late responders are",
        ("initial.complete", "review.soft"),
        "communication-patterns",
        held=5,
        planned=14,
        phq_9=(16, 15),
        gad_7=(10, 10),
    ),
    Story(
        Archetype.WRONG_TOTAL,
        "a total that the answers don't add up to",
        ("initial.complete", "data.stated-total"),
        "role-transition",
        held=7,
        planned=12,
        phq_9=(14, 8),
        gad_7=(9, 5),
    ),
    Story(
        Archetype.ITEM_UNANSWERED,
        "the item on self-harm left out",
        ("initial.complete", "safety.item-unanswered"),
        "grief",
        held=5,
        planned=16,
        phq_9=(17, 11),
        gad_7=(11, 8),
    ),
    Story(
        Archetype.MAINTENANCE,
        "monthly sessions after a full course",
        ("change.improvement",),
        "role-dispute",
        held=14,
        planned=14,
        phq_9=(17, 4),
        gad_7=(12, 4),
        stage="dissolution",
        decision="maintenance",
        maintenance=2,
    ),
    Story(
        Archetype.ODD_RECORDS,
        "records that contradict themselves, counted all the same",
        ("data.contradicted-answer", "data.duration", "data.same-day", "data.form-of-cancelled"),
        "role-dispute",
        held=8,
        planned=16,
        phq_9=(18, 10),
        gad_7=(12, 8),
        stage="renegotiation",
        missed=((5, "cancelled"),),
    ),
    Story(
        Archetype.CORRECTED,
        "answers amended, records entered in error, a booking deleted",
        ("initial.complete", "change.improvement"),
        "communication-patterns",
        held=7,
        planned=16,
        phq_9=(19, 10),
        gad_7=(13, 8),
    ),
    Story(
        Archetype.NEWCOMER,
        "assessed, and the first session booked",
        (),
        "role-transition",
        held=0,
        planned=16,
        phq_9=(15,),
        gad_7=(10,),
        formulated_at=None,
    ),
)
"""One story for each archetype; patients play them in turn."""
