"""Event numbers: which notifications of a Subscription have been seen, and which are missing between them.

A subscription numbers its events from 1, across the whole store. They come in any order, several times, and first
from somewhere in the middle: a number is missing once a greater one has been seen, and one below it too.
Source: HL7 Subscriptions R5 Backport 1.1, "Event Number" and "Detecting missed events".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

FIRST = 1
"""The number of a subscription's first event."""
NEW_RUN_AFTER = timedelta(minutes=1)
"""A first event so much later than the newest one is a new subscription's; sooner, it comes late or again."""
MOST_STRETCHES = 200
"""Stretches kept of one subscription; beyond it, the gaps between its lowest ones are let go."""


class Told(Enum):
    """How a notification tells of a number."""

    EVENT = auto()
    """It brings the event of this number."""
    AGAIN = auto()
    """It brings the event of this number because somebody asked for it."""
    COUNT = auto()
    """It says that there have been so many events, and brings none."""
    START = auto()
    """It says that the subscription is taken up, after so many events."""


class Numbered(NamedTuple):
    """A number that a notification tells of."""

    number: int
    time: datetime
    """When it happened, as the notification says; else its record's."""
    told: Told = Told.EVENT


class Stretch(NamedTuple):
    """Numbers that were seen with none missing between them. Empty, `last` before `first`, where only a count tells."""

    first: int
    last: int
    noticed: datetime
    """When it first stood apart, by the clock of whoever saw it."""
    since: datetime
    until: datetime
    """Times of `first` and `last`."""


class Gap(NamedTuple):
    """Numbers that were not seen between others that were."""

    first: int
    last: int
    noticed: datetime
    """When a greater number was seen first, by the clock of whoever saw it."""
    after: datetime
    before: datetime
    """Times of the events around it."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What has been seen of one subscription."""

    begun: datetime | None = None
    """Time of the event with which it began anew; what is older belongs to its life before. None in its first."""
    stretches: tuple[Stretch, ...] = ()
    """In their order; no two touch."""

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is missing, lowest first."""
        pairs = zip(self.stretches, self.stretches[1:], strict=False)
        return tuple(
            Gap(low.last + 1, high.first - 1, high.noticed, min(low.until, high.since), max(low.until, high.since))
            for low, high in pairs
        )

    def has(self, first: int, last: int) -> bool:
        """Return whether none of these numbers is missing."""
        return any(each.first <= first and last <= each.last for each in self.stretches)


def follow(followed: Followed, numbers: Iterable[Numbered], now: datetime) -> Followed:
    """Return what has been seen with these numbers too: in any order, any number of times."""
    for each in sorted(numbers, key=lambda one: (one.time, one.number)):
        if followed.begun is not None and each.time < followed.begun:
            continue
        if _begins_anew(followed, each):
            followed = Followed(begun=each.time)
        first = each.number if each.told in {Told.EVENT, Told.AGAIN} else each.number + 1
        stretch = Stretch(first, each.number, now, each.time, each.time)
        followed = replace(followed, stretches=_with(followed.stretches, stretch))
    return followed


def without_gap(followed: Followed, gap: Gap) -> Followed:
    """Return what has been seen, with a gap's numbers among it: what they told of was found in another way."""
    filled = Stretch(gap.first, gap.last, gap.noticed, gap.after, gap.before)
    return replace(followed, stretches=_with(followed.stretches, filled))


def _begins_anew(followed: Followed, each: Numbered) -> bool:
    """Return whether a subscription of the same name was made anew."""
    if not followed.stretches:
        return False
    newest = followed.stretches[-1]
    if each.told is Told.START:
        return each.number < FIRST <= newest.last and each.time > newest.until
    return each.told is Told.EVENT and each.number <= FIRST < newest.last and each.time > newest.until + NEW_RUN_AFTER


def _with(stretches: tuple[Stretch, ...], added: Stretch) -> tuple[Stretch, ...]:
    """Return the stretches with one more, joined with those that it touches or overlaps."""
    if stretches and stretches[-1].first <= added.first and added.last <= stretches[-1].last:
        return stretches  # most repetitions
    below = [each for each in stretches if each.last + 1 < added.first]
    above = [each for each in stretches if each.first > added.last + 1]
    touched = stretches[len(below) : len(stretches) - len(above)]
    noticed = min((each.noticed for each in touched), default=added.noticed)
    if not touched and above:
        if below:
            noticed = above[0].noticed  # what is missing below it has been since then
        else:
            above[0] = above[0]._replace(noticed=added.noticed)  # nothing was missing there before
    lowest = min((*touched, added), key=lambda each: each.first)
    highest = max((*touched, added), key=lambda each: each.last)
    found = (*below, Stretch(lowest.first, highest.last, noticed, lowest.since, highest.until), *above)
    if len(found) > MOST_STRETCHES:
        first, second, *rest = found
        found = (Stretch(first.first, second.last, first.noticed, first.since, second.until), *rest)
    return found
