"""What is worked on in a synthetic course: the answers of its forms, by focus area."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

    from service.sandbox.stories import Story

FormAnswers = dict[str, Any]
"""By linkId: a tick, a number, or codes written `code system/code`, several in a list."""

_RATED_EVERY = 4
"""After how many sessions the forms rate life beside symptoms again."""
_LAST_SESSIONS = 3
"""How many sessions the ending phase has."""

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
    effects: tuple[str, ...]
    """What the patterns do to emotion and behaviour."""
    maladaptive: str
    """What the patient relied on in distress."""
    gains: tuple[str, ...]


THEMES = {
    "grief": Theme(
        goals=("mourn-loss", "find-supports", "better-sleep"),
        tasks=("explore-feelings", "relate-onset-to-death", "reconstruct-relationship"),
        patterns=("social-withdrawal", "avoids-expressing-needs"),
        techniques=("expression-of-affect", "clarification-of-expectations", "work-at-home"),
        coping=("remembrance", "contact-support-person", "structured-day"),
        next_steps=("remember-together", "contact-someone", "observe-mood-and-events"),
        effects=("lower-mood", "loneliness"),
        maladaptive="self-isolation",
        gains=("loss-accepted", "wider-supports", "fewer-symptoms"),
    ),
    "role-dispute": Theme(
        goals=("resolve-dispute", "express-needs", "reduce-conflict"),
        tasks=("stage-dispute", "find-patterns"),
        patterns=("withdraws-from-conflict", "escalates-conflict", "expects-others-to-know"),
        techniques=("communication-analysis", "role-play", "decision-analysis"),
        coping=("pause-before-responding", "physical-activity"),
        next_steps=("practise-conversation", "have-conversation", "list-options"),
        effects=("anger", "conflict-goes-on"),
        maladaptive="outbursts",
        gains=("dispute-resolved", "expresses-needs", "fewer-symptoms"),
    ),
    "role-transition": Theme(
        goals=("accept-new-role", "build-new-skills", "less-anxiety"),
        tasks=("mourn-old-role", "gains-and-losses", "build-supports"),
        patterns=("over-responsible", "gives-in"),
        techniques=("decision-analysis", "problem-solving", "expression-of-affect"),
        coping=("structured-day", "pleasant-activity", "contact-support-person"),
        next_steps=("join-activity", "list-options", "contact-someone"),
        effects=("more-anxiety", "gives-up-activities"),
        maladaptive="rumination",
        gains=("mastery-of-new-role", "wider-supports", "fewer-symptoms"),
    ),
    "communication-patterns": Theme(
        goals=("express-needs", "reduce-isolation", "form-relationships"),
        tasks=("review-past-relationships", "find-patterns"),
        patterns=("fears-rejection", "indirect-communication", "difficulty-trusting"),
        techniques=("role-play", "communication-analysis", "work-at-home"),
        coping=("relaxation", "write-feelings-down", "contact-support-person"),
        next_steps=("practise-conversation", "contact-someone", "join-activity"),
        effects=("loneliness", "avoids-others"),
        maladaptive="avoidance",
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
    effects=("uses-substances",),
    maladaptive="alcohol",
    gains=("less-alcohol",),
)
"""What a patient who drinks works on beside the focus area."""


def assessed(story: Story) -> FormAnswers:
    """Return what the assessment documents at the outset."""
    inventory = {} if story.formulated_at is None else {"interpersonal-inventory": True}
    known: FormAnswers = {"protocol": story.protocol and f"protocol/{story.protocol}", "age": story.age}
    if story.exclusions:
        known["exclusion"] = [f"exclusion/{code}" for code in story.exclusions]
    known["administrative-sex"] = story.sex and f"administrative-sex/{story.sex}"
    return (
        {"diagnosis-documented": True}
        | inventory
        | {name: said for name, said in known.items() if said is not None}
        | rated(0)
    )


def rated(number: int) -> FormAnswers:
    """Return how life beside symptoms is rated after so many sessions: better after four, and after eight."""
    ratings = ("poor", "fair", "good")
    place = min(number // _RATED_EVERY, len(ratings) - 1)
    return {
        "function": f"well-being/{ratings[place]}",
        "communication": f"well-being/{ratings[max(place - 1, 0)]}",
        "support": "well-being/fair",
    }


def formulated(story: Story) -> FormAnswers:
    """Return what the assessment documents once formulation and focus are agreed."""
    goals = THEMES[story.focus].goals + (ALCOHOL.goals if story.audit else ())
    answers: FormAnswers = {"primary-focus-area": f"focus-area/{story.focus}"}
    if story.focus == "role-dispute":
        answers["secondary-focus-area"] = ["focus-area/communication-patterns"]
    if story.stage is not None:
        answers["dispute-stage"] = f"dispute-stage/{story.stage}"
    return answers | {
        "formulation": True,
        "agreement": True,
        "planned-sessions": story.planned,
        "goal": [f"patient-goal/{goal}" for goal in goals],
    }


def rechosen(story: Story) -> FormAnswers:
    """Return what the assessment form tells that names another protocol."""
    if story.changed is None:
        return {}
    _, protocol, planned = story.changed
    return {"planned-sessions": planned, "protocol": f"protocol/{protocol}"}


def refocused(story: Story) -> FormAnswers:
    """Return what the assessment form tells that names another focus area: the first one becomes the secondary."""
    if story.refocused is None:
        return {}
    _, area = story.refocused
    return {
        "primary-focus-area": f"focus-area/{area}",
        "secondary-focus-area": [f"focus-area/{story.focus}"],
        "agreement": True,
        "goal": [f"patient-goal/{goal}" for goal in (*THEMES[area].goals, *THEMES[story.focus].goals[:1])],
    }


def worked(story: Story, rng: Random, number: int) -> FormAnswers:
    """Return what the form of the session of this number, from 1, tells."""
    if story.refocused is not None and number > story.refocused[0]:
        story = replace(story, focus=story.refocused[1], stage=None, refocused=None)
    if story.formulated_at is None or number <= story.formulated_at:
        task = INITIAL_TASKS[(number - 1) % len(INITIAL_TASKS)]
        return {"phase-task": [f"phase-task/{task}"], "technique": ["technique/expression-of-affect"]}
    theme = THEMES[story.focus]
    coping, steps = theme.coping, theme.next_steps
    if story.audit:
        coping, steps = coping + ALCOHOL.coping, steps + ALCOHOL.next_steps
    if number > story.planned - _LAST_SESSIONS:
        tasks: tuple[str, ...] = (rng.choice(ENDING_TASKS),)
    else:
        tasks = (rng.choice(MIDDLE_TASKS), rng.choice(theme.tasks))
    answers: FormAnswers = {
        "worked-on": [f"focus-area/{story.focus}"],
        "phase-task": [f"phase-task/{task}" for task in tasks],
        "pattern": [f"pattern/{rng.choice(theme.patterns)}"],
        "technique": [f"technique/{code}" for code in rng.sample(theme.techniques, 2)],
        "coping-strategy": [f"coping-strategy/{rng.choice(coping)}"],
    }
    if number % 2:
        answers["pattern-effect"] = [f"pattern-effect/{effect}" for effect in theme.effects]
        answers["technique-at-home"] = [f"technique/{theme.techniques[0]}"]
    if number % _RATED_EVERY == 0:
        answers |= rated(number)
        answers["maladaptive-coping"] = [f"maladaptive-coping/{(ALCOHOL if story.audit else theme).maladaptive}"]
        answers["coping-trend"] = f"coping-trend/{'less' if story.phq_9[-1] < story.phq_9[0] else 'same'}"
    if story.audit:
        answers["use-since-last"] = f"use-since-last/{'less' if story.audit[-1] < story.audit[0] else 'same'}"
    if story.care is not None:
        answers["addiction-care"] = f"addiction-care/{story.care}"
    if story.stage is not None:
        answers["dispute-stage"] = f"dispute-stage/{story.stage}"
    return answers | {"next-step": [f"next-step/{rng.choice(steps)}"]}


def concluded(story: Story) -> FormAnswers:
    """Return what the ending form tells."""
    return {
        "gain": [f"gain/{gain}" for gain in THEMES[story.focus].gains],
        "relapse-prevention-plan": True,
        "decision": f"decision/{story.decision}",
    }
