"""Nothing in `mappings/` or in what is read of an event is there for nothing: it is used, or discarded with a reason.

`mappings/discarded.toml` holds what is not used yet or never will be; it names nothing that isn't there. That every
field of a course reaches the explanation is held by
`tests/spec/test_explanations.py`.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from service.domain import instruments, protocols, sourced
from service.domain import mappings as mapped
from service.domain.facts import EncounterReading, ResponseReading, TaskReading
from service.domain.forms import FHIR_BASE, CourseField
from service.domain.mapping_files import coded_by_the_service

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from service.domain.mappings import Mappings

SERVICE = Path(__file__).parents[3] / "service"
MODELS = (instruments, protocols, sourced, mapped)
READINGS = (EncounterReading, ResponseReading, TaskReading)


def attributes(files: Iterable[Path]) -> set[str]:
    """Return every name that is read of some value in these files: `it.name`."""
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def constants(files: Iterable[Path]) -> set[str]:
    """Return every text that stands in these files by itself."""
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    found = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, str)}


def models(module: ModuleType) -> Iterable[type[sourced.FileModel]]:
    """Yield the tables of mapping files that a module describes."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, sourced.FileModel) and value.__module__ == module.__name__:
            yield value


@pytest.fixture(scope="module")
def discarded(mapping_files: dict[str, bytes]) -> dict[str, dict[str, str]]:
    """What is discarded, with the reason, by kind."""
    listed: dict[str, dict[str, str]] = tomllib.loads(mapping_files["discarded.toml"].decode())
    assert all(reason for reasons in listed.values() for reason in reasons.values())
    return listed


def test_every_key_of_a_mapping_file_is_used(discarded: dict[str, dict[str, str]]) -> None:
    """A number or text that nothing reads only looks as if it did something."""
    files = [file for file in SERVICE.rglob("*.py") if "sandbox" not in file.parts]
    # The uses of encounter codes are looked up by their names.
    read = attributes(files) | (constants(files) & set(mapped.EncounterCodes.model_fields))
    every = [model for module in MODELS for model in models(module)]
    unused = {f"{model.__name__}.{name}" for model in every for name in model.model_fields if name not in read}
    assert unused <= set(discarded["keys"])
    assert set(discarded["keys"]) <= {f"{model.__name__}.{name}" for model in every for name in model.model_fields}


def test_everything_read_of_an_event_is_used(discarded: dict[str, dict[str, str]]) -> None:
    """What a fact keeps has a meaning for the course, or is kept for a reason."""
    read = attributes(file for file in (SERVICE / "domain").rglob("*.py") if file.name != "facts.py")
    unused = {
        f"{reading.__name__}.{name}" for reading in READINGS for name in reading.__struct_fields__ if name not in read
    }
    assert unused <= set(discarded["readings"])
    assert set(discarded["readings"]) <= {
        f"{reading.__name__}.{name}" for reading in READINGS for name in reading.__struct_fields__
    }


def test_every_course_field_is_used(mappings: Mappings, discarded: dict[str, dict[str, str]]) -> None:
    """What the forms ask is read by the projection, or needed by a protocol."""
    read = attributes(file for file in (SERVICE / "domain").rglob("*.py") if file.name != "forms.py")
    needed = {task for protocol in mappings.protocols.values() for task in protocol.initial.tasks}
    unused = {field.value for field in CourseField if field.name not in read and field.value not in needed}
    assert unused <= set(discarded["course-fields"]) <= set(CourseField)


def test_every_code_of_ours_can_be_answered_or_is_the_services_own(
    mapping_files: dict[str, bytes], mappings: Mappings, discarded: dict[str, dict[str, str]]
) -> None:
    """A concept that no form offers and no plan carries is no concept."""
    carried = constants((SERVICE / "outbound").glob("*.py"))
    forms = [orjson.loads(content) for path, content in mapping_files.items() if path.startswith("forms/")]
    offered = {
        (option["valueCoding"]["system"], option["valueCoding"]["code"])
        for form in forms
        for item in _items(form)
        for option in item.get("answerOption", [])
    }
    own = {f"{FHIR_BASE}/CodeSystem/{name}" for name in coded_by_the_service(mappings)}
    unused = {
        f"{code.system.rsplit('/', 1)[-1]}/{code.code}"
        for code in mappings.displays
        if code.system not in own and code.code not in carried and (code.system, code.code) not in offered
    }
    known = {f"{code.system.rsplit('/', 1)[-1]}/{code.code}" for code in mappings.displays}
    assert unused <= set(discarded["codes"]) <= known


def _items(element: Any) -> Iterable[Any]:  # noqa: ANN401 - a form, or an item of one, as JSON
    for item in element.get("item", []):
        yield item
        yield from _items(item)


def test_every_item_of_an_instrument_can_be_found_in_a_response(
    mappings: Mappings, discarded: dict[str, dict[str, str]]
) -> None:
    """By its LOINC code or a linkId; what is asked beside the items is discarded by its code."""
    for instrument in mappings.instruments.values():
        named = set(instrument.link_ids.values())
        assert set(range(len(instrument.items))) == named, instrument.id
    known = {code for instrument in mappings.instruments.values() for code in instrument.item_codes}
    assert known.isdisjoint(discarded["items"])
