"""Hypothesis strategies over synthetic patients: any story, and any way in which its events may arrive."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from service.sandbox.patients import SyntheticPatient, play_patient
from service.sandbox.stories import Archetype, Story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.sandbox.events import Event

START = date(2026, 1, 5)
PROTOCOLS = ("adult-standard", "adolescent", "brief", "who-group", "maintenance")
MOST_SESSIONS = 5
"""Few enough to be fast: such a course has about forty events."""


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw a short course: any archetype's oddities with any focus, scores, misses and ending."""
    held = draw(st.integers(0, MOST_SESSIONS))
    focus = draw(st.sampled_from(["grief", "role-dispute", "role-transition", "communication-patterns"]))
    stages = st.sampled_from(["renegotiation", "impasse", "dissolution"])
    decision = draw(st.sampled_from([None, "end", "continue", "maintenance"])) if held else None
    return Story(
        archetype=draw(st.sampled_from(Archetype)),
        shows="whatever is drawn",
        rules=(),
        focus=focus,
        held=held,
        planned=draw(st.integers(1, MOST_SESSIONS + 3)),
        phq_9=tuple(draw(st.lists(st.integers(4, 23), min_size=1, max_size=3))),
        gad_7=tuple(draw(st.lists(st.integers(0, 20), min_size=1, max_size=3))),
        stage=draw(stages) if focus == "role-dispute" else None,
        formulated_at=draw(st.none() | st.integers(1, max(held, 1))),
        missed=tuple(
            draw(
                st.lists(st.tuples(st.integers(0, held), st.sampled_from(["cancelled", "no-show"])), max_size=2),
            )
        ),
        weeks_since=draw(st.integers(0, 6)),
        audit=tuple(draw(st.sampled_from([(), (12, 11, 9)]))),
        self_harm=draw(st.integers(0, 3)),
        decision=decision,
        maintenance=draw(st.integers(0, 1)) if decision == "maintenance" else 0,
        protocol=draw(st.none() | st.sampled_from(PROTOCOLS)),
        exclusions=tuple(draw(st.sampled_from([(), ("psychosis",)]))),
        prepared=draw(st.booleans()),
        changed=draw(
            st.none() | st.tuples(st.integers(1, max(held, 1)), st.sampled_from(PROTOCOLS), st.integers(1, 9))
        ),
        after_end=draw(st.integers(0, 2)) if decision is not None else 0,
    )


def patients() -> st.SearchStrategy[SyntheticPatient]:
    """Draw a patient with a short course."""
    return st.builds(play_patient, seed=st.integers(0, 2**16), number=st.just(1), start=st.just(START), story=stories())


@st.composite
def arrivals(draw: st.DrawFn, events: Sequence[Event]) -> list[Event]:
    """Draw an order in which the events arrive, some of them more than once."""
    places = range(len(events))
    again = draw(st.lists(st.sampled_from(places), max_size=5))
    return [events[place] for place in draw(st.permutations([*places, *again]))]


@st.composite
def batches(draw: st.DrawFn, events: Sequence[Event]) -> list[list[Event]]:
    """Draw a split of the events into consecutive batches."""
    cuts = sorted(draw(st.sets(st.integers(0, len(events)), max_size=6)))
    bounds = [0, *cuts, len(events)]
    return [list(events[first:last]) for first, last in pairwise(bounds)]
