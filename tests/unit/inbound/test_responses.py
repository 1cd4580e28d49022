"""What is read of a QuestionnaireResponse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.domain.codes import LOINC
from service.domain.facts import Answer, Code, ResponseReading
from service.inbound.records import Reason, Unreadable
from service.inbound.responses import read_response

SEVERAL_DAYS = {"system": LOINC, "code": "LA6569-3", "display": "never kept"}
SEVERAL_DAYS_CODE = Code(LOINC, "LA6569-3")
ORDINAL = {"url": "http://hl7.org/fhir/StructureDefinition/ordinalValue", "valueDecimal": 1}
WEIGHT = {"url": "http://hl7.org/fhir/StructureDefinition/itemWeight", "valueDecimal": 1.0}


def reading_of(*items: Any, **elements: Any) -> ResponseReading:  # noqa: ANN401 - any item or element
    """Return the reading of a completed QuestionnaireResponse."""
    resource = {"status": "completed", "item": list(items), **elements}
    return read_response(resource, {}, ZoneInfo("America/New_York"), "QuestionnaireResponse")[0]


def answer(**value: Any) -> Answer | None:  # noqa: ANN401 - any value
    """Return what is read of an item with this one answer."""
    return next(iter(reading_of({"linkId": "q", "answer": [value]}).answers), None)


def test_response_is_read_whole() -> None:
    """Canonical without version, authored with its offset, references relative."""
    reading = reading_of(
        {"linkId": "/44250-9", "text": "never kept", "answer": [{"valueCoding": SEVERAL_DAYS}]},
        questionnaire=" http://loinc.org/q/44249-1|2.77",
        authored="2026-03-02T10:00:00-05:00",
        encounter={"reference": "https://ehr.example/fhir/Encounter/e-1"},
        author={"reference": "Practitioner/a"},
    )

    assert (
        ResponseReading(
            status="completed",
            questionnaire="http://loinc.org/q/44249-1",
            authored=datetime(2026, 3, 2, 15, tzinfo=UTC),
            encounter="Encounter/e-1",
            author="Practitioner/a",
            answers=(Answer("/44250-9", codes=(SEVERAL_DAYS_CODE,)),),
        )
        == reading
    )


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"valueInteger": 2}, Answer("q", number=2)),
        ({"valueInteger": 0}, Answer("q", number=0)),
        ({"valueDecimal": 1.5}, Answer("q", number=1.5)),
        ({"valueString": " 2 "}, Answer("q", number=2)),
        ({"valueInteger": "2"}, Answer("q", number=2)),
        ({"valueQuantity": {"value": 13, "unit": "{score}"}}, Answer("q", number=13)),
        ({"valueQuantity": {"value": "13"}}, Answer("q", number=13)),
        ({"valueBoolean": False}, Answer("q", boolean=False)),
        ({"valueCoding": {"code": " LA6569-3"}}, Answer("q", codes=(Code("", "LA6569-3"),))),
        ({"valueCoding": SEVERAL_DAYS | {"extension": [ORDINAL]}}, Answer("q", codes=(SEVERAL_DAYS_CODE,), ordinal=1)),
        ({"valueCoding": SEVERAL_DAYS, "extension": [ORDINAL]}, Answer("q", codes=(SEVERAL_DAYS_CODE,), ordinal=1)),
        ({"valueCoding": SEVERAL_DAYS | {"extension": [WEIGHT]}}, Answer("q", codes=(SEVERAL_DAYS_CODE,), ordinal=1)),
        ({"value": {"Coding": SEVERAL_DAYS}}, Answer("q", codes=(SEVERAL_DAYS_CODE,))),
        ({"valueCodeableConcept": {"coding": [SEVERAL_DAYS]}}, Answer("q", codes=(SEVERAL_DAYS_CODE,))),
        ({"valueCode": "LA6569-3"}, Answer("q", codes=(Code("", "LA6569-3"),))),
        ({"value": {"integer": 9}}, Answer("q", number=9)),
        ({"value": {"decimal": 0.5}}, Answer("q", number=0.5)),
        ({"value": {"Quantity": {"value": 9}}}, Answer("q", number=9)),
        ({"value": {"boolean": True}}, Answer("q", boolean=True)),
        ({"value": {"string": "9"}}, Answer("q", number=9)),
    ],
)
def test_coded_and_numeric_answers_are_read(value: dict[str, Any], read: Answer) -> None:
    """In FHIR's shape and in Aidbox's, as number or as digits."""
    assert read == answer(**value)


@pytest.mark.parametrize(
    "value",
    [
        {"valueString": "I wish I were dead"},
        {"valueString": "nan"},
        {"valueString": "1_000"},
        {"valueString": "٢"},
        {"valueString": "1e3"},
        {"valueCoding": {"display": "Several days"}},
        {"value": {"string": "I wish I were dead"}},
    ],
)
def test_words_are_noticed_and_never_kept(value: dict[str, Any]) -> None:
    """That an item was answered is known; in which words is not."""
    assert Answer("q") == answer(**value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"valueString": ""},
        {"valueInteger": None},
        {"valueInteger": "two"},
        {"valueInteger": True},
        {"valueBoolean": "true"},
        {"valueQuantity": {}},
        {"valueQuantity": "13"},
        {"_valueString": {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason"}]}},
        {"extension": [{"url": "https://clinic.example/score", "valueInteger": 3}]},
        {"extension": [{"url": ORDINAL["url"], "valueString": "1"}]},
    ],
)
def test_answer_without_a_value_is_none(value: dict[str, Any]) -> None:
    """A missing answer is missing, never zero."""
    assert answer(**value) is None


def test_items_are_read_in_groups_and_under_answers() -> None:
    """In document order, whatever they are nested in."""
    nested = {"linkId": "3", "answer": [{"valueInteger": 3}]}
    group = {"linkId": "g", "item": [{"linkId": "1", "answer": [{"valueInteger": 1}]}]}
    asking = {"linkId": "2", "answer": [{"valueBoolean": True, "item": [nested]}]}

    assert ["1", "2", "3"] == [found.link_id for found in reading_of(group, asking).answers]


def test_every_choice_of_a_repeated_answer_is_read() -> None:
    """Several boxes ticked are several codes of one answer, each once."""
    codings = [{"code": "grief"}, {"code": "role-dispute"}, {"code": "grief"}]

    (found,) = reading_of({"linkId": "focus", "answer": [{"valueCoding": coding} for coding in codings]}).answers

    assert (Code("", "grief"), Code("", "role-dispute")) == found.codes


def test_item_code_is_read_where_a_sender_writes_one() -> None:
    """FHIR has none there; it says more than a linkId does."""
    item = {"linkId": "1", "code": [{"system": LOINC, "code": "44250-9"}], "answer": [{"valueInteger": 1}]}

    (found,) = reading_of(item).answers

    assert (Code(LOINC, "44250-9"),) == found.item_codes


def test_aidbox_references_are_read() -> None:
    """Its own format has `{resourceType, id}` in place of a reference."""
    assert "Encounter/e-1" == reading_of(encounter={"resourceType": "Encounter", "id": "e-1"}).encounter


@pytest.mark.parametrize("status", [None, "", "Completed", "final", "finished"])
def test_status_unknown_to_fhir_is_not_guessed(status: str | None) -> None:
    """Whether answers stand is no guess."""
    with pytest.raises(Unreadable) as caught:
        reading_of(status=status)

    assert (Reason.BAD_STATUS, "QuestionnaireResponse.status") == (caught.value.reason, caught.value.path)


def test_time_that_is_none_is_not_guessed() -> None:
    """A score is placed on a curve by its time."""
    with pytest.raises(Unreadable) as caught:
        reading_of(authored="yesterday")

    assert (Reason.BAD_TIME, "QuestionnaireResponse.authored") == (caught.value.reason, caught.value.path)


@pytest.mark.parametrize(
    "elements",
    [{"questionnaire": {"reference": "Questionnaire/phq-9"}}, {"context": {"reference": "Encounter/1"}}, {"group": {}}],
    ids=["questionnaire", "context", "group"],
)
def test_older_fhir_is_refused_by_name(elements: dict[str, Any]) -> None:
    """STU3 refers to its questionnaire and has a context; DSTU2 has groups."""
    with pytest.raises(Unreadable) as caught:
        reading_of(**elements)

    assert caught.value.reason is Reason.OLD_FHIR_VERSION


def test_element_of_another_json_type_is_named() -> None:
    """By the path that a person finds it at."""
    with pytest.raises(Unreadable) as caught:
        reading_of({"linkId": "g", "item": [{"linkId": "q", "answer": [{"valueCoding": "LA6569-3"}]}]})

    assert (Reason.WRONG_TYPE, "QuestionnaireResponse.item[0].item[0].answer[0].valueCoding") == (
        caught.value.reason,
        caught.value.path,
    )
