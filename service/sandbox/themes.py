"""What is worked on in a synthetic course: the codes that its forms carry, by focus area."""

from __future__ import annotations

from dataclasses import dataclass

INITIAL_TASKS = ("psychiatric-history", "sick-role", "medication-need", "time-limit")
MIDDLE_TASKS = ("review-since-last", "link-symptoms-events")
ENDING_TASKS = ("address-ending", "credit-gains", "consolidate-gains", "next-care")


@dataclass(frozen=True, slots=True)
class Theme:
    """Codes that fit one focus area."""

    goals: tuple[str, ...]
    tasks: tuple[str, ...]
    patterns: tuple[str, ...]
    techniques: tuple[str, ...]
    coping: tuple[str, ...]
    next_steps: tuple[str, ...]
    gains: tuple[str, ...]


THEMES = {
    "grief": Theme(
        goals=("mourn-loss", "find-supports", "better-sleep"),
        tasks=("explore-feelings", "relate-onset-to-death", "reconstruct-relationship"),
        patterns=("social-withdrawal", "avoids-expressing-needs"),
        techniques=("expression-of-affect", "clarification-of-expectations", "work-at-home"),
        coping=("remembrance", "contact-support-person", "structured-day"),
        next_steps=("remember-together", "contact-someone", "observe-mood-and-events"),
        gains=("loss-accepted", "wider-supports", "fewer-symptoms"),
    ),
    "role-dispute": Theme(
        goals=("resolve-dispute", "express-needs", "reduce-conflict"),
        tasks=("stage-dispute", "find-patterns"),
        patterns=("withdraws-from-conflict", "escalates-conflict", "expects-others-to-know"),
        techniques=("communication-analysis", "role-play", "decision-analysis"),
        coping=("pause-before-responding", "physical-activity"),
        next_steps=("practise-conversation", "have-conversation", "list-options"),
        gains=("dispute-resolved", "expresses-needs", "fewer-symptoms"),
    ),
    "role-transition": Theme(
        goals=("accept-new-role", "build-new-skills", "less-anxiety"),
        tasks=("mourn-old-role", "gains-and-losses", "build-supports"),
        patterns=("over-responsible", "gives-in"),
        techniques=("decision-analysis", "problem-solving", "expression-of-affect"),
        coping=("structured-day", "pleasant-activity", "contact-support-person"),
        next_steps=("join-activity", "list-options", "contact-someone"),
        gains=("mastery-of-new-role", "wider-supports", "fewer-symptoms"),
    ),
    "communication-patterns": Theme(
        goals=("express-needs", "reduce-isolation", "form-relationships"),
        tasks=("review-past-relationships", "find-patterns"),
        patterns=("fears-rejection", "indirect-communication", "difficulty-trusting"),
        techniques=("role-play", "communication-analysis", "work-at-home"),
        coping=("relaxation", "write-feelings-down", "contact-support-person"),
        next_steps=("practise-conversation", "contact-someone", "join-activity"),
        gains=("expresses-needs", "closer-relationships", "knows-warning-signs"),
    ),
}

ALCOHOL = Theme(
    goals=("reduce-alcohol-use",),
    tasks=(),
    patterns=("drinks-when-distressed",),
    techniques=(),
    coping=("activity-instead-of-drinking", "delay-drinking"),
    next_steps=("practise-coping", "addiction-care-appointment"),
    gains=("less-alcohol",),
)
"""What a patient who drinks works on beside the focus area."""
