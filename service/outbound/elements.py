"""FHIR elements that the resources of a plan are made of, as plain JSON values."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.meta import Meta
from fhir.resources.R4B.narrative import Narrative

from service.domain.evidence import PLAN_ROLE
from service.domain.forms import COURSES, FHIR_BASE
from service.outbound.validity import shared
from service.outbound.wording import clean, display, own, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from service.domain.course import Course, Finding, FocusArea
    from service.domain.mappings import Mappings

Element = dict[str, Any]
"""A FHIR element or resource as JSON."""

XHTML = "http://www.w3.org/1999/xhtml"
COURSE_IDENTIFIER = COURSES
"""System of the business identifier that every resource of a plan carries."""
AUTHOR = "IPT Bridge"
"""`authorString` of the annotations that we write."""
CAREPLAN = PLAN_ROLE
"""Role of the CarePlan among a plan's resources."""

SHARED = 1024  # elements of each sort that plans share: more than a site has in use, and nothing of one patient
_MINUTE = timedelta(minutes=1)


def concept(mappings: Mappings, system: str, code: str) -> Element:
    """Return a CodeableConcept of a code of our CodeSystem `system`; plans share it."""
    return coded(coding_of(mappings, system, code))


def coding_of(mappings: Mappings, system: str, code: str) -> tuple[str, str, str]:
    """Return system, code and display of a code of our CodeSystem `system`."""
    return own(system), code, display(mappings, system, code)


@lru_cache(SHARED)
def coded(*codings: tuple[str, str, str]) -> Element:
    """Return a CodeableConcept of codings, each a system, a code and a display; plans share it."""
    coding = [{"system": system, "code": code, "display": words} for system, code, words in codings]
    return shared(CodeableConcept, {"coding": coding})


@cache
def source_uri(source: str) -> str:
    """Return the URI that names a source."""
    return f"{FHIR_BASE}/source/{quote(source, safe='')}"


def identifier(course: Course, role: str) -> Element:
    """Return the business identifier of the resource that plays `role` in the course's plan."""
    return {"system": COURSE_IDENTIFIER, "value": course.id if role == CAREPLAN else f"{course.id}/{role}"}


def meta(course: Course, mappings: Mappings, part: str) -> Element:
    """Return the meta of a resource: where it comes from, what it is of a plan, and all labels of the course.

    `source` and `tag` tell a reader of the EHR's events that the resource is our own echo. No profile
    is claimed: a server that has not loaded US Core refuses a resource that claims it. Without labels plans share it.
    """
    unlabelled = _meta(course.source, part, display(mappings, "plan-part", part))
    if not course.labels:
        return unlabelled
    security = [
        {"system": label.system, "code": label.code} if label.system else {"code": label.code}
        for label in course.labels
    ]
    return unlabelled | {"security": security}


@lru_cache(SHARED)
def _meta(source: str, part: str, words: str) -> Element:
    tag = {"system": own("plan-part"), "code": part, "display": words}
    return shared(Meta, {"source": source_uri(source), "tag": [tag]})


def text(status: str, content: str) -> Element:
    """Return a Narrative of XHTML content that is already escaped."""
    return {"status": status, "div": f'<div xmlns="{XHTML}">{content}</div>'}


def paragraphs(*said: str) -> Element:
    """Return a Narrative of paragraphs in plain words."""
    return text("generated", "".join(f"<p>{html.escape(clean(words))}</p>" for words in said))


@lru_cache(SHARED)
def usual_paragraphs(*said: str) -> Element:
    """Return the same of words that say nothing of one patient; plans share it."""
    return shared(Narrative, paragraphs(*said))


_IDENTIFIER = "?identifier="


def references(targets: Iterable[str]) -> list[Element]:
    """Return one Reference for each relative reference, by identifier for `Type?identifier=system|value`."""
    return [_by_identifier(target) if _IDENTIFIER in target else {"reference": target} for target in targets]


def _by_identifier(target: str) -> Element:
    system, _, value = target.partition(_IDENTIFIER)[2].partition("|")
    return {"identifier": {"system": system, "value": value} if system else {"value": value}}


def instant(value: datetime) -> str:
    """Return a FHIR dateTime to the second, in the offset it was recorded in."""
    offset = value.utcoffset()
    if offset is None or offset % _MINUTE:
        # FHIR writes offsets in whole minutes; historic offsets of some zones have seconds.
        value = value.astimezone(UTC) if offset is not None else value.replace(tzinfo=UTC)
    return value.isoformat(timespec="seconds")


def extension(name: str, **value: object) -> Element:
    """Return an Extension of ours with one value, named as FHIR names it (`valueString=…`)."""
    return {"url": our_extension(name), **value}


@cache
def our_extension(name: str) -> str:
    """Return the URL of an extension of ours."""
    return f"{FHIR_BASE}/StructureDefinition/{name}"


def with_code(url: str, mappings: Mappings, system: str, code: str) -> Element:
    """Return an Extension whose value is a concept of ours; plans share it."""
    return _with_code(url, coding_of(mappings, system, code))


@lru_cache(SHARED)
def _with_code(url: str, coding: tuple[str, str, str]) -> Element:
    return shared(Extension, {"url": url, "valueCodeableConcept": coded(coding)})


@lru_cache(SHARED, typed=True)
def with_value(url: str, name: str, value: int) -> Element:
    """Return an Extension whose value is a small number, or whether something is so; plans share it."""
    return shared(Extension, {"url": url, name: value})


def focus_area(mappings: Mappings, area: FocusArea) -> Element:
    """Return the focus-area extension."""
    parts: list[Element] = [
        with_code("area", mappings, "focus-area", area.area),
        with_value("primary", "valueBoolean", area.primary),
        {"url": "since", "valueDate": area.since.isoformat()},
    ]
    if area.stage:
        parts.append(with_code("stage", mappings, "dispute-stage", area.stage))
    return extension("focus-area", extension=parts)


def _finding(mappings: Mappings, found: Finding, said: str) -> Element:
    """Return the finding extension: the rule, how urgent, where it stands, the sentence and what it rests on."""
    parts: list[Element] = [
        with_code("rule", mappings, "finding-rule", found.rule),
        with_value("version", "valuePositiveInt", found.version),
        with_code("severity", mappings, "finding-severity", found.severity.value),
        with_code("state", mappings, "finding-state", found.state.value),
        {"url": "raised", "valueDate": found.raised.isoformat()},
    ]
    if found.due is not None:
        parts.append({"url": "due", "valueDate": found.due.isoformat()})
    parts.append({"url": "sentence", "valueString": said})
    parts += [{"url": "evidence", "valueReference": {"reference": fact}} for fact in found.facts]
    return extension("finding", extension=parts)


@dataclass(frozen=True, slots=True)
class Told:
    """What a plan tells of one finding, wherever it does: made once, and changed by nobody."""

    sentence: str
    extension: Element


def findings(course: Course, mappings: Mappings) -> dict[str, Told]:
    """Return what is told of each finding of a course, by the finding's id."""
    return {found.id: _told(mappings, found) for found in course.findings}


def _told(mappings: Mappings, found: Finding) -> Told:
    said = sentence(found, mappings)
    return Told(said, _finding(mappings, found, said))


def every_reference(value: object) -> Iterator[str]:
    """Yield what each Reference in a resource refers to, in order: relative, absolute or contained (`#id`)."""
    if isinstance(value, Mapping):
        if isinstance(reference := value.get("reference"), str):
            yield reference
        for inner in value.values():
            yield from every_reference(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every_reference(inner)
