"""What is ours of a hospital's stream, told on the raw JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.domain.codes import LOINC, SNOMED_CT
from service.domain.mapping_files import parse
from service.inbound.records import Reason, Unreadable
from service.inbound.relevance import Relevance

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

CPT = "http://www.ama-assn.org/go/cpt"
IPT = {"system": SNOMED_CT, "code": "443730003"}


def encounter(**elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return an Encounter."""
    return {"resourceType": "Encounter", "id": "e-1", **elements}


def response(**elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return a QuestionnaireResponse."""
    return {"resourceType": "QuestionnaireResponse", "id": "q-1", **elements}


@pytest.mark.parametrize(
    "resource",
    [
        encounter(type=[{"coding": [IPT]}]),
        encounter(type=[{"coding": [{"code": "x"}]}, {"coding": [{"system": CPT, "code": "90837"}]}]),
        encounter(type=[{"coding": [{"system": f" {CPT}", "code": "\t90791"}]}]),
        encounter(type=[{"coding": [{"system": "urn:oid:2.16.840.1.113883.6.12", "code": "90839"}]}]),
        encounter(serviceType={"coding": [IPT]}),
        encounter(serviceType=[{"concept": {"coding": [IPT]}}]),
        encounter(type={"coding": IPT}),
    ],
)
def test_encounter_is_ours_by_its_codes(relevance: Relevance, resource: dict[str, Any]) -> None:
    """Explicit IPT, psychotherapy, evaluation and crisis, in R4's and R5's shapes."""
    assert relevance.decide(resource, 100, "Encounter")


@pytest.mark.parametrize(
    "resource",
    [
        encounter(),
        encounter(type=[{"coding": [{"system": SNOMED_CT, "code": "185317003"}]}]),
        encounter(type=[{"coding": [{"system": "urn:other", "code": "443730003"}]}]),
        encounter(type=[{"coding": [{"system": CPT, "code": "90847"}]}]),
        encounter(**{"class": IPT}),
        encounter(type=[None, 7, {"coding": [None, 7, {"system": 7, "code": 90837}]}]),
        encounter(type="443730003"),
    ],
)
def test_other_encounters_are_not_ours(relevance: Relevance, resource: dict[str, Any]) -> None:
    """A code of another system, family therapy, or nothing that can be read."""
    assert not relevance.decide(resource, 100, "Encounter")


@pytest.mark.parametrize(
    "resource",
    [
        response(questionnaire="http://loinc.org/q/44249-1"),
        response(questionnaire="http://loinc.org/q/44249-1|2.77"),
        response(questionnaire="phq-9"),
        response(questionnaire="Questionnaire/phq-9"),
        response(questionnaire={"reference": "Questionnaire/phq-9"}),
        response(item=[{"linkId": "/44250-9"}]),
        response(item=[{"linkId": "group", "item": [{"linkId": "44250-9"}]}]),
        response(item=[{"linkId": "a", "answer": [{"valueBoolean": True, "item": [{"linkId": "phq9-9"}]}]}]),
        response(item=[{"linkId": "1", "code": [{"system": LOINC, "code": "44250-9"}]}]),
        response(questionnaire="https://elsewhere.example/Questionnaire/q", item=[{"linkId": "gad7-1"}]),
    ],
)
def test_response_is_ours_by_its_questionnaire_or_an_item(relevance: Relevance, resource: dict[str, Any]) -> None:
    """However deep the item is nested, and whatever the questionnaire is called."""
    assert relevance.decide(resource, 100, "QuestionnaireResponse")


def test_response_to_a_form_of_ours_is_ours(relevance: Relevance, mappings: Mappings) -> None:
    """Forms count like instruments."""
    canonical = next(iter(mappings.forms))

    assert relevance.decide(response(questionnaire=canonical), 100, "QuestionnaireResponse")


@pytest.mark.parametrize(
    "resource",
    [
        response(),
        response(questionnaire="http://loinc.org/q/69671-6", item=[{"linkId": "/69671-6"}]),
        response(questionnaire="http://loinc.org/q/55757-9", item=[{"linkId": "44250-9"}]),
        response(questionnaire="Questionnaire/55757-9", item=[{"linkId": "44250-9"}]),
        response(questionnaire="https://elsewhere.example/Questionnaire/phq-9"),
        response(item=[None, 7, {"linkId": 7}, {"answer": [None, 7]}, {"item": "44250-9"}]),
        response(item=[{"linkId": "1", "code": [{"system": "urn:other", "code": "44250-9"}]}]),
    ],
)
def test_other_responses_are_not_ours(relevance: Relevance, resource: dict[str, Any]) -> None:
    """Above all not a look-alike such as the PHQ-2, which shares items with the PHQ-9."""
    assert not relevance.decide(resource, 100, "QuestionnaireResponse")


def test_bare_questionnaire_id_that_several_have_names_none(mappings: Mappings) -> None:
    """A last segment is taken for a canonical only if one thing alone is meant by it."""
    ambiguous = mappings.model_copy(
        update={
            "instrument_by_questionnaire": {"https://a.example/q/mood": "phq-9", "https://b.example/q/mood": "gad-7"}
        }
    )

    relevance = Relevance.of(ambiguous)

    assert not relevance.decide(response(questionnaire="mood"), 100, "QuestionnaireResponse")
    assert relevance.decide(response(questionnaire="https://a.example/q/mood"), 100, "QuestionnaireResponse")


def test_sites_own_codes_and_questionnaires_are_ours(mapping_files: dict[str, bytes]) -> None:
    """A site adds to what is relevant."""
    site = b"""
    [[encounters.ipt]]
    system = "https://clinic.example/visit"
    code = "IPT-50"
    display = "IPT, 50 minutes"

    [instruments.phq-9]
    questionnaires = ["https://clinic.example/fhir/Questionnaire/mood-9"]
    """
    relevance = Relevance.of(parse({**mapping_files, "sites/clinic.toml": site}, "clinic"))

    own = encounter(type=[{"coding": [{"system": "https://clinic.example/visit", "code": "IPT-50"}]}])
    assert relevance.decide(own, 100, "Encounter")
    assert relevance.decide(
        response(questionnaire="https://clinic.example/fhir/Questionnaire/mood-9"), 100, "QuestionnaireResponse"
    )


@pytest.mark.parametrize(
    "questionnaire",
    [
        "http://loinc.org/q/44249-1",
        "phq-9",
        "https://elsewhere.example/Questionnaire/PHQ-9",
        "https://elsewhere.example/Questionnaire/clinic_gad7_v2|3",
    ],
)
def test_answers_of_an_instrument_whose_items_are_not_known_are_not_passed_over(
    relevance: Relevance, questionnaire: str
) -> None:
    """A score of 27 under linkIds that nobody has mapped would be lost, and its answer about self-harm with it."""
    answered = {"linkId": "q9", "answer": [{"valueInteger": 3}]}

    with pytest.raises(Unreadable) as caught:
        relevance.decide(response(questionnaire=questionnaire, item=[answered]), 100, "QuestionnaireResponse")

    assert (Reason.UNKNOWN_ITEMS, "QuestionnaireResponse.item") == (caught.value.reason, caught.value.path)


@pytest.mark.parametrize("link_id", ["Section-4/D0200I1", "D0150I2", "/D0200A"])
def test_items_of_an_instrument_in_another_form_are_not_passed_over(relevance: Relevance, link_id: str) -> None:
    """The Minimum Data Set asks the PHQ-9 among much else: what it says of self-harm is for a person."""
    answered = {"linkId": link_id, "answer": [{"valueCoding": {"system": "http://loinc.org", "code": "LA33-6"}}]}
    form = {"linkId": "Section-4", "item": [{"linkId": "Section-4/D0200", "item": [answered]}]}

    with pytest.raises(Unreadable) as caught:
        relevance.decide(response(questionnaire="MDS3.0-NC-1.17", item=[form]), 100, "QuestionnaireResponse")

    assert (Reason.UNKNOWN_ITEMS, "QuestionnaireResponse.item") == (caught.value.reason, caught.value.path)


@pytest.mark.parametrize(
    "item",
    [
        {"linkId": "Section-4/D0200I1"},
        {"linkId": "Section-3/C0200", "answer": [{"valueInteger": 3}]},
        {"linkId": "AD0200I1", "answer": [{"valueInteger": 3}]},
    ],
)
def test_other_parts_of_such_a_form_are_not_ours(relevance: Relevance, item: dict[str, Any]) -> None:
    """Nor is what nobody has answered."""
    assert not relevance.decide(response(questionnaire="MDS3.0-NC-1.17", item=[item]), 100, "QuestionnaireResponse")


@pytest.mark.parametrize(
    ("questionnaire", "item"),
    [
        ("phq-9", {"linkId": "q9"}),
        ("phq-9", {"linkId": "/44261-6", "answer": [{"valueInteger": 3}]}),
        ("phq-9", {"linkId": "/44260-8", "answer": [{"valueInteger": 3}]}),
        ("https://ipt-bridge.org/fhir/Questionnaire/ipt-session", {"linkId": "x", "answer": [{"valueInteger": 3}]}),
    ],
)
def test_response_that_is_known_in_part_is_read(relevance: Relevance, questionnaire: str, item: dict[str, Any]) -> None:
    """Unanswered, or with its total alone, or with one item that is known; forms leave out what they don't need."""
    assert relevance.decide(response(questionnaire=questionnaire, item=[item]), 100, "QuestionnaireResponse")


@pytest.mark.parametrize("name", ["phq-15", "phq-90", "PHQ-2", "graphq9", "epds", "audit-of-charts"])
def test_names_that_are_not_an_instruments_are_left_alone(relevance: Relevance, name: str) -> None:
    """Neither a longer number nor a longer word."""
    answered = {"linkId": "q9", "answer": [{"valueInteger": 3}]}

    assert not relevance.decide(
        response(questionnaire=f"https://elsewhere.example/Questionnaire/{name}", item=[answered]), 100, "x"
    )


def test_site_says_which_questionnaire_is_none_of_the_instruments(mapping_files: dict[str, bytes]) -> None:
    """And which linkIds are its own."""
    site = b"""
    other_questionnaires = ["https://clinic.example/fhir/Questionnaire/phq-9-training"]
    [instruments.phq-9]
    questionnaires = ["https://clinic.example/fhir/Questionnaire/mood-9"]
    [instruments.phq-9.link_ids]
    "mood.self-harm" = 9
    """
    relevance = Relevance.of(parse({**mapping_files, "sites/clinic.toml": site}, "clinic"))
    answered = [{"linkId": "mood.self-harm", "answer": [{"valueInteger": 3}]}]

    training = response(questionnaire="https://clinic.example/fhir/Questionnaire/phq-9-training", item=answered)
    mood = response(questionnaire="https://clinic.example/fhir/Questionnaire/mood-9", item=answered)

    assert not relevance.decide(training, 100, "QuestionnaireResponse")
    assert relevance.decide(mood, 100, "QuestionnaireResponse")


@pytest.mark.parametrize("questionnaire", ["phq-9", "https://elsewhere.example/Questionnaire/q"])
def test_response_with_more_items_than_allowed_is_not_read(relevance: Relevance, questionnaire: str) -> None:
    """Nested ones count, whether or not the questionnaire is known."""
    nested = {"linkId": "g", "item": [{"linkId": str(number)} for number in range(10)]}
    large = response(questionnaire=questionnaire, item=[nested, nested])

    with pytest.raises(Unreadable) as caught:
        relevance.decide(large, 21, "QuestionnaireResponse")

    assert (Reason.TOO_MANY_ITEMS, "QuestionnaireResponse.item") == (caught.value.reason, caught.value.path)
    relevance.decide(large, 22, "QuestionnaireResponse")
