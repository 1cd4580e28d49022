"""The course record: one IPT treatment of one patient, as projected from that patient's facts.

Field order is the canonical order: a course's state is the JSON of these values as they stand.
"""

from __future__ import annotations

from datetime import date, datetime  # noqa: TC003 - pydantic reads these annotations when a stored state is loaded
from enum import StrEnum
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING

from service.domain.facts import Code  # noqa: TC001 - pydantic reads it when a stored state is loaded
from service.domain.value import Value

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    from service.domain.facts import PatientKey

COURSE_NAMESPACE = "5b0f5d0c-6f0e-5c3f-9a4e-6a8f3b8f1c55"
"""UUIDv5 namespace of every id that a course gives rise to."""


class Phase(StrEnum):
    """Where a course stands. Never moved by a score."""

    ASSESSMENT_PENDING = "assessment-pending"
    INITIAL = "initial"
    MIDDLE = "middle"
    ENDING = "ending"
    MAINTENANCE = "maintenance"
    CLOSED = "closed"


class SessionState(StrEnum):
    """What became of a session. Only held ones count."""

    PLANNED = "planned"
    IN_PROGRESS = "in-progress"
    HELD = "held"
    CANCELLED = "cancelled"
    NO_SHOW = "no-show"
    UNRECORDED = "unrecorded"
    """Planned for a time that has passed, and nothing was heard since."""


class SessionKind(StrEnum):
    """What sort of contact an encounter of the course was."""

    SESSION = "session"
    PREPARATION = "preparation"
    """A meeting before the first session that the protocol asks for and does not count."""
    ASSESSMENT = "assessment"
    CRISIS = "crisis"


class Severity(StrEnum):
    """How soon a finding needs a person: at once, by its due date, or for information."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class FindingState(StrEnum):
    """Whether a finding still asks for something."""

    OPEN = "open"
    ANSWERED = "answered"
    """A clinician has dealt with it; what gave rise to it still holds."""
    CLOSED = "closed"
    """What gave rise to it no longer holds."""


class Sex(StrEnum):
    """Administrative sex, FHIR's own codes: some instruments' cut-offs depend on it."""

    FEMALE = "female"
    MALE = "male"
    OTHER = "other"
    UNKNOWN = "unknown"


class Caseness(StrEnum):
    """Whether a total lies in the clinical range."""

    CASE = "case"
    NO_CASE = "no-case"
    UNDETERMINED = "undetermined"
    """The cut-off depends on something that is not known."""


class Classification(StrEnum):
    """How a course turned out, by its measures."""

    REMISSION = "remission"
    RESPONSE = "response"
    PARTIAL_RESPONSE = "partial-response"
    NON_RESPONSE = "non-response"


class ChosenBy(StrEnum):
    """What chose a course's protocol."""

    FORM = "form"
    SITE = "site"
    DEFAULT = "default"


class Decision(StrEnum):
    """What the ending form says comes next."""

    END = "end"
    CONTINUE = "continue"
    MAINTENANCE = "maintenance"


class Session(Value, frozen=True):
    """One meeting of a course."""

    state: SessionState
    kind: SessionKind
    start: datetime
    number: int | None
    """Place among the held sessions from 1; None if not held, or no session of the protocol."""
    phase: Phase | None
    """The phase in which it was held; None if not held."""
    minutes: int | None
    encounters: tuple[str, ...]
    """Encounter ids in the source, the one that counts first; empty if only a form tells of it."""
    forms: tuple[str, ...]
    """Ids of the session forms that tell of it."""
    telehealth: bool
    group: bool
    worked_on: tuple[str, ...]
    """Focus area codes."""
    patterns: tuple[str, ...]
    techniques: tuple[str, ...]
    coping: tuple[str, ...]
    next_steps: tuple[str, ...]
    effects: tuple[str, ...] = ()
    """What the patterns do to emotion and behaviour."""
    techniques_at_home: tuple[str, ...] = ()
    maladaptive_coping: tuple[str, ...] = ()
    coping_trend: str | None = None
    """How much the patient relied on maladaptive coping, against the session before."""
    use_since_last: str | None = None
    """Substance use since the session before."""
    addiction_care: str | None = None
    """How the concurrent care for it stands."""
    after_end: bool = False
    """Held after the course had ended: shown, never counted."""


class Measure(Value, frozen=True):
    """One scored instrument at one time."""

    instrument: str
    taken: datetime
    total: int | None
    """Recomputed from the items; None while an item is missing."""
    stated_total: float | None
    items: tuple[int | None, ...]
    """Score of each item in the instrument's order."""
    band: str | None
    safety: int | None
    """Score of the item that asks about self-harm; None if unanswered or the instrument has none."""
    safety_unanswered: bool
    contradicted: tuple[int, ...]
    """Numbers of items whose stated score contradicts their coded answer (the code decides)."""
    fact: str
    """`QuestionnaireResponse/id`."""


class Documented(Value, frozen=True):
    """A task of a phase, or a milestone of the process, and when it was first documented."""

    task: str
    on: date
    fact: str


class FocusArea(Value, frozen=True):
    """A focus area of the formulation."""

    area: str
    primary: bool
    since: date
    stage: str | None
    """Of a dispute: renegotiation, impasse or dissolution."""
    fact: str


class PatientGoal(Value, frozen=True):
    """One of the patient's own goals, as coded on a form."""

    goal: str
    since: date
    fact: str


class Change(Value, frozen=True):
    """An instrument's first and latest totals of a course, and what lies between them."""

    instrument: str
    first: int
    latest: int
    first_on: date
    latest_on: date
    reliable: int
    """-1 reliably improved (lower), 1 reliably worse, 0 neither."""
    percent: int
    """Improvement on the first total in whole percent, rounded down; negative if worse."""
    first_fact: str
    latest_fact: str
    first_case: Caseness | None = None
    """Whether the first and the latest total are a case; None if the instrument knows no cases."""
    latest_case: Caseness | None = None
    reliable_since: date | None = None
    """When the change that `reliable` tells of was first measured, and has held since."""


class Answered(Value, frozen=True):
    """How a clinician dealt with a finding: by its Task, completed, or by what another fact tells.

    The plan itself ends a Task as `cancelled`, never as `completed`: read back, its own word would pass for a
    clinician's.
    """

    on: date
    by: str | None
    """Relative reference, where the answer names somebody."""
    fact: str


class Finding(Value, frozen=True):
    """What a rule says of a course, with what it rests on. Never a decision."""

    id: str
    """Within its course: the rule, and what tells its findings apart, `safety.self-harm-item/…`."""
    rule: str
    version: int
    severity: Severity
    raised: date
    due: date | None
    values: tuple[tuple[str, str | int | float], ...]
    """Named values that the finding rests on, in the rule's order; for the sentence that a person reads."""
    facts: tuple[str, ...]
    source: str
    """Key into the mappings' published sources."""
    state: FindingState = FindingState.OPEN
    answered: Answered | None = None
    closed: date | None = None
    """When what gave rise to it was first seen to hold no longer."""


class Ending(Value, frozen=True):
    """What an ending form said."""

    on: date
    decision: Decision
    gains: tuple[str, ...]
    relapse_prevention_plan: bool
    fact: str
    stopped_because: str | None = None
    """Why the treatment stopped before its planned end."""


class Outcome(Value, frozen=True):
    """How a course turned out, and what follows for a clinician to decide."""

    on: date
    classification: Classification
    proposal: Decision
    instrument: str
    """The measure that it goes by."""
    facts: tuple[str, ...]


class ProtocolSpan(Value, frozen=True):
    """A protocol that a course follows, until the next one begins."""

    protocol: str
    since: date
    by: ChosenBy
    fact: str | None = None
    """What names it; None for the default."""


class FocusSpan(Value, frozen=True):
    """A focus area in one rank and stage, while it held."""

    area: str
    primary: bool
    since: date
    until: date | None
    """None for the current ones."""
    stage: str | None
    fact: str


class PlannedSession(Value, frozen=True):
    """A session that remains, aimed at an area and a goal of the patient."""

    number: int
    on: date
    """The day it is booked for, else the day that the protocol's interval leads to."""
    area: str | None = None
    goal: str | None = None
    encounter: str | None = None
    """Encounter id of the booking."""


class WellBeing(Value, frozen=True):
    """One aspect of life as the forms first and latest rate it: function, communication or support."""

    aspect: str
    first: str
    latest: str
    first_on: date
    latest_on: date
    first_fact: str
    latest_fact: str


class Course(Value, frozen=True):
    """One IPT treatment of one patient."""

    id: str
    source: str
    patient_id: str
    anchor: str
    """What names the course: `EpisodeOfCare/id`, else the earliest explicit IPT fact's reference."""
    protocol: str
    phase: Phase
    opened: date
    closed: date | None
    planned_sessions: int
    planned_sessions_agreed: bool
    """False while the protocol's default stands in for a number agreed with the patient."""
    held: int
    sessions: tuple[Session, ...]
    """By start; held ones numbered."""
    documented: tuple[Documented, ...]
    focus_areas: tuple[FocusArea, ...]
    """The current ones, primary first."""
    goals: tuple[PatientGoal, ...]
    measures: tuple[Measure, ...]
    """By time taken."""
    changes: tuple[Change, ...]
    ending: Ending | None
    findings: tuple[Finding, ...]
    """By severity, then date."""
    projected_end: date | None
    """The last planned session's date if the rest keep the protocol's interval; None if closed."""
    practitioners: tuple[str, ...]
    """`Practitioner/id` of those who held sessions or wrote its forms, sorted."""
    conditions: tuple[str, ...]
    """`Condition/id` that its encounters address, sorted."""
    encounters: int
    """How many encounter facts and how many questionnaire facts the course rests on."""
    responses: int
    labels: tuple[Code, ...]
    """Security labels of its facts and of its source, sorted: every output carries them all."""
    latest: datetime | None = None
    """The newest instant at which something that the course rests on was held, taken or written."""
    protocols: tuple[ProtocolSpan, ...] = ()
    """The protocols that it has followed, the current one last."""
    follows: str | None = None
    """Id of the finished course that this one follows."""
    sex: Sex | None = None
    age: int | None = None
    """In years, as the latest form has it."""
    exclusions: tuple[Documented, ...] = ()
    """What the forms name that speaks against its protocol."""
    focus_history: tuple[FocusSpan, ...] = ()
    """By beginning."""
    planned: tuple[PlannedSession, ...] = ()
    """The sessions that remain, by number."""
    well_being: tuple[WellBeing, ...] = ()
    outcome: Outcome | None = None

    @property
    def patient(self) -> str:
        """The relative FHIR reference of the patient."""
        return f"Patient/{self.patient_id}"

    def resource_id(self, role: str) -> str:
        """Id of the resource that plays `role` ("careplan", "goal/phq-9") in this course's plan."""
        return uuid5(self.id, role)


class Projection(Value, frozen=True):
    """All courses of one patient at one instant."""

    patient: PatientKey
    as_of: datetime
    courses: tuple[Course, ...]
    """By opening date."""
    next_due: datetime | None
    """When the result would next change with no new fact; None if never."""


def course_id(patient: PatientKey, anchor: str) -> str:
    """Return the UUIDv5 that names the course with this anchor."""
    return uuid5(COURSE_NAMESPACE, "\x1f".join((*patient, anchor)))


def uuid5(namespace: str, name: str) -> str:
    """Return the text of the UUIDv5 of a name within a namespace, itself a UUID's text (RFC 9562, section 5.5).

    The same as `uuid.uuid5`, which takes ten times as long over objects that are only written out.
    """
    hashed = _hashed(namespace).copy()
    hashed.update(name.encode())
    text = hashed.hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


_VARIANT = {digit: f"{int(digit, 16) & 0x3 | 0x8:x}" for digit in "0123456789abcdef"}
"""A hexadecimal digit with its two upper bits set to the variant of RFC 9562."""


@lru_cache(1024)
def _hashed(namespace: str) -> Hash:
    """Return the hash of a namespace, for names to be added to a copy of it: a plan has some thirty in one."""
    return sha1(bytes.fromhex(namespace.replace("-", "")), usedforsecurity=False)
