"""Facts: the newest known, minimised reading of each source resource, and how two of them merge."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - whoever asks a reading for the types of its fields needs it
from typing import NamedTuple

from service.domain.value import Value

UNVERSIONED = -1
"""`OrderKey.version` of a resource whose `meta.versionId` is absent or not a number."""


class Code(NamedTuple):
    """One coding without its display. `system` is empty where the sender named none."""

    system: str
    code: str


class PatientKey(NamedTuple):
    """A patient within a source; the unit of work."""

    source: str
    patient_id: str


class FactKey(NamedTuple):
    """Identity of a source resource; ids of different sources never meet."""

    source: str
    resource_type: str
    resource_id: str

    @property
    def reference(self) -> str:
        """The relative FHIR reference, `Encounter/e-1`."""
        return f"{self.resource_type}/{self.resource_id}"


class OrderKey(NamedTuple):
    """Which of two readings of one resource is newer. A total order, so that merging commutes.

    `last_updated` is in microseconds since the epoch: `meta.lastUpdated`, else the envelope's time,
    else the record's timestamp. `version` is the numeric `versionId`, else `UNVERSIONED`, which
    sorts first. At the same instant and version a delete wins; the digest decides the rest.
    """

    last_updated: int
    version: int
    deleted: bool
    digest: str


class EncounterReading(Value, frozen=True):
    """What an Encounter says that a course may need. Statuses are R4's, in lower case."""

    status: str
    types: tuple[Code, ...] = ()
    """Codings of `type` and `serviceType`."""
    classes: tuple[Code, ...] = ()
    reasons: tuple[Code, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    practitioners: tuple[str, ...] = ()
    """References such as `Practitioner/p-1`, sorted."""
    episodes: tuple[str, ...] = ()
    based_on: tuple[str, ...] = ()
    part_of: str | None = None
    conditions: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()


class Answer(Value, frozen=True):
    """One answered item. Text that is not a number is never kept."""

    link_id: str
    item_codes: tuple[Code, ...] = ()
    codes: tuple[Code, ...] = ()
    number: float | None = None
    """`valueInteger`, `valueDecimal`, `valueQuantity` or a `valueString` that is a number."""
    boolean: bool | None = None
    ordinal: float | None = None
    """The ordinal or item weight that the sender attached to a coded answer."""


class ResponseReading(Value, frozen=True):
    """What a QuestionnaireResponse says that a course may need."""

    status: str
    questionnaire: str = ""
    """Canonical without `|version`; empty where the sender named none."""
    authored: datetime | None = None
    encounter: str | None = None
    author: str | None = None
    answers: tuple[Answer, ...] = ()


class TaskReading(Value, frozen=True):
    """What became of a Task of a plan: how a clinician answered a finding."""

    status: str
    identifier: str = ""
    """Value of the identifier that the plan gave it; it names course and finding."""
    modified: datetime | None = None
    """`lastModified`."""
    owner: str | None = None
    """Reference such as `Practitioner/p-1`."""


class ActReading(Value, frozen=True):
    """What a clinician made of a resource of a plan at a destination, as the record there says."""

    status: str
    """FHIR's own code; where it is the plan's own again, there is nothing to tell any longer."""
    course: str
    """Id of the course whose plan it is of."""
    role: str
    """Which resource of that plan: "careplan", "goal/phq-9"."""
    destination: str
    at: datetime
    """When that version was written there."""
    version: str = ""
    """Its version there; empty where the server names none."""
    edited: tuple[str, ...] = ()
    """FHIR paths of elements in which they changed what is ours again and again, and it is left so: `Goal.target`."""


class PatientReading(Value, frozen=True):
    """Which other patients a Patient says to be the same person: ids in its source, sorted."""

    replaced_by: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """All of them."""
        return self.replaced_by + self.replaces


FromSource = EncounterReading | ResponseReading | TaskReading | PatientReading
"""What a resource of a source says."""
Reading = FromSource | ActReading


class Fact(Value, frozen=True):
    """The newest known reading of one source resource.

    `reading` is None for a marker: the resource was deleted, or its newest version is not ours.
    A delete names no patient: `patient_id` is None then.
    """

    key: FactKey
    order: OrderKey
    patient_id: str | None
    reading: Reading | None
    labels: tuple[Code, ...] = ()
    """`meta.security`, sorted."""


def merge(old: Fact | None, new: Fact) -> Fact:
    """Return the newer of two readings of one resource: commutative, associative, idempotent.

    Raises ValueError if the two are readings of different resources.
    """
    if old is None:
        return new
    if old.key != new.key:
        msg = "only readings of the same resource can be merged"
        raise ValueError(msg)
    return new if new.order > old.order else old
