"""Readers: from a relevant change to a fact, minimised. Tolerant of how EHRs write; never a guess."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson
from msgspec.structs import astuple

from service.domain.facts import Fact, FactKey, OrderKey, ResponseReading
from service.inbound.changes import Operation
from service.inbound.encounters import read_encounter
from service.inbound.order import order_of
from service.inbound.patients import own_id, read_patient
from service.inbound.records import Reason, Unreadable
from service.inbound.references import patient_id
from service.inbound.responses import read_response
from service.inbound.tasks import read_task
from service.inbound.texts import with_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from service.domain.facts import Code, FromSource
    from service.inbound.changes import Change
    from service.inbound.records import SourceContext

_IN_WORDS = "words-"
"""Greater than any digest without it."""
_READERS: Mapping[str, Callable[..., tuple[FromSource, tuple[Code, ...]]]] = {
    "Encounter": read_encounter,
    "QuestionnaireResponse": read_response,
    "Task": read_task,
    "Patient": read_patient,
}


def read(change: Change, source: SourceContext, record_time: datetime) -> Fact:
    """Return the fact that a delete, or a created or updated resource of `READ_TYPES`, amounts to.

    A delete gives a marker. Raises Unreadable: no-id, old-fhir-version, wrong-type, bad-status,
    bad-time, no-subject, subject-not-a-patient, unresolved-subject, foreign-subject, unresolved-link, reference-only.
    """
    if not change.resource_id:
        raise Unreadable(Reason.NO_ID, f"{change.path}.id")
    key = FactKey(source.id, change.resource_type, change.resource_id)
    order = order_of(change, record_time, source.time_zone)
    if order.deleted or change.operation is Operation.MISSING:
        return Fact(key, order, patient_id=None, reading=None)
    if change.resource is None:
        raise Unreadable(Reason.REFERENCE_ONLY, change.path)
    resource = change.resource
    if source.answer_texts and change.resource_type == "QuestionnaireResponse":
        resource = with_codes(resource, source.answer_texts)
    reading, labels = _READERS[change.resource_type](resource, change.local, source.time_zone, change.path)
    if change.resource_type == "Patient":
        patient = own_id(resource, change.resource_id, change.path, source.base)
    else:
        patient = patient_id(resource, change.local, change.path, source.base)
    digest = _digest(reading, patient, labels)
    # What is read with a mapping for words takes the place of what the same version said without it.
    order = OrderKey(*order[:3], digest if resource is change.resource else f"{_IN_WORDS}{digest}")
    return Fact(key, order, patient, reading, labels)


def _digest(reading: FromSource, patient: str, labels: tuple[Code, ...]) -> str:
    """Hash everything that a fact says, so that two contents of one version never tie."""
    said = astuple(reading)
    if isinstance(reading, ResponseReading):
        *others, answers = said  # its last field
        said = others, [astuple(answer) for answer in answers]
    content = orjson.dumps((type(reading).__name__, patient, labels, said), default=tuple)
    return blake2b(content, digest_size=16).hexdigest()
