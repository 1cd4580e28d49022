"""The forms that a course is documented with: which item of a questionnaire is which course field."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from service.domain.codes import read_code
from service.domain.facts import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FHIR_BASE = "https://ipt-bridge.org/fhir"
"""Canonical base of our own definitions."""
COURSES = f"{FHIR_BASE}/course"
"""System of the business identifier that every resource of a plan carries; it names course and role."""
COURSE_FIELD = f"{FHIR_BASE}/CodeSystem/course-field"
FORM_KIND = f"{FHIR_BASE}/CodeSystem/form-kind"


class FormKind(StrEnum):
    """Which of the three forms a questionnaire is; the codes of our form-kind CodeSystem."""

    ASSESSMENT = "assessment"
    SESSION = "session"
    ENDING = "ending"


class CourseField(StrEnum):
    """What a form item documents; the codes of our course-field CodeSystem."""

    DIAGNOSIS = "diagnosis-documented"
    INVENTORY = "interpersonal-inventory"
    PRIMARY_FOCUS = "primary-focus-area"
    SECONDARY_FOCUS = "secondary-focus-area"
    DISPUTE_STAGE = "dispute-stage"
    FORMULATION = "formulation"
    AGREEMENT = "agreement"
    PLANNED_SESSIONS = "planned-sessions"
    GOAL = "goal"
    WORKED_ON = "worked-on"
    PHASE_TASK = "phase-task"
    PATTERN = "pattern"
    TECHNIQUE = "technique"
    COPING = "coping-strategy"
    NEXT_STEP = "next-step"
    GAIN = "gain"
    RELAPSE_PREVENTION = "relapse-prevention-plan"
    DECISION = "decision"
    PROTOCOL = "protocol"
    AGE = "age"
    SEX = "administrative-sex"
    EXCLUSION = "exclusion"
    STOPPED_BECAUSE = "stopped-because"
    PATTERN_EFFECT = "pattern-effect"
    TECHNIQUE_AT_HOME = "technique-at-home"
    MALADAPTIVE_COPING = "maladaptive-coping"
    COPING_TREND = "coping-trend"
    USE_SINCE_LAST = "use-since-last"
    ADDICTION_CARE = "addiction-care"
    FUNCTION = "function"
    COMMUNICATION = "communication"
    SUPPORT = "support"


COUNTED = frozenset({CourseField.PLANNED_SESSIONS, CourseField.AGE})
"""Fields whose answer is a whole number above zero; the others are coded, or ticked."""


@dataclass(frozen=True, slots=True)
class FormMap:
    """How to read the answers of one questionnaire."""

    questionnaire: str
    kind: FormKind
    fields: dict[str, CourseField]
    """By linkId, without leading slash."""
    values: dict[Code, str]
    """The code of ours that an answer code stands for."""


class SiteForm(BaseModel):
    """A table that maps a site's own form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questionnaire: str
    kind: FormKind
    items: dict[str, CourseField]
    """The site's linkId to the course field."""
    answers: dict[str, str] = {}
    """The site's answer code, written `system|code`, to the code of ours."""


def read_questionnaire(questionnaire: Mapping[str, Any], displays: Mapping[Code, str]) -> FormMap:
    """Return the map of a FHIR Questionnaire whose items carry course-field codes.

    Raises ValueError if it has no canonical or form kind, or names a field or an answer that our
    CodeSystems don't know.
    """
    kinds = [code.code for code in _codings(questionnaire.get("code", ())) if code.system == FORM_KIND]
    if len(kinds) != 1 or kinds[0] not in set(FormKind) or not questionnaire.get("url"):
        msg = f"a form needs a url and one code of {FORM_KIND}: {', '.join(FormKind)}"
        raise ValueError(msg)
    fields: dict[str, CourseField] = {}
    values: dict[Code, str] = {}
    for item in _items(questionnaire):
        named = [code.code for code in _codings(item.get("code", ())) if code.system == COURSE_FIELD]
        if len(named) > 1:
            msg = f"item {item['linkId']}: one course-field code at the most"
            raise ValueError(msg)
        if named and named[0] not in set(CourseField):
            msg = f'item {item["linkId"]}: "{named[0]}" is not a course field'
            raise ValueError(msg)
        if named:
            fields[str(item["linkId"]).removeprefix("/")] = CourseField(named[0])
        for option in item.get("answerOption", ()):
            for code in _codings([option["valueCoding"]] if "valueCoding" in option else ()):
                if code not in displays:
                    msg = f'item {item["linkId"]}: answer "{code.code}" is in none of our CodeSystems'
                    raise ValueError(msg)
                values[code] = code.code
    return FormMap(str(questionnaire["url"]), FormKind(kinds[0]), fields, values)


def map_site_form(form: SiteForm, known: frozenset[str]) -> FormMap:
    """Return the map of a site's own form; `known` are the codes of our CodeSystems.

    Raises ValueError if an answer is no code or is mapped to a code that is none of ours.
    """
    values: dict[Code, str] = {}
    for written, code in form.answers.items():
        if code not in known:
            msg = f'answers: "{code}" is in none of our CodeSystems'
            raise ValueError(msg)
        try:
            values[read_code(written)] = code
        except ValueError as error:
            msg = f"answers: {error}"
            raise ValueError(msg) from error
    fields = {link_id.removeprefix("/"): field for link_id, field in form.items.items()}
    return FormMap(form.questionnaire, form.kind, fields, values)


def _codings(codings: Any) -> Iterator[Code]:  # noqa: ANN401 - raw JSON of a Questionnaire
    for coding in codings:
        yield Code(str(coding.get("system", "")), str(coding["code"]))


def _items(parent: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for item in parent.get("item", ()):
        yield item
        yield from _items(item)
