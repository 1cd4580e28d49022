"""No number of `mappings/` stands without the source that it comes from."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Keys that hold a number which nothing is compared with: identity, place or score of an answer, not a threshold.
NO_THRESHOLDS = {
    "version": "counts the changes of its entry",
    "item": "the number of an item",
    "asked_if": "the number of an item",
    "answers": "the score of an answer: the instrument's, named by its source",
    "maximum": "the highest score of an item or instrument: the instrument's, named by its source",
    "points": "scores of an answer: the instrument's, named by its source",
    "start": "the lowest total of a band: the instrument's, named by its source",
    "age_from": "a site's own choice, in a site's file",
    "age_below": "a site's own choice, in a site's file",
    "link_ids": "the number of an item, by a site's linkId",
}


def bare_numbers(table: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - a TOML file
    """Yield where a number stands with no source beside it."""
    if isinstance(table, dict):
        for name, inner in table.items():
            sourced = bool({"value", "unit", "source"} <= table.keys() and table["unit"] and table["source"])
            if name in NO_THRESHOLDS or (name == "value" and sourced):
                continue
            yield from bare_numbers(inner, f"{path}.{name}")
    elif isinstance(table, list):
        for number, inner in enumerate(table):
            yield from bare_numbers(inner, f"{path}[{number}]")
    elif isinstance(table, int | float) and not isinstance(table, bool):
        yield path


def test_every_number_has_a_unit_and_a_source(mapping_files: dict[str, bytes]) -> None:
    """Thresholds of rules, protocols, instruments and courses: none is left out."""
    files = {path: tomllib.loads(content.decode()) for path, content in mapping_files.items() if path.endswith(".toml")}
    assert [] == [f"{path}{place}" for path, table in files.items() for place in bare_numbers(table)]


def test_what_has_bands_items_or_answers_names_its_source(mapping_files: dict[str, bytes]) -> None:
    """The instrument's source stands for the scores of its answers, its maximum and its bands."""
    for path, content in mapping_files.items():
        table = tomllib.loads(content.decode()) if path.endswith(".toml") else {}
        if "bands" in table:
            assert table.get("source"), path


@pytest.mark.parametrize(
    "text",
    [
        "stalled_after = 28",
        "stalled_after = { value = 28, unit = 'days' }",
        "stalled_after = { value = 28, unit = 'days', source = '' }",
        "stalled_after = { value = 28, source = 'design' }",
        "[[rules]]\n[rules.thresholds]\nimprovement = 20",
        "[[items]]\nlimit = 3",
    ],
)
def test_a_number_without_source_is_found(text: str) -> None:
    """What the test above would find."""
    assert 1 == len(list(bare_numbers(tomllib.loads(text))))
