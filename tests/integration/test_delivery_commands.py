"""`ipt-bridge deliveries`: what an operator sees of the deliveries, and decides about them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from typer.testing import CliRunner

from service.cli import cli
from service.commands.delivery_screens import age
from service.store import Destination, ParkedState, Store, Write
from tests.integration.store.samples import LATER, LEASE, NOW, REMOTE, SOON, course, deliver, failed, update, write

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

WRITE = Write("create", "CarePlan", "cp-1", "1")
PLACES = (Destination("kafka"), Destination("ehr", takes_over=True))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose store knows three courses: one everywhere, one backing off and one parked at the EHR."""
    url = f"sqlite:///{tmp_path}/store.sqlite"

    async def fill() -> None:
        async with await Store.open(url) as store:
            await store.migrate()
            await write(store, update(course("arrived"), course("backing-off"), course("parked")), to=PLACES)
            await deliver(store, "kafka")
            await deliver(store, "ehr", REMOTE, only="arrived", writes=(WRITE,))
            for claimed in await store.deliveries.claim("ehr", NOW + LEASE, 10, LEASE):
                if claimed.course_id == "parked":
                    await store.deliveries.park_delivery(claimed, "http-422", SOON)
                else:
                    await store.deliveries.postpone([failed(claimed, LATER, "http-503")], SOON)

    asyncio.run(fill())
    file = tmp_path / "ipt-bridge.toml"
    file.write_text(
        f'[store]\nurl = "{url}"\n[[destinations]]\nkind = "kafka"\n'
        '[[destinations]]\nkind = "fhir"\nbase = "http://127.0.0.1:9/fhir"\n',
        encoding="utf-8",
    )
    return file


def run(config: Path, *words: str) -> Result:
    """Return what the command answers."""
    return CliRunner().invoke(cli, ["deliveries", *words, "--config", str(config)], env={"COLUMNS": "200"})


def listed(config: Path, *options: str) -> dict[str, Any]:
    """Return what the command lists as JSON."""
    found: dict[str, Any] = orjson.loads(run(config, "--json", *options).stdout)
    return found


def test_what_a_destination_is_behind_in_is_listed_with_its_reason(config: Path) -> None:
    """Wanted against seen, attempts, and the last outcome; what has arrived with --all, or not at all."""
    found = listed(config)
    assert [("kafka", 3, 0, 0), ("ehr", 3, 2, 1)] == [
        (each["name"], each["courses"], each["behind"], each["waitingForAPerson"]) for each in found["destinations"]
    ]
    assert [("backing-off", 1, None, "http-503"), ("parked", 1, None, "http-422")] == [
        (each["course"], each["wanted"], each["seen"], each["outcome"]) for each in found["deliveries"]
    ]
    assert [("arrived", 1, "route"), ("backing-off", None, None), ("parked", None, None)] == [
        (each["course"], each["seen"], each["route"])
        for each in listed(config, "--all", "--destination", "ehr")["deliveries"]
    ]


def test_a_person_reads_the_same_as_a_table(config: Path) -> None:
    """A line for each destination, then one for each delivery."""
    lines = run(config).stdout.splitlines()
    assert lines[0] == "kafka: 3 of 3 delivered"
    assert lines[1].startswith("ehr: 1 of 3 delivered, oldest waits ")
    assert lines[1].endswith(", 1 wait for a person")
    assert ["backing-off", "parked"] == [line.split()[0] for line in lines[3:]]
    assert ["http-503", "http-422"] == [line.split()[-1] for line in lines[3:]]


def test_retry_makes_one_course_or_all_that_wait_for_a_person_due(config: Path, tmp_path: Path) -> None:
    """By the beginning of a course's id, or by the destination; nothing to retry is exit code 1."""
    assert (0, 0) == (run(config, "retry", "backing").exit_code, run(config, "retry", "--destination", "ehr").exit_code)
    assert (1, 2) == (run(config, "retry", "arrived").exit_code, run(config, "retry").exit_code)

    async def due() -> tuple[set[str], list[ParkedState]]:
        async with await Store.open(f"sqlite:///{tmp_path}/store.sqlite") as store:
            states = [each.state for each in await store.operators.parked(None)]
            claimed = await store.deliveries.claim("ehr", LATER + timedelta(days=9999), 10, LEASE)
            return {each.course_id for each in claimed}, states

    assert ({"backing-off", "parked"}, [ParkedState.RETRYING]) == asyncio.run(due())


def test_pause_and_resume_are_told_and_kept(config: Path) -> None:
    """The list says so; a destination that nobody configured can't be paused."""
    assert 0 == run(config, "pause", "ehr").exit_code
    assert "paused for " in run(config).stdout.splitlines()[1]
    assert 0 == run(config, "resume", "ehr").exit_code
    assert 1 == run(config, "resume", "ehr").exit_code
    assert 2 == run(config, "pause", "nowhere").exit_code
    assert [None, None] == [each["pausedSince"] for each in listed(config)["destinations"]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7_199, "1 h"), (172_799, "47 h"), (172_800, "2 days")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: int, text: str) -> None:
    """Two days are still told in hours when nearly over."""
    assert text == age(timedelta(seconds=seconds))


def test_the_audit_trail_tells_what_was_written_where_and_what_was_refused(config: Path) -> None:
    """As a table, as JSON, and the writes as AuditEvents; of a course or of a patient."""
    lines = orjson.loads(run(config, "audit", "arrived", "--json").stdout)
    write = {"action": "create", "resource_type": "CarePlan", "resource_id": "cp-1", "version": "1"}
    assert [("ehr", "route", "success", write)] == [
        (each["destination"], each["route"], each["outcome"], each["write"]) for each in lines
    ]
    refused = run(config, "audit", "parked").stdout.splitlines()
    assert ["http-422"] == [outcome for line in refused[1:] for outcome in line.split() if outcome.startswith("http")]
    (event,) = [orjson.loads(line) for line in run(config, "audit", "anna", "--fhir").stdout.splitlines()]
    assert ("AuditEvent", "C", "http://127.0.0.1:9/fhir") == (
        event["resourceType"],
        event["action"],
        event["agent"][1]["network"]["address"],
    )
    assert 1 == run(config, "audit", "nobody").exit_code
