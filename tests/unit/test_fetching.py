"""Which versions count as fetched."""

from __future__ import annotations

from service.domain.facts import FactKey
from service.fetching import Versions

ONE, TWO, THREE = (FactKey("main", "Encounter", name) for name in ("1", "2", "3"))


def test_only_the_version_that_was_fetched_last_counts() -> None:
    """Versions are opaque: neither is greater; and what names none is always fetched."""
    versions = Versions()
    versions.note(ONE, "7")
    versions.note(ONE, "b")
    assert [False, True, False, False] == [versions.holds(ONE, each) for each in ("7", "b", "8", None)]
    assert not versions.holds(TWO, "b")


def test_what_was_fetched_longest_ago_is_forgotten() -> None:
    """However large the hospital is."""
    versions = Versions(2)
    for key in (ONE, TWO, ONE, THREE):
        versions.note(key, "1")
    assert [True, False, True] == [versions.holds(key, "1") for key in (ONE, TWO, THREE)]
