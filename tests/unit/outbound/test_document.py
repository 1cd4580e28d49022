"""The plan as a document: what it says, and that nothing in it is more than text."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from service.domain.course import FocusArea
from service.domain.facts import Code
from service.outbound.careplan import render
from service.outbound.document import note, scores
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

PLAIN = {"html", "head", "meta", "title", "body", "h1", "h2", "div", "p", "b", "ul", "li"}


class _Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.seen.append((tag, attrs))


def page_of(resource: dict[str, object]) -> str:
    """Return the page of a note."""
    content = resource["content"]
    assert isinstance(content, list)
    return base64.b64decode(content[0]["attachment"]["data"]).decode()


def test_the_note_says_what_the_narrative_says_then_goals_and_sessions(mappings: Mappings) -> None:
    """The latest session first."""
    plan = render(courses.course(), mappings)
    page = page_of(note(plan))
    assert plan.resources[0][1]["text"]["div"] in page
    places = [page.index(each) for each in ("<h2>Goals", "PHQ-9) below 10", "<h2>Sessions", "Session 9,", "Session 1,")]
    assert sorted(places) == places


def test_the_note_carries_every_label_of_the_course(mappings: Mappings) -> None:
    """As a resource and as a document."""
    label = Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", "PSY")
    resource = note(render(courses.course(labels=(label,)), mappings))
    assert [{"system": label.system, "code": "PSY"}] == resource["meta"]["security"]
    assert [{"coding": resource["meta"]["security"]}] == resource["securityLabel"]


def test_the_same_plan_gives_the_same_note(mappings: Mappings) -> None:
    """No clock in it."""
    assert note(render(courses.course(), mappings)) == note(render(courses.course(), mappings))


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img/src=x/onerror=y>', "</div></body>&amp;"])
def test_nothing_in_a_note_is_more_than_text(text: str, mappings: Mappings) -> None:
    """Whatever a code says: no script, no link, no style, no handler."""
    since = courses.FIRST_SESSION.date()
    area = FocusArea(text, True, since, None, "QuestionnaireResponse/b")  # noqa: FBT003 - the primary one
    tags = _Tags(page_of(note(render(courses.course(focus_areas=(area,)), mappings)))).seen
    assert {tag for tag, _ in tags} <= PLAIN
    assert {name for _, attributes in tags for name, _ in attributes} <= {"lang", "charset", "xmlns"}


def test_each_total_is_a_score_and_an_incomplete_measure_is_none(mappings: Mappings) -> None:
    """A total that is not known is not zero."""
    course = courses.course()
    totals = [measure.total for measure in course.measures if measure.total is not None]
    found = [resource["valueQuantity"]["value"] for _, resource in scores(render(course, mappings))]
    assert totals == found
