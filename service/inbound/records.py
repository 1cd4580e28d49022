"""What comes in (a record, its source, the limits), and the one way in which it can be unreadable."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from service.domain.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from service.domain.facts import Code


HISTORY = "backfill:"
"""Before a source's id, in place of a topic: what no topic brought. Kafka's own names hold no colon."""


class Record(Value, frozen=True):
    """One Kafka message."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    """The broker's or producer's, with a zone."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What is known of the EHR that a record comes from."""

    id: str
    time_zone: ZoneInfo
    """Of times that carry none."""
    base: str | None = None
    """Its FHIR base URL."""
    key_types: Mapping[str, str] = field(default_factory=dict)
    """Resource type that a bare id means as the key of a record without value, by topic."""
    envelope: str | None = None
    """The only dialect that its records are in; None: told by content and headers."""
    answer_texts: Mapping[str, Code] = field(default_factory=dict)
    """Codes that answers in words stand for, by the words as `as_written` gives them; none: words are not read."""
    fhir_version: str = "R4"
    """Of the full model that its resources are held against, where they are."""
    enforces: bool = False
    """Whether what is ours and deviates from that model is parked."""
    searches_subjects: bool = False
    """Whether a patient who is named by identifier alone is searched for at `base`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one record may hold. Anything larger is not read."""

    bytes: int = 2_000_000
    """Of its value."""
    depth: int = 64
    """Levels of JSON nesting; a QuestionnaireResponse of four nested groups has about a dozen."""
    items: int = 10_000
    """Items of one QuestionnaireResponse, nested ones included."""
    entries: int = 5_000
    """Entries of one Bundle."""


class Reason(StrEnum):
    """Why something can't be read. The codes are stable: operators filter parked records by them."""

    EMPTY = "empty"
    TOO_LARGE = "too-large"
    TOO_DEEP = "too-deep"
    TOO_MANY_ITEMS = "too-many-items"
    TOO_MANY_ENTRIES = "too-many-entries"
    NOT_UTF8 = "not-utf8"
    NOT_JSON = "not-json"
    XML = "xml"
    BINARY_FORMAT = "binary-format"
    NOT_FHIR = "not-fhir"
    OLD_FHIR_VERSION = "old-fhir-version"
    UNKNOWN_ENVELOPE = "unknown-envelope"
    UNKNOWN_KEY = "unknown-key"
    UNKNOWN_ITEMS = "unknown-items"
    WRONG_TYPE = "wrong-type"
    NO_ID = "no-id"
    NO_SUBJECT = "no-subject"
    SUBJECT_NOT_A_PATIENT = "subject-not-a-patient"
    UNRESOLVED_SUBJECT = "unresolved-subject"
    FOREIGN_SUBJECT = "foreign-subject"
    BAD_STATUS = "bad-status"
    BAD_TIME = "bad-time"
    REFERENCE_ONLY = "reference-only"
    NO_FOCUS = "no-focus"
    UNRESOLVED_LINK = "unresolved-link"
    DUPLICATE_KEY = "duplicate-key"
    NOT_CONFORMANT = "not-conformant"
    FETCH_FORBIDDEN = "fetch-forbidden"
    FETCH_REFUSED = "fetch-refused"
    FETCHED_OTHER = "fetched-other"
    SUBJECT_NOT_FOUND = "subject-not-found"
    SUBJECT_AMBIGUOUS = "subject-ambiguous"

    @property
    def advice(self) -> str:
        """What is wrong and what to do, for whoever looks at the parked record."""
        return _ADVICE[self]


_ADVICE = {
    Reason.EMPTY: (
        "The value has no bytes, which is neither a resource nor a delete; have the sender write null to delete."
    ),
    Reason.TOO_LARGE: "The value is larger than limits.bytes; raise that limit, or have the sender split its Bundles.",
    Reason.TOO_DEEP: "The JSON nests deeper than limits.depth; raise that limit if this nesting is meant.",
    Reason.TOO_MANY_ITEMS: "The response has more items than limits.items; raise that limit if it is meant.",
    Reason.TOO_MANY_ENTRIES: (
        "The Bundle has more entries than limits.entries; raise that limit, or have the sender split its Bundles."
    ),
    Reason.NOT_UTF8: "The value is not UTF-8; have the sender write UTF-8.",
    Reason.NOT_JSON: "The value is not valid JSON; have the sender write FHIR resources as JSON.",
    Reason.XML: "The value is XML; have the sender write FHIR resources as JSON (application/fhir+json).",
    Reason.BINARY_FORMAT: (
        "The value is Avro or Protobuf, which is not read; have the sender, or its Kafka converter, write JSON."
    ),
    Reason.NOT_FHIR: "The JSON has no resourceType; look at what else writes to this topic.",
    Reason.OLD_FHIR_VERSION: "The resource has the shape of FHIR STU3 or DSTU2; have the sender write R4 or later.",
    Reason.UNKNOWN_ENVELOPE: (
        "The envelope is of no kind that this version opens, or not of the one that the source's `envelope` names; "
        "correct that setting, or retry it after an upgrade."
    ),
    Reason.UNKNOWN_KEY: (
        "A record without value deletes what its key names, and this key names no resource; "
        "have the sender write `Type/id`, or set the topic's resource_type."
    ),
    Reason.UNKNOWN_ITEMS: (
        "The questionnaire is an instrument, is named like one or asks one's items in another form, and none of its "
        "items is known; map its linkIds in "
        "the site's file under mappings/sites/, or name it there under other_questionnaires if it is none."
    ),
    Reason.WRONG_TYPE: "The element is not of the JSON type that FHIR gives it; have the sender correct it.",
    Reason.NO_ID: "The resource has no usable id; have the sender write the id that its server gave it.",
    Reason.NO_SUBJECT: "No patient is named; have the sender write the subject.",
    Reason.SUBJECT_NOT_A_PATIENT: "The subject is not a Patient; correct it in the EHR if it should be one.",
    Reason.UNRESOLVED_SUBJECT: (
        "The subject is named by an identifier, a contained resource or an unreadable reference; have the sender "
        "write `Patient/id`. Identifiers are searched for where the source's subjects_by_identifier says so."
    ),
    Reason.FOREIGN_SUBJECT: (
        "The subject is an address outside the source's fhir_base: another server's patient. Have the sender write "
        "`Patient/id`, or correct fhir_base if it is the same server."
    ),
    Reason.UNRESOLVED_LINK: (
        "The patient whom this one was merged with is named by no `Patient/id` of the source; have the sender write it."
    ),
    Reason.BAD_STATUS: "The status is missing or no code of FHIR's; have the sender write FHIR's code, in lower case.",
    Reason.BAD_TIME: "The time is not a FHIR date or dateTime; have the sender correct it.",
    Reason.REFERENCE_ONLY: (
        "The change names a resource without holding it; set the source's fhir_base, where it is fetched once this is "
        "retried, or have the sender include it."
    ),
    Reason.NO_FOCUS: (
        "The notification says that something changed and not what; set the content of the subscription to "
        "full-resource."
    ),
    Reason.DUPLICATE_KEY: (
        "A key stands twice in one JSON object, and which of the two counts can't be told; "
        "have the sender write it once."
    ),
    Reason.NOT_CONFORMANT: (
        "The resource deviates from FHIR there, and inbound.conformance is enforce; have the sender correct it, or set "
        "that to sample, which counts such resources and reads them."
    ),
    Reason.FETCH_FORBIDDEN: (
        "The EHR forbids to read what the change needs; give the source's user the right to read it, then retry."
    ),
    Reason.FETCH_REFUSED: (
        "The EHR refuses the question that the change needs answered; look at the source's fhir_base and at the EHR's "
        "own log, then retry."
    ),
    Reason.FETCHED_OTHER: (
        "The EHR answers with something else than what it was asked for; look at what is at the source's fhir_base, "
        "then retry."
    ),
    Reason.SUBJECT_NOT_FOUND: (
        "The EHR has no patient with the subject's identifier; have the sender write `Patient/id`, or retry once the "
        "patient is there."
    ),
    Reason.SUBJECT_AMBIGUOUS: (
        "The EHR has several patients with the subject's identifier; have them merged there, then retry."
    ),
}


class Unreadable(Exception):  # noqa: N818 - the project's word for it; it is returned as often as raised
    """A record, or one change in it, that can't be read as it is. Never holds a value from the data."""

    def __init__(self, reason: Reason, path: str | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path
        """FHIRPath-like path of the element, `Bundle.entry[3].resource.status`."""
        self.resource_type = ""
        """Of the resource, where the change that holds it could be told."""
        self.deviations: tuple[str, ...] = ()
        """Where the resource deviates from FHIR, if it is parked for that: paths from its type, without indices."""

    @property
    def code(self) -> str:
        """The stable reason code."""
        return self.reason.value

    @property
    def text(self) -> str:
        """What is wrong and what to do."""
        return self.reason.advice

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        return f"{self.code}{where}: {self.text}"
