"""From the bytes of the mapping files to typed mappings, with file, key and problem named when one is wrong."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.domain.course import (
    Classification,
    Decision,
    FindingState,
    Phase,
    SessionKind,
    SessionState,
    Severity,
    Sex,
)
from service.domain.facts import Code
from service.domain.forms import FHIR_BASE, CourseField, FormKind, FormMap, read_questionnaire
from service.domain.instruments import Instrument
from service.domain.mappings import EncounterCodes, FocusAreaText, MappingError, Mappings, Rule
from service.domain.protocols import CourseBounds, Protocol
from service.domain.site import (
    PublishedQuestionnaire,
    Site,
    joined,
    published_items,
    site_forms,
    site_items,
    site_texts,
)
from service.domain.sourced import FileModel, Source
from service.domain.vendors import VendorProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

_M = TypeVar("_M", bound=BaseModel)
_OTHER_QUESTIONNAIRES = "instruments/others.toml"
_PUBLISHED = "published-questionnaires.toml"
_EHR = "ehr/"


class _SourcesFile(FileModel):
    sources: dict[str, Source]


class _RulesFile(FileModel):
    rules: tuple[Rule, ...]


class _FocusAreasFile(FileModel):
    areas: tuple[FocusAreaText, ...]


class _OtherInstruments(FileModel):
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


class _PublishedFile(FileModel):
    questionnaires: tuple[PublishedQuestionnaire, ...]


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
    for place, published in enumerate(_toml(files, _PUBLISHED, _PublishedFile).questionnaires):
        link_ids = published_items(f"{_PUBLISHED}, questionnaires[{place}]", published, instruments)
        by_questionnaire |= dict.fromkeys(published.canonicals, published.instrument)
        site_link_ids |= dict.fromkeys(published.canonicals, link_ids)
    for name, addition in own.instruments.items():
        link_ids = site_items(f"{site_file}, instruments", name, addition, instruments)
        by_questionnaire |= dict.fromkeys(addition.questionnaires, name)
        site_link_ids |= dict.fromkeys(addition.questionnaires, link_ids)
    by_file = {path: _toml(files, path, _RulesFile).rules for path in _under(files, "rules/")}
    mappings = Mappings(
        digest=_digest(files, site_file),
        sources=_toml(files, "sources.toml", _SourcesFile).sources,
        courses=_toml(files, "courses.toml", CourseBounds),
        protocols=_named_by_file(files, _under(files, "protocols/"), Protocol),
        site_protocols=own.protocols,
        instruments=instruments,
        other_questionnaires=_toml(files, _OTHER_QUESTIONNAIRES, _OtherInstruments).questionnaires
        | dict.fromkeys(own.other_questionnaires, "the site says so"),
        focus_areas=_unique(
            "focus-areas.toml", ((area.code, area) for area in _toml(files, "focus-areas.toml", _FocusAreasFile).areas)
        ),
        rules={rule.id: rule for rules in by_file.values() for rule in rules},
        encounters=joined(_toml(files, "encounters.toml", EncounterCodes), own.encounters),
        forms={
            form.questionnaire: form
            for form in (*_forms(files, displays), *site_forms(site_file, own, displays, by_questionnaire))
        },
        displays=displays,
        same_practitioner=own.same_practitioner,
        instrument_by_questionnaire=by_questionnaire,
        site_link_ids=site_link_ids,
        answer_texts=site_texts(site_file, own, instruments),
    )
    _check_rules(by_file)
    _check_sources(mappings, by_file)
    _check_codes(mappings)
    _check_references(mappings, site_file)
    return mappings


def vendor_profiles(files: Mapping[str, bytes]) -> dict[str, VendorProfile]:
    """Return the profiles of EHR servers by name, from the files' bytes; no course and no plan depends on them.

    Raises MappingError.
    """
    return _named_by_file(files, _under(files, _EHR), VendorProfile)


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


def _check_codes(mappings: Mappings) -> None:
    """Our CodeSystems hold the very codes that the service, the rules and the focus areas name."""
    known = coded_by_the_service(mappings)
    for name, (what, codes) in known.items():
        differing = _codes_of(name, mappings) ^ set(codes)
        if differing:
            odd = ", ".join(sorted(differing))
            msg = f"mappings/terminology/CodeSystem-{name}.json, concept: differs from {what} in {odd}."
            raise MappingError(msg)


def coded_by_the_service(mappings: Mappings) -> dict[str, tuple[str, Iterable[str]]]:
    """Return the CodeSystems whose codes are not only asked for on forms: what else names them, and the codes."""
    return {
        "course-field": ("the service's course fields", CourseField),
        "form-kind": ("the service's kinds of form", FormKind),
        "phase": ("the service's phases", Phase),
        "session-state": ("the service's session states", SessionState),
        "session-kind": ("the service's kinds of contact", SessionKind),
        "decision": ("the service's decisions", Decision),
        "finding-state": ("the service's states of a finding", FindingState),
        "outcome": ("the service's classifications of an outcome", Classification),
        "administrative-sex": ("the service's values of sex", Sex),
        "protocol": ("mappings/protocols/", mappings.protocols),
        "finding-severity": ("the service's severities", Severity),
        "focus-area": ("mappings/focus-areas.toml", mappings.focus_areas),
        "finding-rule": ("mappings/rules/", mappings.rules),
    }


def _check_references(mappings: Mappings, site_file: str) -> None:
    """What one file names of another is there."""
    fields = frozenset(CourseField)
    exclusions = _codes_of("exclusion", mappings)
    strategies = _codes_of("technique", mappings) | _codes_of("phase-task", mappings)
    named: list[tuple[str, Iterable[str], Container[str], str]] = [
        ("courses.toml, protocol", (mappings.courses.protocol,), mappings.protocols, "a protocol"),
        ("courses.toml, maintenance", (mappings.courses.maintenance,), mappings.protocols, "a protocol"),
    ]
    for name, protocol in mappings.protocols.items():
        file = f"protocols/{name}.toml"
        named += [
            (f"{file}, reviews.measures", protocol.reviews.measures, mappings.instruments, "an instrument"),
            (f"{file}, initial.tasks", protocol.initial.tasks, fields, "a course field"),
            (f"{file}, exclusions", [each.code for each in protocol.exclusions], exclusions, "a code of exclusion"),
        ]
    for name, instrument in mappings.instruments.items():
        longer = () if instrument.part_of is None else (instrument.part_of,)
        others = mappings.instruments.keys() - {name}
        named.append((f"instruments/{name}.toml, part_of", longer, others, "another instrument"))
    named += [
        (f"focus-areas.toml, {area.code}.strategies", area.strategies, strategies, "a code of technique or phase-task")
        for area in mappings.focus_areas.values()
    ]
    goals = _codes_of("patient-goal", mappings)
    named += [
        (f"focus-areas.toml, {area.code}.goal_codes", area.goal_codes, goals, "a code of patient-goal")
        for area in mappings.focus_areas.values()
    ]
    named += [
        (f"{site_file}, protocols[{place}].protocol", (chosen.protocol,), mappings.protocols, "a protocol")
        for place, chosen in enumerate(mappings.site_protocols)
    ]
    for where, names, known, what in named:
        for name in names:
            if name not in known:
                msg = f'mappings/{where}: "{name}" is not {what}.'
                raise MappingError(msg)


def _codes_of(name: str, mappings: Mappings) -> frozenset[str]:
    system = f"{FHIR_BASE}/CodeSystem/{name}"
    return frozenset(code.code for code in mappings.displays if code.system == system)


def _check_rules(by_file: Mapping[str, tuple[Rule, ...]]) -> None:
    """No rule is there twice, in one file or in two."""
    seen: set[str] = set()
    for path, rules in by_file.items():
        for rule in rules:
            if rule.id in seen:
                msg = f'mappings/{path}: "{rule.id}" is there twice.'
                raise MappingError(msg)
            seen.add(rule.id)


def _check_sources(mappings: Mappings, rules: Mapping[str, tuple[Rule, ...]]) -> None:
    """Every source that a protocol, instrument, focus area or rule rests on is described."""
    resting: dict[str, Mapping[str, BaseModel]] = {
        "protocols/{}.toml": mappings.protocols,
        "instruments/{}.toml": mappings.instruments,
        "focus-areas.toml, {}": mappings.focus_areas,
        "{}": {"courses.toml": mappings.courses},
        **{f"{path}, {{}}": {rule.id: rule for rule in found} for path, found in rules.items()},
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
    """Hash what the service projects with: neither documents, other sites nor EHR profiles change a plan."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(files):
        if path == "discarded.toml" or path.startswith(_EHR) or (path.startswith("sites/") and path != site_file):
            continue
        if path.endswith((".toml", ".json")):
            digest.update(f"\0{path}\0{len(files[path])}\0".encode())
            digest.update(files[path])
    return digest.hexdigest()
