"""What a FHIR server or an implementer loads: the mappings as one FHIR package, the same bytes at every writing.

Questionnaires of the forms and of the instruments, CodeSystems, ValueSets, ConceptMaps, StructureDefinitions, and a
PlanDefinition for each protocol. Layout: the FHIR NPM package specification (https://hl7.org/fhir/packages.html).
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import orjson

from service.domain.catalogue import cite
from service.domain.codes import LOINC, read_code
from service.domain.forms import FHIR_BASE
from service.outbound.wording import display, own

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.domain.facts import Code
    from service.domain.instruments import Instrument, InstrumentItem
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.sourced import Threshold
    from service.outbound.elements import Element

NAME = "org.ipt-bridge.fhir"
FHIR_VERSION = "4.0.1"
_EXTENSIONS = "http://hl7.org/fhir/StructureDefinition"
_INDEXED = ("resourceType", "id", "url", "version", "kind", "type")


def package(files: Mapping[str, bytes], mappings: Mappings, version: str) -> dict[str, bytes]:
    """Return the files of the package by name, from the mapping files' bytes and what they mean.

    `version` is the service's, and that of what is made here; forms and terminology keep their own.
    """
    displays = tomllib.loads(files["answers.toml"].decode())["displays"]
    words = {read_code(written): text for written, text in displays.items()}
    made = [
        *(questionnaire(each, words, version) for each in mappings.instruments.values()),
        *(plan_definition(each, mappings, version) for each in mappings.protocols.values()),
    ]
    taken = [
        (orjson.loads(content), content)
        for path, content in files.items()
        if path.startswith(("forms/", "terminology/")) and path.endswith(".json")
    ]
    resources = [*taken, *((resource, _written(resource)) for resource in made)]
    by_name = {
        f"{resource['resourceType']}-{resource['id']}.json": (resource, content) for resource, content in resources
    }
    index = [
        {"filename": name} | {key: resource[key] for key in _INDEXED if isinstance(resource.get(key), str)}
        for name, (resource, _) in sorted(by_name.items())
    ]
    return {
        "package.json": _written(_description(version)),
        ".index.json": _written({"index-version": 1, "files": index}),
        **{name: content for name, (_, content) in sorted(by_name.items())},
    }


def questionnaire(instrument: Instrument, words: Mapping[Code, str], version: str) -> Element:
    """Return the Questionnaire of an instrument: what it asks, each answer's score, and its total.

    `words` says how answers read. Of an instrument whose total is stated, and whose text nobody may print, only
    the total is asked.
    """
    items = [] if instrument.scoring == "stated" else list(instrument.items)
    resource: Element = _canonical("Questionnaire", instrument.id, instrument.title, version)
    resource |= {"subjectType": ["Patient"], "description": f"Measures {instrument.subject}."}
    if instrument.copyright:
        resource["copyright"] = instrument.copyright
    if instrument.panel is not None:
        resource["code"] = [{"system": LOINC, "code": instrument.panel}]
    resource["item"] = [
        *(_item(instrument, number, item, words) for number, item in enumerate(items, 1)),
        _total(instrument),
    ]
    return resource


def _item(instrument: Instrument, number: int, item: InstrumentItem, words: Mapping[Code, str]) -> Element:
    # LOINC's own questionnaires write its codes with a slash before them.
    element: Element = {"linkId": f"/{item.loinc}" if item.loinc else item.link_ids[0]}
    if item.loinc:
        element["code"] = [{"system": LOINC, "code": item.loinc}]
    element["prefix"] = f"{number}."
    if item.title:
        element["text"] = item.title
    answers = instrument.answers if item.answers is None else item.answers
    if not answers:
        element |= {"type": "integer", "required": False}
        highest = instrument.item_maximum[number - 1]
        element["extension"] = [_extension("minValue", valueInteger=0), _extension("maxValue", valueInteger=highest)]
        return element
    element |= {"type": "choice", "required": False, "answerOption": list(_options(answers, item.points, words))}
    return element


def _options(answers: Mapping[str, int], points: tuple[int, ...], words: Mapping[Code, str]) -> Iterator[Element]:
    """Yield the answers of the system that is named first, each with its score; then those that are numbers."""
    codes = [(read_code(written), score) for written, score in answers.items()]
    for code, score in codes:
        if code.system == codes[0][0].system:
            ordinal = _extension("ordinalValue", valueDecimal=score)
            said = {"display": words[code]} if code in words else {}
            yield {"valueCoding": {"extension": [ordinal], "system": code.system, "code": code.code, **said}}
    for score in points:
        yield {"valueInteger": score}


def _total(instrument: Instrument) -> Element:
    element: Element = {"linkId": f"/{instrument.total}" if instrument.total else f"{instrument.id}-total"}
    if instrument.total:
        element["code"] = [{"system": LOINC, "code": instrument.total}]
    return element | {"text": f"{instrument.title} total", "type": "decimal", "required": False}


def plan_definition(protocol: Protocol, mappings: Mappings, version: str) -> Element:
    """Return a protocol as a PlanDefinition: its phases with what each documents, its reviews, its sources."""
    resource = _canonical("PlanDefinition", protocol.id, protocol.title, version)
    sessions = protocol.sessions
    lasting = ""
    if sessions.shortest is not None and sessions.longest is not None:
        lasting = f" of {_range(sessions.shortest, sessions.longest)}"
    resource |= {
        "type": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/plan-definition-type",
                    "code": "clinical-protocol",
                    "display": "Clinical Protocol",
                }
            ]
        },
        "description": (
            f"{_range(sessions.minimum, sessions.maximum)}{lasting}, {_counted(sessions.interval)} apart; "
            f"{sessions.default.value:g} until a number is agreed. Version {protocol.version} of the protocol."
        ),
        "relatedArtifact": [
            {"type": "citation", "citation": cite(mappings.sources[name])}
            for name in dict.fromkeys([protocol.source, sessions.default.source, protocol.ending.source])
        ],
    }
    reviews = protocol.reviews
    tasks = [{"title": display(mappings, "course-field", task)} for task in protocol.initial.tasks]
    overrun = f"To be complete by session {protocol.initial.overrun_after.value:g}; the phase never changes by itself."
    actions = []
    if tasks:
        actions.append(_phase("initial", mappings, overrun) | {"action": tasks})
    if protocol.ending.value:
        actions.append(_phase("middle", mappings, "Work on the focus areas that were agreed."))
        actions.append(_phase("ending", mappings, f"The last of the course: {_counted(protocol.ending)}."))
    due = _counted(reviews.firm_due)
    actions += [
        {"title": "Early review", "description": f"After {_counted(reviews.soft_after)}."},
        {"title": "Firm review", "description": f"After {_counted(reviews.firm_after)}, due within {due}."},
    ]
    if protocol.preparation is not None:
        how = f"{protocol.preparation.meetings.value:g}, {protocol.preparation.delivery}"
        actions.insert(0, {"title": "Preparation", "description": f"Meetings before the first session: {how}."})
    return resource | {"action": actions}


def _phase(phase: str, mappings: Mappings, description: str) -> Element:
    name = display(mappings, "phase", phase)
    code = {"coding": [{"system": own("phase"), "code": phase, "display": name}]}
    return {"title": name, "description": description, "code": [code]}


def _counted(threshold: Threshold) -> str:
    unit = threshold.unit.removesuffix("s") if threshold.value == 1 else threshold.unit
    return f"{threshold.value:g} {unit}"


def _range(least: Threshold, most: Threshold) -> str:
    return _counted(most) if least.value == most.value else f"{least.value:g} to {_counted(most)}"


def _canonical(kind: str, name: str, title: str, version: str) -> Element:
    words = "".join(part.capitalize() for part in name.split("-"))
    return {
        "resourceType": kind,
        "id": name,
        "url": f"{FHIR_BASE}/{kind}/{name}",
        "version": version,
        "name": f"Ipt{words}",
        "title": title,
        "status": "active",
        "experimental": False,
        "publisher": "IPT Bridge",
    }


def _extension(name: str, **value: float) -> Element:
    return {"url": f"{_EXTENSIONS}/{name}", **value}


def _description(version: str) -> Element:
    return {
        "name": NAME,
        "version": version,
        "title": "IPT Bridge",
        "description": "Questionnaires, terminology, extensions and protocols of Interpersonal Psychotherapy courses.",
        "author": "IPT Bridge",
        "license": "Apache-2.0",
        "canonical": FHIR_BASE,
        "url": FHIR_BASE,
        "type": "Conformance",
        "fhirVersions": [FHIR_VERSION],
        "dependencies": {"hl7.fhir.r4.core": FHIR_VERSION},
    }


def _written(value: Element) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
