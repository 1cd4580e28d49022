"""The bench, so small that its figures say nothing: every row runs, and what it reads is held against the events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace

from service import app
from service.domain.facts import FactKey
from service.settings import Settings
from service.store import Store
from tests.bench import events
from tests.bench.command import ROWS
from tests.bench.multiplied import record
from tests.bench.parts import newest_facts
from tests.bench.recomputation import courses_equal
from tests.bench.worker import BenchError

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
LONGEST_S = 400


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what one run has written."""
    folder = tmp_path_factory.mktemp("bench")
    outputs = [word for kind in ("json", "markdown", "picture") for word in (f"--{kind}", str(folder / kind))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--toy", *outputs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    assert 0 == done.returncode, done.stderr
    return folder


@pytest.fixture(scope="module")
def content(written: Path) -> dict[str, Any]:
    """The figures of that run."""
    found: dict[str, Any] = orjson.loads((written / "json").read_bytes())
    return found


def test_every_row_gives_figures(content: dict[str, Any]) -> None:
    """No row of the bench is left out, and each says something greater than nothing."""
    assert set(range(1, 14)) == ROWS.keys() == {line["row"] for line in content["lines"]}
    assert [] == [line["what"] for line in content["lines"] if line["value"] <= 0]


def test_every_course_is_held_against_its_events(content: dict[str, Any]) -> None:
    """Rows 1, 5, 8 and 13 alone read a stream of twenty patients five times, and one of four patients twice."""
    assert content["courses_equal"] > 5 * 20 + 2 * 4


def test_machine_is_described_without_a_place(content: dict[str, Any]) -> None:
    """What a run was measured on names versions and cores, and neither a path nor an address."""
    assert {"cores", "processor", "Python", "Kafka", "PostgreSQL", "date"} <= content["machine"].keys()
    assert [] == [value for value in content["machine"].values() if "/" in value or "127.0.0.1" in value]


def test_table_and_picture_are_written(written: Path, content: dict[str, Any]) -> None:
    """The Markdown table names every figure, and the picture is a PNG."""
    table = (written / "markdown").read_text()
    assert [] == [line["what"] for line in content["lines"] if f"| {line['what']} |" not in table]
    assert (written / "picture").read_bytes().startswith(PNG)


async def test_course_that_is_not_what_its_events_say_stops_the_bench(tmp_path: Path, mappings: Mappings) -> None:
    """A fact that the store never got makes the comparison fail; without it, it holds."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    settings = Settings()
    topics = [topic.name for topic in settings.sources[0].topics]
    stream = events.course(1, 4)
    async with await Store.open(url) as store:
        await store.migrate()
        vitals = app.vitals_of(settings)
        intake = app.intake(settings, store, vitals, {"main": mappings})
        await intake.process(await intake.read([record((topics[0], topics[1]), event) for event in stream]))
    facts = newest_facts(stream, mappings)
    assert 1 == await courses_equal(url, facts, mappings)
    (key,) = (key for key in facts["b1"] if key == FactKey("main", "Encounter", "b1-e1"))
    other = replace(facts["b1"][key], key=FactKey("main", "Encounter", "b1-e9"))
    with pytest.raises(BenchError):
        await courses_equal(url, {"b1": facts["b1"] | {other.key: other}}, mappings)
