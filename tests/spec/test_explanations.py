"""Explanations: whatever a person reads of a course, `ipt-bridge explain` says which facts and which rule it rests on.

A statement without its facts and its source is an assertion; a clinician can check neither it nor the service.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from msgspec.structs import replace

from service.domain.course import (
    Answered,
    ChosenBy,
    Classification,
    Course,
    Decision,
    Documented,
    FindingState,
    FocusSpan,
    Outcome,
    PlannedSession,
    ProtocolSpan,
    Sex,
    WellBeing,
)
from service.domain.facts import Code
from service.domain.projection import project
from service.outbound.explain import Reason, explain
from service.outbound.narrative import Narrative, lines
from service.outbound.wording import sentence, title
from service.sandbox.patients import generate
from tests.courses import FIRST_SESSION, course, ending, states
from tests.property.strategies import START
from tests.workers import END, facts_by_patient

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

FORM = "QuestionnaireResponse/a"
DAY = date(2026, 1, 13)

# Which fields of the course each part of the narrative tells of.
TELLS_OF = {
    "headline": ("phase", "held", "planned_sessions"),
    "focus": ("focus_areas",),
    "scores": ("changes", "measures"),
    "attention": ("findings",),
    "notes": ("findings",),
    "assessment": ("documented",),
    "work": ("sessions", "changes", "well_being"),
    "ending": ("ending", "outcome"),
    "next": ("sessions", "planned", "projected_end", "phase"),
    "basis": ("encounters", "responses"),
}
# Fields that say which course it is: they head the explanation.
IDENTITY = {"id", "source", "patient_id"}


def every_field() -> Course:
    """Return a course in which no field is empty."""
    base = states()["closed"]
    middle = course()
    (firm,) = middle.findings
    return replace(
        base,
        latest=FIRST_SESSION,
        documented=(Documented("agreement", DAY, FORM),),
        findings=(replace(firm, state=FindingState.ANSWERED, answered=Answered(DAY, "Practitioner/t-1", "Task/t")),),
        projected_end=DAY,
        labels=(Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", "ETH"),),
        protocols=(ProtocolSpan("adult-standard", DAY, ChosenBy.FORM, FORM),),
        follows="an-earlier-course",
        sex=Sex.FEMALE,
        age=41,
        exclusions=(Documented("psychosis", DAY, FORM),),
        focus_history=(FocusSpan("grief", True, DAY, None, None, FORM),),  # noqa: FBT003 - the primary one
        planned=(PlannedSession(13, DAY, "role-dispute", "express-needs"),),
        well_being=(WellBeing("function", "poor", "good", DAY, DAY, FORM, FORM),),
        ending=ending(Decision.END),
        outcome=Outcome(DAY, Classification.RESPONSE, Decision.END, "phq-9", (FORM,)),
    )


def heads(reasons: tuple[Reason, ...]) -> set[str]:
    """Return the fields of the course that the reasons are about."""
    return {reason.field.partition("/")[0] for reason in reasons}


@pytest.fixture(scope="module")
def courses(mappings: Mappings) -> list[tuple[Course, frozenset[str]]]:
    """Courses of synthetic patients, each with the references of its patient's facts."""
    events = [event for patient in generate(7, 40, START) for event in patient.events]
    found = []
    for patient, facts in facts_by_patient(events, mappings).items():
        known = frozenset(f"{fact.key.resource_type}/{fact.key.resource_id}" for fact in facts)
        found += [(each, known) for each in project(patient, facts, END, mappings).courses]
    assert len(found) >= 40
    return found


def test_every_field_of_a_course_is_explained(mappings: Mappings) -> None:
    """A new field fails here until it is explained."""
    assert {field.name for field in structs.fields(Course)} == heads(explain(every_field(), mappings)) | IDENTITY


def test_every_sentence_of_the_narrative_has_a_reason_with_facts_and_a_source(
    mappings: Mappings, courses: list[tuple[Course, frozenset[str]]]
) -> None:
    """Each part that is not empty has a field that explains it, down to a resource of the patient."""
    assert set(TELLS_OF) == {field.name for field in fields(Narrative)}
    for each, _ in courses:
        reasons = explain(each, mappings)
        narrative = lines(each, mappings)
        for part, about in TELLS_OF.items():
            silent = not getattr(narrative, part) or (part == "focus" and not each.focus_areas)
            behind = [reason for reason in reasons if reason.field.partition("/")[0] in about]
            assert silent or any(reason.rests_on() and reason.source for reason in behind), (part, narrative)


def test_what_needs_attention_and_how_scores_moved_is_explained_in_the_same_words(
    mappings: Mappings, courses: list[tuple[Course, frozenset[str]]]
) -> None:
    """Each finding of the narrative is found in the explanation by its sentence, each score by its instrument."""
    for each, _ in courses:
        narrative = lines(each, mappings)
        told = [reason.text for reason in explain(each, mappings)]
        for said in (*narrative.attention, *narrative.notes):
            findings = [sentence(finding, mappings) for finding in each.findings]
            behind = [text for text in findings if said.lower().startswith(text.lower())]
            assert said.startswith("And ") or any(text in reason for text in behind for reason in told), said
        for said in narrative.scores:
            instruments = {title(mappings, measure.instrument) for measure in each.measures}
            named = [name for name in instruments if name in said]
            assert any(name in reason for name in named for reason in told), said


def test_every_statement_has_a_source(mappings: Mappings, courses: list[tuple[Course, frozenset[str]]]) -> None:
    """A rule or protocol with its version, a form, or the facts as they are."""
    for each, _ in courses:
        assert [] == [reason for reason in explain(each, mappings) if not reason.source]


def test_every_fact_that_an_explanation_names_is_the_patients(
    mappings: Mappings, courses: list[tuple[Course, frozenset[str]]]
) -> None:
    """Nothing is invented, and nobody else's is shown."""
    for each, known in courses:
        named = {fact for reason in explain(each, mappings) for fact in reason.rests_on()}
        assert {fact for fact in named if not fact.startswith("EpisodeOfCare/")} <= known


def test_a_finding_reads_as_in_the_plan_and_names_its_rule_with_its_version(mappings: Mappings) -> None:
    """One wording for the plan and for the explanation of it."""
    (firm,) = course().findings
    (reason,) = explain(course(), mappings, "review.firm")
    assert sentence(firm, mappings) in reason.text
    assert reason.source.startswith("rule review.firm v1; ICSI")
    assert set(firm.facts) == reason.rests_on()


def test_a_field_may_be_asked_for_by_its_name_or_its_beginning(mappings: Mappings) -> None:
    """`ipt-bridge explain COURSE FIELD`."""
    assert ["phase"] == [reason.field for reason in explain(course(), mappings, "phase")]
    assert {"changes/phq-9", "changes/gad-7"} == {each.field for each in explain(course(), mappings, "changes")}
    with pytest.raises(KeyError):
        explain(course(), mappings, "no-such-field")


def test_a_session_of_which_only_an_encounter_tells_says_so(mappings: Mappings) -> None:
    """Held without a form: kept, and shown as such."""
    (reason,) = explain(course(), mappings, "sessions/3")
    assert "no form tells of it" in reason.text
    (reason,) = explain(course(), mappings, "sessions/4")
    assert "no form tells of it" not in reason.text
    assert "techniques: communication analysis" in {inner.text for inner in reason.because}


def test_every_way_to_choose_a_protocol_is_worded(mappings: Mappings) -> None:
    """By the form, by the site, by default."""
    spans = tuple(ProtocolSpan("adult-standard", DAY, by) for by in ChosenBy)
    texts = [reason.text for reason in explain(replace(course(), protocols=spans), mappings, "protocols")]
    assert len(ChosenBy) == len(set(texts)) == len(texts)
