"""`ipt-bridge rules`, and the document made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from typer.testing import CliRunner

from service.cli import cli
from service.domain.catalogue import catalogue, markdown

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

MAPPINGS = Path(__file__).parents[2] / "mappings"


def test_the_document_is_what_the_command_writes(mappings: Mappings) -> None:
    """If this fails: ipt-bridge rules --markdown > mappings/RULES.md."""
    assert markdown(catalogue(mappings)) == (MAPPINGS / "RULES.md").read_text(encoding="utf-8")


def test_every_rule_protocol_and_instrument_is_listed_once(mappings: Mappings) -> None:
    """Nothing that decides something is left out."""
    listed = [entry.id for entry in catalogue(mappings)]
    assert sorted([*mappings.rules, *mappings.protocols, *mappings.instruments, "courses"]) == sorted(listed)


def test_numbers_come_with_unit_and_source() -> None:
    """As JSON, for other programs, in a fixed shape."""
    result = CliRunner().invoke(cli, ["rules", "--json"])
    assert 0 == result.exit_code
    entries = orjson.loads(result.stdout)
    assert all({"id", "version", "title", "thresholds", "source"} == set(entry) for entry in entries)
    assert all(entry["source"] for entry in entries)
    thresholds = [threshold for entry in entries for threshold in entry["thresholds"]]
    assert all({"name", "value", "unit", "source"} == set(threshold) for threshold in thresholds)
    assert all(threshold["unit"] and threshold["source"] for threshold in thresholds)
    phq_9 = next(entry for entry in entries if entry["id"] == "phq-9")
    values = {threshold["name"]: threshold["value"] for threshold in phq_9["thresholds"]}
    assert (5, 10, 6, 1) == tuple(
        values[name] for name in ("bands.mild", "caseness", "reliable_change", "safety.at_least")
    )


def test_the_table_names_a_rule_with_its_version_and_its_thresholds() -> None:
    """For people, at a terminal."""
    result = CliRunner().invoke(cli, ["rules"])
    assert 0 == result.exit_code
    assert "review.firm v" in result.stdout
    assert "improvement  25 %" in result.stdout
