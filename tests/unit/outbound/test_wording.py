"""How findings and values read."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from service.domain.course import Severity
from service.outbound.wording import clean, day, display, inner, joined, sentence
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

ON = date(2026, 3, 12)


def test_a_date_reads_the_same_in_every_locale() -> None:
    """Day, English month, year."""
    assert "1 Dec 2026" == day(date(2026, 12, 1))


def test_a_sentence_holds_the_values_of_its_finding(mappings: Mappings) -> None:
    """Dates as a person writes them, codes as they are displayed."""
    finding = courses.finding("data.form-of-cancelled", Severity.WARNING, ON, on="2026-03-12", state="no-show")
    expected = "a session form tells of 12 Mar 2026, and its encounter says no-show; it is not counted"
    assert expected == sentence(finding, mappings)


def test_a_sentence_without_its_value_says_so(mappings: Mappings) -> None:
    """A mapping may name a value that the rule does not give."""
    finding = courses.finding("course.stalled", Severity.WARNING, ON, last="2026-02-01")
    assert "no session since 1 Feb 2026 (? days or more): dropped out, or paused?" == sentence(finding, mappings)


def test_a_whole_number_has_no_fraction(mappings: Mappings) -> None:
    """Thresholds are numbers that may have one."""
    finding = courses.finding("course.stalled", Severity.WARNING, ON, last="soon", threshold=28.0)
    assert "no session since soon (28 days or more): dropped out, or paused?" == sentence(finding, mappings)


def test_what_only_looks_like_a_date_stays_as_it_is(mappings: Mappings) -> None:
    """The thirty-first of February."""
    finding = courses.finding("course.stalled", Severity.WARNING, ON, last="2026-02-31", threshold=28)
    assert sentence(finding, mappings).startswith("no session since 2026-02-31 ")


def test_a_finding_of_an_unknown_rule_reads_as_its_id(mappings: Mappings) -> None:
    """A stored course may be older than the mappings."""
    assert "retired.rule" == sentence(courses.finding("retired.rule", Severity.INFO, ON), mappings)


def test_a_code_without_a_display_reads_as_itself(mappings: Mappings) -> None:
    """As above, for codes."""
    assert "no-such-code" == display(mappings, "technique", "no-such-code")


def test_abbreviations_keep_their_capitals_inside_a_sentence() -> None:
    """Other words lose theirs."""
    assert ["AUDIT", "role play", ""] == [inner(text) for text in ("AUDIT", "Role play", "")]


def test_several_parts_are_joined_as_in_speech() -> None:
    """None, one, two, three."""
    assert ["", "a", "a and b", "a, b and c"] == [joined(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])]


def test_characters_that_xml_can_not_hold_are_replaced() -> None:
    """A chart that refuses the narrative would refuse the whole plan."""
    assert "a\ufffdb\ufffd\n" == clean("a\x00b\ud800\n")
