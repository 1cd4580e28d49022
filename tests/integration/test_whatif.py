"""`ipt-bridge whatif`: what other mappings would change in the courses of a store, and that nothing is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
from typer.testing import CliRunner

from service.cli import cli
from service.commands.whatif import Changed, Summary, whatif
from service.domain.projection import project
from service.sandbox.patients import generate
from service.store import Store
from tests.property.strategies import START
from tests.workers import END, Clock, worker

if TYPE_CHECKING:
    from pathlib import Path

    from service.domain.mappings import Mappings
    from tests.workers import Worker

PATIENTS = generate(7, 3, START)
EVENTS = [event for patient in PATIENTS for event in patient.events]
CASE = "caseness = { value = 10,"


def edited(files: dict[str, bytes], folder: Path, path: str = "", old: str = "", new: str = "") -> Path:
    """Write the mapping files into a folder, one text of one file replaced, and return the folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if path:
        text = (folder / path).read_text(encoding="utf-8")
        assert old in text
        (folder / path).write_text(text.replace(old, new), encoding="utf-8")
    return folder


def stricter(mappings: Mappings) -> Mappings:
    """Return mappings in which nobody was ever a case of depression."""
    phq_9 = mappings.instruments["phq-9"]
    assert phq_9.caseness is not None
    never = phq_9.model_copy(update={"caseness": phq_9.caseness.model_copy(update={"value": 28.0})})
    return mappings.model_copy(update={"instruments": {**mappings.instruments, "phq-9": never}})


async def changes(store: Store, present: Mappings, other: Mappings) -> tuple[list[Changed], Summary, list[int]]:
    """Return what would change in a store, the summary, and what a progress bar would have heard."""
    summary, told = Summary(), list[int]()
    found = whatif(store, {"main": present}, {"main": other}, None, END, summary, told.append)
    return [each async for each in found], summary, told


async def test_same_mappings_change_nothing(one: Worker, mappings: Mappings) -> None:
    """Every course is compared, and none differs."""
    await one.take(EVENTS)
    found, summary, told = await changes(one.store, mappings, mappings)
    assert ([], 3, 0, [3]) == (found, summary.patients, summary.courses_changed, told)
    assert summary.courses >= 3


async def test_a_cut_off_that_nobody_reaches_takes_the_goals_of_the_instrument_away(
    one: Worker, mappings: Mappings
) -> None:
    """Each difference is what two projections say; nothing in the store is another afterwards."""
    await one.take(EVENTS)
    keys = await one.store.operators.patients(None, 10)
    before = await one.store.operators.facts_and_courses(keys)
    other = stricter(mappings)
    found, summary, _ = await changes(one.store, mappings, other)
    gone = {(each.course, each.name) for one_of in found for each in one_of.differences if each.what == "goal"}
    cases = {
        course.id
        for key, record in before.items()
        for course in project(key, record.facts, END, mappings).courses
        if any(m.instrument == "phq-9" and m.total is not None and m.total >= 10 for m in course.measures)
    }
    assert cases
    assert {(course, "goal/phq-9") for course in cases} == gone
    assert len(cases) == summary.by_what["goal"]
    assert all(each.after is None for one_of in found for each in one_of.differences if each.what == "goal")
    assert before == await one.store.operators.facts_and_courses(keys)


@pytest.fixture
def config(tmp_path: Path, mappings: Mappings) -> Path:
    """A configuration of a SQLite store that holds the patients."""
    url = f"sqlite:///{tmp_path}/store.sqlite"

    async def fill() -> None:
        async with await Store.open(url) as store:
            await store.migrate()
            await worker(store, mappings, Clock()).take(EVENTS)

    asyncio.run(fill())
    file = tmp_path / "ipt-bridge.toml"
    file.write_text(f'[store]\nurl = "{url}"\n', encoding="utf-8")
    return file


def run(config: Path, folder: Path, *options: str) -> tuple[int, str]:
    """Return the exit code and the output of the command."""
    result = CliRunner().invoke(cli, ["whatif", "--config", str(config), "--mappings", str(folder), *options])
    return result.exit_code, result.stdout


def test_exit_code_tells_a_script_whether_anything_would_change(
    config: Path, tmp_path: Path, mapping_files: dict[str, bytes]
) -> None:
    """0 with a copy, 1 with an edited copy, whose differences are listed by patient with a summary."""
    code, text = run(config, edited(mapping_files, tmp_path / "copy"))
    assert (0, True, True) == (code, "None would change." in text, "never stored" in text)
    other = edited(mapping_files, tmp_path / "edited", "instruments/phq-9.toml", CASE, "caseness = { value = 28,")
    code, text = run(config, other)
    assert 1 == code
    assert "goal goal/phq-9: Depression (PHQ-9) below 10" in text
    assert "courses with other goals: " in text
    code, text = run(config, other, "--json")
    report = orjson.loads(text)
    assert 1 == code
    assert len(report["patients"]) == report["summary"]["patientsChanged"]
    assert {"source", "patient", "labels", "differences"} == set(report["patients"][0])
    assert report["summary"]["changes"]["goal"] >= 1


def test_since_leaves_older_courses_out(config: Path, tmp_path: Path, mapping_files: dict[str, bytes]) -> None:
    """Nothing is held, taken or written in the far future."""
    other = edited(mapping_files, tmp_path / "edited", "instruments/phq-9.toml", CASE, "caseness = { value = 28,")
    code, text = run(config, other, "--since", "2099-01-01", "--json")
    summary = orjson.loads(text)["summary"]
    assert (0, 3, 0) == (code, summary["patients"], summary["courses"])
