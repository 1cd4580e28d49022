"""Every dialect's specimens are opened as the file beside each says, and every field of theirs is accounted for.

A specimen is a record's value, or a record with its key and headers. `<name>.expected.json` says what it
amounts to; the folder's `discarded.json` names the fields that change nothing, each with the reason.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from service.inbound.envelopes import DIALECTS, Opened, open_record
from service.inbound.envelopes.table import TOMBSTONE
from service.inbound.record_files import records_in
from service.inbound.records import Limits, Record, SourceContext, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

SPECIMENS = Path(__file__).parents[2] / "specimens"
EXPECTED, DISCARDED = ".expected.json", "discarded.json"
READINGS = {"bundles", "encounters", "questionnaire_responses", "scores", "statements"}
"""Folders of other things than records: resources as readers and scoring see them, and what servers state."""
FOLDERS = sorted(path.name for path in SPECIMENS.iterdir() if path.is_dir() and path.name not in READINGS)
FILES = sorted(
    f"{folder}/{path.name}"
    for folder in FOLDERS
    for path in (SPECIMENS / folder).glob("*.json")
    if path.name != DISCARDED and not path.name.endswith(EXPECTED)
)
SOURCE = SourceContext("clinic", ZoneInfo("America/New_York"))
UNWRITTEN = Record("fhir", 0, 0, datetime(2026, 3, 2, 12, 0, tzinfo=UTC), None, None)

Path_ = tuple[str | int, ...]


def opened(content: Any, source: SourceContext = SOURCE) -> Opened:  # noqa: ANN401 - any JSON
    """Return what the record says that a specimen is."""
    (record,) = records_in(orjson.dumps(content), UNWRITTEN, SOURCE.time_zone)
    return open_record(record, source, Limits())


def told(result: Opened) -> dict[str, Any]:
    """Return what a record says, as an expected file has it."""
    return {
        "dialect": result.dialect,
        "changes": [
            {"parked": change.code, "path": change.path}
            if isinstance(change, Unreadable)
            else {
                "operation": change.operation.value,
                "resource": f"{change.resource_type}/{change.resource_id}",
                "held": change.resource is not None,
                "path": change.path,
                "version": change.version_id,
                "lastUpdated": change.last_updated.isoformat() if change.last_updated else None,
            }
            for change in result.changes
        ],
        "notices": [
            {
                "kind": each.kind,
                "form": each.form,
                "subscription": each.subscription,
                "status": each.status,
                "numbers": list(each.numbers),
                "total": each.total,
                "happened": each.happened.isoformat() if each.happened else None,
            }
            for each in result.notices
        ],
    }


def content_of(name: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a specimen."""
    return orjson.loads((SPECIMENS / name).read_bytes())


def fields(value: Any, path: Path_ = ()) -> Iterator[Path_]:  # noqa: ANN401 - any JSON
    """Yield the path of every value that is no object or list, or an empty one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner or not value:
        yield path
    for name, each in inner:
        yield from fields(each, (*path, name))


def without(content: Any, path: Path_) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy without the field."""
    changed = copy.deepcopy(content)
    del _holder(changed, path)[path[-1]]
    return changed


def altered(content: Any, path: Path_) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy in which the field says something else."""
    changed = copy.deepcopy(content)
    _holder(changed, path)[path[-1]] = "Location/other"
    return changed


def _holder(content: Any, path: Path_) -> Any:  # noqa: ANN401 - any JSON
    for part in path[:-1]:
        content = content[part]
    return content


def general(path: Path_) -> str:
    """Return a path with its indices left out, as `discarded.json` has it."""
    return ".".join("[]" if isinstance(part, int) else part for part in path).replace(".[]", "[]")


def whole(result: Opened) -> tuple[object, ...]:
    """Return all that a record says, what its resources hold included."""
    return told(result), [change for change in result.changes if not isinstance(change, Unreadable)]


@pytest.mark.parametrize("name", FILES)
def test_specimen_says_what_happened(name: str) -> None:
    """Which dialect it is, and each change in it."""
    expected = SPECIMENS / name.replace(".json", EXPECTED)

    assert orjson.loads(expected.read_bytes()) == told(opened(content_of(name)))


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_has_specimens_that_nothing_else_recognises(name: str) -> None:
    """A dialect is a recogniser and a folder; one that another dialect hides would never be asked."""
    dialects = {opened(content_of(file)).dialect for file in FILES if file.startswith(f"{name}/")}

    assert name in dialects


def test_every_folder_is_a_dialect() -> None:
    """A specimen in a folder that no dialect has would prove nothing."""
    assert {*DIALECTS, TOMBSTONE, "several"} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_field_is_used_or_discarded_for_a_reason(folder: str) -> None:
    """A field is used where taking it away, or saying something else in it, changes what the record says."""
    seen, used = set(), set()
    for name in FILES:
        if not name.startswith(f"{folder}/"):
            continue
        content = content_of(name)
        said = whole(opened(content))
        for path in fields(content):
            seen.add(general(path))
            if any(said != whole(opened(change(content, path))) for change in (without, altered)):
                used.add(general(path))
    listed = SPECIMENS / folder / DISCARDED
    discarded = orjson.loads(listed.read_bytes()) if listed.exists() else {}

    assert seen - used == set(discarded)
    assert all(discarded.values())


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("several/", "tombstone/"))])
def test_a_source_that_fixes_its_dialect_reads_it_the_same(name: str) -> None:
    """The setting only takes the choice away."""
    found = opened(content_of(name))
    fixed = SourceContext(SOURCE.id, SOURCE.time_zone, envelope=found.dialect)

    assert told(found) == told(opened(content_of(name), fixed))


def test_a_source_that_fixes_its_dialect_takes_no_other() -> None:
    """A record in another is parked, whatever it may be."""
    fixed = SourceContext(SOURCE.id, SOURCE.time_zone, envelope="hapi")
    (problem,) = opened({"resourceType": "Encounter", "id": "e-1"}, fixed).changes

    assert isinstance(problem, Unreadable)
    assert "unknown-envelope" == problem.code
