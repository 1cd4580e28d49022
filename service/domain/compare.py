"""Two projections of one patient, and what differs between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from service.domain.course import Course, Finding

What = Literal["course", "phase", "protocol", "sessions", "score", "finding", "goal"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a course says otherwise."""

    course: str
    what: What
    name: str
    """Id of the finding, role of the goal, id of the instrument; else empty."""
    before: str | None
    """None where there was nothing of that name, or is nothing any more."""
    after: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """One projection's course with the goals of its plan."""

    course: Course
    goals: Mapping[str, str]
    """What each says, by role."""


def differences(before: Iterable[Side], after: Iterable[Side]) -> Iterator[Difference]:
    """Yield what differs between the courses of one patient, in the order of the courses' ids."""
    old = {side.course.id: side for side in before}
    new = {side.course.id: side for side in after}
    for name in sorted(old.keys() | new.keys()):
        was, is_now = old.get(name), new.get(name)
        told = {} if was is None else _told(was), {} if is_now is None else _told(is_now)
        if was is None or is_now is None:
            yield Difference(name, "course", "", _opened(was), _opened(is_now))
        for key in dict.fromkeys([*told[0], *told[1]]):
            pair = told[0].get(key), told[1].get(key)
            if pair[0] != pair[1]:
                yield Difference(name, *key, *pair)


def _opened(side: Side | None) -> str | None:
    return None if side is None else f"opened {side.course.opened.isoformat()}"


def _told(side: Side) -> dict[tuple[What, str], str]:
    """Return what is compared, each as a person reads it."""
    course = side.course
    agreed = "agreed" if course.planned_sessions_agreed else "by default"
    told: dict[tuple[What, str], str] = {
        ("phase", ""): course.phase.value,
        ("protocol", ""): course.protocol,
        ("sessions", ""): f"{course.held} of {course.planned_sessions} {agreed}",
    }
    for change in course.changes:
        told["score", change.instrument] = f"{change.first} → {change.latest}"
    for finding in course.findings:
        told["finding", finding.id] = _finding(finding)
    for role, text in side.goals.items():
        told["goal", role] = text
    return told


def _finding(finding: Finding) -> str:
    due = f", due {finding.due.isoformat()}" if finding.due else ""
    closed = f" to {finding.closed.isoformat()}" if finding.closed else ""
    values = ", ".join(f"{name} {value}" for name, value in finding.values)
    life = f"{finding.state.value} since {finding.raised.isoformat()}{closed}{due}"
    return f"{finding.severity.value}, {life}" + (f" ({values})" if values else "")
