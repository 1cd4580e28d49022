"""Every specimen is read as the file beside it says.

A specimen is one record's value; `<name>.expected.json` says what it amounts to. Digests are left out.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from service.commands.inspection import reading_as_json
from service.inbound.reading import marker_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.domain.facts import OrderKey
    from service.inbound.reading import RecordReading

SPECIMENS = Path(__file__).parents[2] / "specimens"
EXPECTED = ".expected.json"
KINDS = ("encounters", "questionnaire_responses", "bundles")
FILES = sorted(
    path.relative_to(SPECIMENS).as_posix()
    for kind in KINDS
    for path in (SPECIMENS / kind).glob("*.json")
    if not path.name.endswith(EXPECTED)
)


def told(reading: RecordReading) -> dict[str, Any]:
    """Return a record's reading as its expected file has it, without what is empty."""
    whole: dict[str, Any] = _without_empty(
        {
            "facts": [
                {
                    "key": fact.key.reference,
                    "patient": fact.patient_id,
                    "order": _order(fact.order),
                    "labels": ["|".join(label) for label in fact.labels],
                    "reading": reading_as_json(fact.reading),
                }
                for fact in reading.facts
            ],
            "irrelevant": [
                {
                    "key": each.key.reference,
                    "patient": each.patient and each.patient.patient_id,
                    "order": _order(marker_of(each, ZoneInfo("America/New_York")).order),
                }
                for each in reading.irrelevant
            ],
            "unreadable": [
                {"place": place, "code": problem.code, "path": problem.path} for place, problem in reading.unreadable
            ],
            "fetch": [f"{change.resource_type}/{change.resource_id}" for _, change in reading.fetch],
            "skipped": reading.skipped,
        }
    )
    return whole


def _order(order: OrderKey) -> str:
    time = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=order.last_updated)
    return f"{time.isoformat()} version {order.version}{' deleted' if order.deleted else ''}"


def _without_empty(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {name: _without_empty(each) for name, each in value.items() if each not in (None, [], {}, "")}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", FILES)
def test_specimen_is_read_as_expected(read_value: Callable[..., RecordReading], name: str) -> None:
    """Real quirks, each in a record of its own."""
    specimen = SPECIMENS / name
    expected = specimen.with_name(specimen.name.removesuffix(".json") + EXPECTED)

    assert orjson.loads(expected.read_bytes()) == told(read_value(specimen.read_bytes()))


def test_every_kind_has_specimens() -> None:
    """A folder that was renamed would test nothing."""
    assert set(KINDS) == {name.split("/")[0] for name in FILES}
