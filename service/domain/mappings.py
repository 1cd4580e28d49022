"""The mapping files as typed values: what every code, number and text of a site means.

`parse` reads the files' bytes; it names file, key and problem when one is wrong.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from service.domain.codes import LOINC, SNOMED_CT, is_loinc, is_snomed_ct
from service.domain.course import Severity
from service.domain.facts import Code
from service.domain.forms import COURSE_FIELD, CourseField, FormMap, SiteForm, map_site_form, read_questionnaire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_M = TypeVar("_M", bound=BaseModel)


class MappingError(ValueError):
    """A mapping file is wrong; the message names file, key and problem."""


def _loinc(code: str) -> str:
    if not is_loinc(code):
        msg = f'"{code}" is not a LOINC code (check digit)'
        raise ValueError(msg)
    return code


Loinc = Annotated[str, AfterValidator(_loinc)]


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

    @property
    def count(self) -> int:
        """The value as a whole number, for thresholds that count."""
        return int(self.value)


class Coding(_Model):
    """A code that a mapping names, its check digit proven where its system has one."""

    system: str
    code: str
    display: str

    @model_validator(mode="after")
    def _check_digit(self) -> Self:
        if self.system == LOINC and not is_loinc(self.code):
            msg = f'"{self.code}" is not a LOINC code (check digit)'
            raise ValueError(msg)
        if self.system == SNOMED_CT and not is_snomed_ct(self.code):
            msg = f'"{self.code}" is not a SNOMED CT code (check digit)'
            raise ValueError(msg)
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
    answers: dict[str, int] | None = None
    """Scores of this item's answers where they differ from the instrument's."""


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
    answers: dict[str, int]
    """Score of each answer code, written `system|code`."""
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
        return tuple(max(scores.values()) for scores in self.item_scores)


def _scores(answers: dict[str, int]) -> dict[Code, int]:
    return {Code(*key.rsplit("|", 1)): score for key, score in answers.items()}


class SessionPlan(_Model):
    """How many sessions, how far apart."""

    default: Threshold
    """Stands in until a number is agreed with the patient."""
    minimum: Threshold
    maximum: Threshold
    interval: Threshold


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
    """When progress is reviewed."""

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


class SiteInstrument(_Model):
    """A site's own questionnaire for a known instrument."""

    questionnaires: tuple[str, ...] = ()
    link_ids: dict[str, int] = {}
    """The site's linkId to the number of the item, from 1."""


class Site(_Model):
    """What one site adds to the standard mappings."""

    same_practitioner: bool = True
    """A general psychotherapy encounter counts only if a practitioner of the course took part."""
    encounters: EncounterCodes = EncounterCodes()
    instruments: dict[str, SiteInstrument] = {}
    forms: tuple[SiteForm, ...] = ()


class _SourcesFile(_Model):
    sources: dict[str, Source]


class _RulesFile(_Model):
    rules: tuple[Rule, ...]


class _FocusAreasFile(_Model):
    areas: tuple[FocusAreaText, ...]


class _OtherInstruments(_Model):
    questionnaires: dict[str, str]


class _CodeSystemConcept(BaseModel):
    code: str
    display: str
    concept: tuple[_CodeSystemConcept, ...] = ()


class CodeSystem(BaseModel):
    """The part of one of our CodeSystems that the service itself reads."""

    url: str
    concept: tuple[_CodeSystemConcept, ...]

    def displays(self) -> dict[Code, str]:
        """Return the display of each code."""
        return {Code(self.url, concept.code): concept.display for concept in self._flat(self.concept)}

    def _flat(self, concepts: Iterable[_CodeSystemConcept]) -> Iterable[_CodeSystemConcept]:
        for concept in concepts:
            yield concept
            yield from self._flat(concept.concept)


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


def parse(files: Mapping[str, bytes], site: str | None = None) -> Mappings:
    """Return the mappings of a site from the files' bytes, by path relative to `mappings/`.

    `site` names a file of `sites/`, without its ending; None means the standard mappings alone.
    Raises MappingError.
    """
    sources = _toml(files, "sources.toml", _SourcesFile).sources
    instruments = [
        _toml(files, path, Instrument) for path in _under(files, "instruments/", skip="instruments/others.toml")
    ]
    protocols = [_toml(files, path, Protocol) for path in _under(files, "protocols/")]
    rules = _toml(files, "rules.toml", _RulesFile).rules
    areas = _toml(files, "focus-areas.toml", _FocusAreasFile).areas
    own = _toml(files, f"sites/{site}.toml", Site) if site else Site()
    encounters = _joined(_toml(files, "encounters.toml", EncounterCodes), own.encounters)
    displays: dict[Code, str] = {}
    for path in _under(files, "terminology/CodeSystem-", ending=".json"):
        displays |= _json(files, path, CodeSystem).displays()

    forms = {form.questionnaire: form for form in _forms(files, site, own, displays)}
    by_questionnaire = {url: instrument.id for instrument in instruments for url in instrument.questionnaires}
    site_link_ids: dict[str, dict[str, int]] = {}
    for instrument_id, addition in own.instruments.items():
        if instrument_id not in {instrument.id for instrument in instruments}:
            msg = f'mappings/sites/{site}.toml, instruments: "{instrument_id}" is not an instrument of mappings/instruments/.'
            raise MappingError(msg)
        for url in addition.questionnaires:
            by_questionnaire[url] = instrument_id
            site_link_ids[url] = {link.removeprefix("/"): number - 1 for link, number in addition.link_ids.items()}

    mappings = Mappings(
        digest=_digest(files, site),
        sources=sources,
        protocols={protocol.id: protocol for protocol in protocols},
        instruments={instrument.id: instrument for instrument in instruments},
        other_questionnaires=_toml(files, "instruments/others.toml", _OtherInstruments).questionnaires,
        focus_areas={area.code: area for area in areas},
        rules={rule.id: rule for rule in rules},
        encounters=encounters,
        forms=forms,
        displays=displays,
        same_practitioner=own.same_practitioner,
        instrument_by_questionnaire=by_questionnaire,
        site_link_ids=site_link_ids,
    )
    _check_references(mappings)
    return mappings


def _under(files: Mapping[str, bytes], prefix: str, ending: str = ".toml", skip: str = "") -> list[str]:
    found = sorted(path for path in files if path.startswith(prefix) and path.endswith(ending) and path != skip)
    if not found:
        msg = f"mappings/{prefix}: no file here; take the folder `mappings` of the release whole."
        raise MappingError(msg)
    return found


def _toml(files: Mapping[str, bytes], path: str, model: type[_M]) -> _M:
    return _validated(path, _loaded(files, path, lambda content: tomllib.loads(content.decode())), model)


def _json(files: Mapping[str, bytes], path: str, model: type[_M]) -> _M:
    return _validated(path, _loaded(files, path, json.loads), model)


def _loaded(files: Mapping[str, bytes], path: str, load: Callable[[bytes], Any]) -> Any:  # noqa: ANN401 - any TOML or JSON
    try:
        return load(files[path])
    except KeyError:
        msg = f"mappings/{path}: no such file."
        raise MappingError(msg) from None
    except ValueError as error:
        msg = f"mappings/{path}: {error}."
        raise MappingError(msg) from error


def _validated(path: str, content: object, model: type[_M]) -> _M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise MappingError(
            "\n".join(f"mappings/{path}{_place(p['loc'])}: {_problem(p['msg'])}." for p in problems)
        ) from None


def _place(location: tuple[str | int, ...]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f", {place.removeprefix('.')}" if place else ""


def _problem(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".")


def _joined(standard: EncounterCodes, own: EncounterCodes) -> EncounterCodes:
    return EncounterCodes(**{use: getattr(standard, use) + getattr(own, use) for use in EncounterCodes.model_fields})


def _forms(files: Mapping[str, bytes], site: str | None, own: Site, displays: Mapping[Code, str]) -> Iterator[FormMap]:
    for path in _under(files, "forms/", ending=".json"):
        questionnaire = _loaded(files, path, json.loads)
        try:
            yield read_questionnaire(questionnaire, displays)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"mappings/{path}: {error}."
            raise MappingError(msg) from error
    known = frozenset(code.code for code in displays)
    for place, form in enumerate(own.forms):
        try:
            yield map_site_form(form, known)
        except ValueError as error:
            msg = f"mappings/sites/{site}.toml, forms[{place}].{error}."
            raise MappingError(msg) from error


def _check_references(mappings: Mappings) -> None:
    """Every source that a mapping names exists, and so does every rule's, area's and task's code."""
    for where, source in _named_sources(mappings):
        if source not in mappings.sources:
            msg = f'mappings/{where}: "{source}" is not in mappings/sources.toml.'
            raise MappingError(msg)
    fields = {code.code for code in mappings.displays if code.system == COURSE_FIELD}
    if fields != set(CourseField):
        odd = ", ".join(sorted(fields ^ set(CourseField)))
        msg = f"mappings/terminology/CodeSystem-course-field.json, concept: differs from the fields that the service reads in {odd}."
        raise MappingError(msg)
    for protocol in mappings.protocols.values():
        for task in protocol.initial.tasks:
            if task not in fields:
                msg = f'mappings/protocols/{protocol.id}.toml, initial.tasks: "{task}" is not a course field.'
                raise MappingError(msg)


def _named_sources(mappings: Mappings) -> Iterator[tuple[str, str]]:
    named: dict[str, Iterable[tuple[str, BaseModel]]] = {
        "protocols/{}.toml": mappings.protocols.items(),
        "instruments/{}.toml": mappings.instruments.items(),
        "focus-areas.toml, {}": mappings.focus_areas.items(),
        "rules.toml, {}": mappings.rules.items(),
    }
    for where, models in named.items():
        for name, model in models:
            for key, value in _leaves(model.model_dump()):
                if key in {"source", "sources"}:
                    yield where.format(name), str(value)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - a dumped model
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _digest(files: Mapping[str, bytes], site: str | None) -> str:
    digest = hashlib.blake2b((site or "").encode(), digest_size=16)
    for path in sorted(files):
        digest.update(f"\0{path}\0{len(files[path])}\0".encode())
        digest.update(files[path])
    return digest.hexdigest()
