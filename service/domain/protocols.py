"""Protocols as the mapping files describe them: how IPT is given, and which site's patients follow which."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from service.domain.codes import read_code
from service.domain.course import Phase
from service.domain.sourced import Coding, FileModel, Threshold, WrittenCode

if TYPE_CHECKING:
    from service.domain.facts import Code


class SessionPlan(FileModel):
    """How many sessions, how far apart."""

    default: Threshold
    """Stands in until a number is agreed with the patient."""
    minimum: Threshold
    maximum: Threshold
    interval: Threshold
    shortest: Threshold | None = None
    """How long a session lasts at the least, and at the most, in minutes."""
    longest: Threshold | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.minimum.value <= self.default.value <= self.maximum.value:
            msg = "default must lie between minimum and maximum"
            raise ValueError(msg)
        return self


class Preparation(FileModel):
    """Meetings before the first session that are no session of the protocol."""

    meetings: Threshold
    delivery: Literal["individual", "group"] = "individual"


class InitialPhase(FileModel):
    """What the initial phase has to document before the middle phase begins."""

    overrun_after: Threshold
    tasks: tuple[str, ...]
    """Course fields, all of them needed."""


class Reviews(FileModel):
    """When progress is reviewed, and by which measure."""

    measures: tuple[str, ...]
    """Instrument ids; the first that was a case at the start counts."""
    soft_after: Threshold
    """How many sessions are held by the early look, and by the review."""
    firm_after: Threshold
    firm_due: Threshold
    soft_after_days: Threshold | None = None
    """How many days after the first session they are due, whatever was held."""
    firm_after_days: Threshold | None = None
    soft_improvement: Threshold | None = None
    """Improvement in percent below which the early look is due; None leaves it to the rule."""


class Exclusion(FileModel):
    """What speaks against the protocol: a code of our CodeSystem exclusion."""

    code: str
    source: str
    reasons: tuple[Coding, ...] = ()
    """Reasons of an encounter that say the same."""


class Attendance(FileModel):
    """What is made of the time between sessions."""

    stalled_after: Threshold
    dropped_out_after: Threshold
    """How long after the last session, with none booked, the patient may have dropped out."""
    attended_from: Threshold
    """How many sessions make it a course of treatment, an end that is no early dropout, and a completed course."""
    unplanned_before: Threshold
    completed_from: Threshold
    unrecorded_after: Threshold
    form_match: Threshold
    """How long after a session its form may be written without naming the encounter."""


class Protocol(FileModel):
    """A published way to give IPT."""

    id: str
    version: int
    title: str
    source: str
    delivery: Literal["individual", "group"] = "individual"
    only_phase: Phase | None = None
    """Of a protocol that has no other phases."""
    sessions: SessionPlan
    preparation: Preparation | None = None
    initial: InitialPhase
    ending: Threshold
    """How many of the last sessions are the ending phase."""
    reviews: Reviews
    attendance: Attendance
    exclusions: tuple[Exclusion, ...] = ()


class CourseBounds(FileModel):
    """What belongs to one course and what starts another, whatever its protocol."""

    version: int
    protocol: str
    """Of a course for which neither a form nor the site names one."""
    maintenance: str
    """Of a course that follows one whose ending form decides on maintenance."""
    baseline: Threshold
    """How long before the opening a measure still is the course's first."""
    new_course_after: Threshold
    """A gap this long between explicit IPT events starts another course."""
    maintenance_gap: Threshold
    """The same, in maintenance."""
    longest_meeting: Threshold
    """An encounter longer than this, in minutes, is a slip of the record and has no duration."""


class SiteProtocol(FileModel):
    """Which protocol a site's patients follow: those of these codes and ages, where the table names any."""

    protocol: str
    codes: tuple[WrittenCode, ...] = ()
    """Types or service types of an encounter, written `system|code`."""
    age_from: int | None = None
    age_below: int | None = None

    @cached_property
    def keys(self) -> frozenset[Code]:
        """The codes as values."""
        return frozenset([read_code(code) for code in self.codes])

    @model_validator(mode="after")
    def _says_whom(self) -> Self:
        if not self.codes and self.age_from is None and self.age_below is None:
            msg = "name codes, age_from or age_below"
            raise ValueError(msg)
        if self.age_from is not None and self.age_below is not None and self.age_from >= self.age_below:
            msg = "age_from must be less than age_below"
            raise ValueError(msg)
        return self
