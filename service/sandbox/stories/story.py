"""What a story tells: which course, and what a clinician should see in it."""

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
    RECOVERED = "recovered"
    OFTEN_MISSED = "often-missed"
    CRISIS = "crisis"
    ADOLESCENT = "adolescent"
    BRIEF = "brief"
    GROUP = "group"
    OTHER_PROTOCOL = "other-protocol"
    LONG_GONE = "long-gone"
    CAME_BACK = "came-back"
    SUGGESTED = "suggested"
    REFOCUSED = "refocused"
    ADDICTION = "addiction"
    DRUG_USE = "drug-use"
    AFTER_BIRTH = "after-birth"
    TRAUMA = "trauma"


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
    protocol: str | None = None
    """What the assessment form names; None if it names none."""
    sex: str | None = None
    """As the assessment form has it, with the age in years."""
    age: int | None = None
    exclusions: tuple[str, ...] = ()
    """What the assessment form names that speaks against the protocol."""
    prepared: bool = False
    """Whether the first visit is the individual one before a group begins."""
    changed: tuple[int, str, int] | None = None
    """After how many sessions a form names another protocol, which, and how many sessions are planned by it."""
    after_end: int = 0
    """Weekly sessions held after the ending."""
    instruments: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Further instruments by id, each with its totals at the assessment, halfway and at the last session."""
    labels: tuple[str, ...] = ()
    """Codes of security labels that its records carry."""
    reason: str | None = None
    """ICD-10-CM code of the reason for which the patient was assessed."""
    refocused: tuple[int, str] | None = None
    """Session at which another focus area was agreed as the primary one, and which."""
    care: str | None = None
    """How the addiction care beside the therapy stands, as each session form has it."""
