"""The mappings as typed values: what every code, number and text of a site means.

`mapping_files` reads them from the files of `mappings/`.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from service.domain.codes import LOINC, checked, read_code
from service.domain.course import Severity
from service.domain.facts import Code
from service.domain.forms import FormMap


class MappingError(ValueError):
    """A mapping file is wrong; the message names file, key and problem."""


def _loinc(code: str) -> str:
    return checked(LOINC, code).code


def _written(code: str) -> str:
    read_code(code)
    return code


Loinc = Annotated[str, AfterValidator(_loinc)]
WrittenCode = Annotated[str, AfterValidator(_written)]
"""A code written as `system|code`."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Model):
    """Where a number or rule comes from."""

    title: str
    kind: Literal["published", "general-knowledge", "design-decision"]
    address: str = ""
    """URL or DOI."""


class Threshold(_Model):
    """A number that a rule compares with."""

    value: float
    unit: str
    source: str
    """Key into `sources.toml`."""

    @cached_property
    def count(self) -> int:
        """The value as a whole number, for thresholds that count."""
        return int(self.value)

    @cached_property
    def days(self) -> timedelta:
        """The value as a span of time, for thresholds in days."""
        return timedelta(days=self.value)


class Coding(_Model):
    """A code that a mapping names, its check digit proven where its system has one."""

    system: str
    code: str
    display: str

    @model_validator(mode="after")
    def _check_digit(self) -> Self:
        checked(self.system, self.code)
        return self

    @property
    def key(self) -> Code:
        """System and code alone."""
        return Code(self.system, self.code)


class Band(_Model):
    """A severity band; `start` is its lowest total."""

    start: int
    name: str


class InstrumentItem(_Model):
    """One scored item."""

    loinc: Loinc
    title: str
    link_ids: tuple[str, ...] = ()
    """linkIds that name this item in any questionnaire, beside its LOINC code."""
    answers: dict[WrittenCode, int] | None = None
    """Scores of this item's answers where they differ from the instrument's."""
    maximum: int | None = None
    """Highest score, where no coded answer states it."""


class Safety(_Model):
    """The item that asks about self-harm, and the score that calls a clinician the same day."""

    item: int
    at_least: Threshold


class Instrument(_Model):
    """A scored questionnaire."""

    id: str
    version: int
    title: str
    subject: str
    """What it measures, in a clinician's word: depression."""
    panel: Loinc
    total: Loinc
    maximum: int
    questionnaires: tuple[str, ...]
    """Canonicals, without version."""
    source: str
    answers: dict[WrittenCode, int]
    """Score of each answer code."""
    bands: tuple[Band, ...]
    items: tuple[InstrumentItem, ...]
    caseness: Threshold | None = None
    reliable_change: Threshold | None = None
    remission_below: Threshold | None = None
    total_link_ids: tuple[str, ...] = ()
    safety: Safety | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        starts = [band.start for band in self.bands]
        if starts != sorted(set(starts)) or not starts or starts[0] != 0:
            msg = "bands must start at 0 and rise"
            raise ValueError(msg)
        if self.safety and not 1 <= self.safety.item <= len(self.items):
            msg = f"safety.item must be between 1 and {len(self.items)}"
            raise ValueError(msg)
        if sum(self.item_maximum) != self.maximum:
            msg = f"maximum is {self.maximum}, and the highest scores of the items add up to {sum(self.item_maximum)}"
            raise ValueError(msg)
        return self

    def band(self, total: int) -> str:
        """Return the name of the band that a total falls in."""
        return next(band.name for band in reversed(self.bands) if total >= band.start)

    @cached_property
    def item_codes(self) -> dict[str, int]:
        """Index of the item that a LOINC code names."""
        return {item.loinc: index for index, item in enumerate(self.items)}

    @cached_property
    def link_ids(self) -> dict[str, int]:
        """Index of the item that a linkId names, written without a leading slash."""
        own = {link_id: index for index, item in enumerate(self.items) for link_id in item.link_ids}
        return own | self.item_codes

    @cached_property
    def total_ids(self) -> frozenset[str]:
        """LinkIds of the item that states the total."""
        return frozenset((*self.total_link_ids, self.total))

    @cached_property
    def item_scores(self) -> tuple[dict[Code, int], ...]:
        """Score of each answer code, by item."""
        return tuple(_scores(item.answers if item.answers is not None else self.answers) for item in self.items)

    @cached_property
    def bare_scores(self) -> tuple[dict[str, int], ...]:
        """Score of each answer code that came without its system, by item."""
        return tuple({code.code: score for code, score in scores.items()} for scores in self.item_scores)

    @cached_property
    def item_maximum(self) -> tuple[int, ...]:
        """Highest score of each item."""
        return tuple(
            item.maximum if item.maximum is not None else max(scores.values(), default=0)
            for item, scores in zip(self.items, self.item_scores, strict=True)
        )


def _scores(answers: dict[str, int]) -> dict[Code, int]:
    return {read_code(written): score for written, score in answers.items()}


class SessionPlan(_Model):
    """How many sessions, how far apart."""

    default: Threshold
    """Stands in until a number is agreed with the patient."""
    minimum: Threshold
    maximum: Threshold
    interval: Threshold

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.minimum.value <= self.default.value <= self.maximum.value:
            msg = "default must lie between minimum and maximum"
            raise ValueError(msg)
        return self


class InitialPhase(_Model):
    """What the initial phase has to document before the middle phase begins."""

    overrun_after: Threshold
    tasks: tuple[str, ...]
    """Course fields, all of them needed."""


class CourseBounds(_Model):
    """What belongs to one course and what starts another."""

    baseline: Threshold
    """How long before the opening a measure still is the course's first."""
    new_course_after: Threshold
    """A gap this long between explicit IPT events starts another course."""
    stalled_after: Threshold
    unrecorded_after: Threshold
    form_match: Threshold
    """How long after a session its form may be written without naming the encounter."""


class Reviews(_Model):
    """When progress is reviewed, and by which measure."""

    measures: tuple[str, ...]
    """Instrument ids; the first that was a case at the start counts."""
    soft_after: Threshold
    firm_after: Threshold
    firm_due: Threshold


class Protocol(_Model):
    """A published way to give IPT."""

    id: str
    version: int
    title: str
    source: str
    sessions: SessionPlan
    initial: InitialPhase
    ending: Threshold
    """How many of the last sessions are the ending phase."""
    reviews: Reviews
    course: CourseBounds


class Rule(_Model):
    """A rule as a clinician reads it; its logic stands in `service/domain/rules.py`."""

    id: str
    version: int
    severity: Severity
    title: str
    """What a finding of this rule says, in a few words."""
    sentence: str
    """The finding in the plan, with `{value}` places."""
    sources: tuple[str, ...]
    thresholds: dict[str, Threshold] = {}


class FocusAreaText(_Model):
    """A focus area in words."""

    code: str
    title: str
    classic_term: str
    choose_when: str
    therapist_tasks: tuple[str, ...]
    patient_goals: tuple[str, ...]
    goal: str
    """The focus-area goal in the plan."""
    source: str


class EncounterCodes(_Model):
    """Which encounter codes mean what."""

    ipt: tuple[Coding, ...] = ()
    """Explicit: always a session."""
    psychotherapy: tuple[Coding, ...] = ()
    """General: a session only inside an open course, by the site's rule."""
    evaluation: tuple[Coding, ...] = ()
    crisis: tuple[Coding, ...] = ()
    group: tuple[Coding, ...] = ()
    telehealth: tuple[Coding, ...] = ()
    no_show: tuple[Coding, ...] = ()
    discarded: tuple[Coding, ...] = ()
    """Codes that look like ours and are not, each with its reason in `display`."""


class Mappings(_Model):
    """Everything that the mapping files of one site say."""

    digest: str
    """Hash of the files' bytes; part of every revision."""
    sources: dict[str, Source]
    protocols: dict[str, Protocol]
    instruments: dict[str, Instrument]
    other_questionnaires: dict[str, str]
    """Canonicals that look like an instrument of ours and are not, with the reason."""
    focus_areas: dict[str, FocusAreaText]
    rules: dict[str, Rule]
    encounters: EncounterCodes
    forms: dict[str, FormMap]
    """By questionnaire canonical."""
    displays: dict[Code, str]
    """Of our own CodeSystems."""
    same_practitioner: bool
    instrument_by_questionnaire: dict[str, str]
    site_link_ids: dict[str, dict[str, int]]
    """Questionnaire canonical → linkId without leading slash → item index."""

    def threshold(self, rule: str, name: str) -> float:
        """Return a rule's threshold."""
        return self.rules[rule].thresholds[name].value

    @cached_property
    def codes_by_use(self) -> dict[Code, frozenset[str]]:
        """What each encounter code means; several uses are possible."""
        uses: dict[Code, set[str]] = {}
        for use in EncounterCodes.model_fields:
            for coding in getattr(self.encounters, use):
                uses.setdefault(coding.key, set()).add(use)
        return {code: frozenset(names) for code, names in uses.items()}
