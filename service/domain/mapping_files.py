"""From the bytes of the mapping files to typed mappings, with file, key and problem named when one is wrong."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from service.domain.course import Decision, Phase, SessionKind, SessionState, Severity
from service.domain.facts import Code
from service.domain.forms import (
    FHIR_BASE,
    CourseField,
    FormKind,
    FormMap,
    SiteForm,
    map_site_form,
    read_questionnaire,
)
from service.domain.mappings import (
    EncounterCodes,
    FocusAreaText,
    Instrument,
    MappingError,
    Mappings,
    Protocol,
    Rule,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_M = TypeVar("_M", bound=BaseModel)
_OTHER_QUESTIONNAIRES = "instruments/others.toml"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


class _Concept(BaseModel):
    code: str
    display: str


class CodeSystem(BaseModel):
    """The part of one of our CodeSystems that the service itself reads."""

    url: str
    concept: tuple[_Concept, ...]

    def displays(self) -> dict[Code, str]:
        """Return the display of each code."""
        return {Code(self.url, concept.code): concept.display for concept in self.concept}


def parse(files: Mapping[str, bytes], site: str | None = None) -> Mappings:
    """Return the mappings of a site from the files' bytes, by path relative to `mappings/`.

    `site` names a file of `sites/`, without its ending; None means the standard mappings alone.
    Raises MappingError.
    """
    site_file = f"sites/{site}.toml"
    own = _toml(files, site_file, Site) if site else Site()
    displays: dict[Code, str] = {}
    for path in _under(files, "terminology/CodeSystem-", ending=".json"):
        displays |= _validated(path, _loaded(files, path, json.loads), CodeSystem).displays()
    instruments = _named_by_file(files, _under(files, "instruments/", skip=_OTHER_QUESTIONNAIRES), Instrument)
    by_questionnaire = {url: name for name, instrument in instruments.items() for url in instrument.questionnaires}
    site_link_ids: dict[str, dict[str, int]] = {}
    for name, addition in own.instruments.items():
        link_ids = _site_items(f"{site_file}, instruments", name, addition, instruments)
        by_questionnaire |= dict.fromkeys(addition.questionnaires, name)
        site_link_ids |= dict.fromkeys(addition.questionnaires, link_ids)
    mappings = Mappings(
        digest=_digest(files, site_file),
        sources=_toml(files, "sources.toml", _SourcesFile).sources,
        protocols=_named_by_file(files, _under(files, "protocols/"), Protocol),
        instruments=instruments,
        other_questionnaires=_toml(files, _OTHER_QUESTIONNAIRES, _OtherInstruments).questionnaires,
        focus_areas=_unique(
            "focus-areas.toml", ((area.code, area) for area in _toml(files, "focus-areas.toml", _FocusAreasFile).areas)
        ),
        rules=_unique("rules.toml", ((rule.id, rule) for rule in _toml(files, "rules.toml", _RulesFile).rules)),
        encounters=_joined(_toml(files, "encounters.toml", EncounterCodes), own.encounters),
        forms={
            form.questionnaire: form
            for form in (*_forms(files, displays), *_site_forms(site_file, own, displays, by_questionnaire))
        },
        displays=displays,
        same_practitioner=own.same_practitioner,
        instrument_by_questionnaire=by_questionnaire,
        site_link_ids=site_link_ids,
    )
    _check_sources(mappings)
    _check_codes(mappings)
    return mappings


def _under(files: Mapping[str, bytes], prefix: str, ending: str = ".toml", skip: str = "") -> list[str]:
    found = sorted(path for path in files if path.startswith(prefix) and path.endswith(ending) and path != skip)
    if not found:
        msg = f"mappings/{prefix}: no file here; take the folder `mappings` of the release whole."
        raise MappingError(msg)
    return found


def _toml(files: Mapping[str, bytes], path: str, model: type[_M]) -> _M:
    return _validated(path, _loaded(files, path, lambda content: tomllib.loads(content.decode())), model)


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
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]")
    return f", {place.removeprefix('.')}" if place else ""


def _problem(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".")


def _named_by_file(files: Mapping[str, bytes], paths: Iterable[str], model: type[_M]) -> dict[str, _M]:
    found: dict[str, _M] = {}
    for path in paths:
        value = _toml(files, path, model)
        name = PurePosixPath(path).stem
        if (own := getattr(value, "id", name)) != name:
            msg = f'mappings/{path}, id: "{own}" must be the name of the file, "{name}".'
            raise MappingError(msg)
        found[name] = value
    return found


def _unique(path: str, named: Iterable[tuple[str, _M]]) -> dict[str, _M]:
    found: dict[str, _M] = {}
    for name, value in named:
        if name in found:
            msg = f'mappings/{path}: "{name}" is there twice.'
            raise MappingError(msg)
        found[name] = value
    return found


def _joined(standard: EncounterCodes, own: EncounterCodes) -> EncounterCodes:
    return EncounterCodes(**{use: getattr(standard, use) + getattr(own, use) for use in EncounterCodes.model_fields})


def _site_items(
    where: str, name: str, addition: SiteInstrument, instruments: Mapping[str, Instrument]
) -> dict[str, int]:
    """Return the index of the item that each linkId of the site's questionnaire names."""
    if name not in instruments:
        msg = f'mappings/{where}: "{name}" is not an instrument of mappings/instruments/.'
        raise MappingError(msg)
    count = len(instruments[name].items)
    for link_id, number in addition.link_ids.items():
        if not 1 <= number <= count:
            msg = f"mappings/{where}.{name}.link_ids.{link_id}: items of {name} are numbered from 1 to {count}."
            raise MappingError(msg)
    return {link_id.removeprefix("/"): number - 1 for link_id, number in addition.link_ids.items()}


def _forms(files: Mapping[str, bytes], displays: Mapping[Code, str]) -> Iterator[FormMap]:
    for path in _under(files, "forms/", ending=".json"):
        questionnaire = _loaded(files, path, json.loads)
        try:
            yield read_questionnaire(questionnaire, displays)
        except KeyError as error:
            msg = f"mappings/{path}: an item, code or answer lacks {error}."
            raise MappingError(msg) from None
        except (AttributeError, TypeError):
            msg = f"mappings/{path}: not a FHIR Questionnaire."
            raise MappingError(msg) from None
        except ValueError as error:
            msg = f"mappings/{path}: {error}."
            raise MappingError(msg) from error


def _site_forms(
    path: str, own: Site, displays: Mapping[Code, str], by_questionnaire: Mapping[str, str]
) -> Iterator[FormMap]:
    known = frozenset(code.code for code in displays)
    for place, form in enumerate(own.forms):
        if form.questionnaire in by_questionnaire:
            msg = f"mappings/{path}, forms[{place}].questionnaire: is an instrument's too; name it once."
            raise MappingError(msg)
        try:
            yield map_site_form(form, known)
        except ValueError as error:
            msg = f"mappings/{path}, forms[{place}].{error}."
            raise MappingError(msg) from error


def _check_codes(mappings: Mappings) -> None:
    """Our CodeSystems hold the very codes that the service, the rules and the focus areas name."""
    known: dict[str, tuple[str, Iterable[str]]] = {
        "course-field": ("the service's course fields", CourseField),
        "form-kind": ("the service's kinds of form", FormKind),
        "phase": ("the service's phases", Phase),
        "session-state": ("the service's session states", SessionState),
        "session-kind": ("the service's kinds of contact", SessionKind),
        "decision": ("the service's decisions", Decision),
        "finding-severity": ("the service's severities", Severity),
        "focus-area": ("mappings/focus-areas.toml", mappings.focus_areas),
        "finding-rule": ("mappings/rules.toml", mappings.rules),
    }
    for name, (what, codes) in known.items():
        system = f"{FHIR_BASE}/CodeSystem/{name}"
        differing = {code.code for code in mappings.displays if code.system == system} ^ set(codes)
        if differing:
            odd = ", ".join(sorted(differing))
            msg = f"mappings/terminology/CodeSystem-{name}.json, concept: differs from {what} in {odd}."
            raise MappingError(msg)
    for name, protocol in mappings.protocols.items():
        for measure in protocol.reviews.measures:
            if measure not in mappings.instruments:
                msg = f'mappings/protocols/{protocol.id}.toml, reviews.measures: "{measure}" is not an instrument.'
                raise MappingError(msg)
        for task in protocol.initial.tasks:
            if task not in set(CourseField):
                msg = f'mappings/protocols/{name}.toml, initial.tasks: "{task}" is not a course field.'
                raise MappingError(msg)


def _check_sources(mappings: Mappings) -> None:
    """Every source that a protocol, instrument, focus area or rule rests on is described."""
    resting: dict[str, Mapping[str, BaseModel]] = {
        "protocols/{}.toml": mappings.protocols,
        "instruments/{}.toml": mappings.instruments,
        "focus-areas.toml, {}": mappings.focus_areas,
        "rules.toml, {}": mappings.rules,
    }
    for where, models in resting.items():
        for name, model in models.items():
            for key, value in _leaves(model.model_dump()):
                if key in {"source", "sources"} and value not in mappings.sources:
                    msg = f'mappings/{where.format(name)}: "{value}" is not in mappings/sources.toml.'
                    raise MappingError(msg)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - a dumped model
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _digest(files: Mapping[str, bytes], site_file: str) -> str:
    """Hash what the service reads: neither documents nor other sites change a plan."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(files):
        if path.endswith((".toml", ".json")) and (not path.startswith("sites/") or path == site_file):
            digest.update(f"\0{path}\0{len(files[path])}\0".encode())
            digest.update(files[path])
    return digest.hexdigest()
