"""Readings agree with the full FHIR models on resources that are valid."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from fhir.resources.encounter import Encounter as R5Encounter
from fhir.resources.questionnaireresponse import QuestionnaireResponse as R5Response
from fhir.resources.R4B.encounter import Encounter as R4Encounter
from fhir.resources.R4B.questionnaireresponse import QuestionnaireResponse as R4Response
from hypothesis import given
from hypothesis import strategies as st

from service.domain.codes import LOINC, SNOMED_CT
from service.domain.facts import Answer, Code, EncounterReading, Fact, ResponseReading
from service.inbound.changes import Change, Operation
from service.inbound.conformance import deviations
from tests.property.records import read

IPT = {"system": SNOMED_CT, "code": "443730003"}

FORM = "https://ipt-bridge.org/fhir/Questionnaire/ipt-session"

codes = st.builds(
    lambda system, code: {"system": system, "code": code},
    st.sampled_from([SNOMED_CT, LOINC, "urn:other"]),
    st.text("ABCabc0123-", min_size=1, max_size=8).filter(lambda code: code.strip() == code),
)
concepts = st.builds(lambda codings: {"coding": codings}, st.lists(codes, min_size=1, max_size=2))
ids = st.text("abcXYZ019-.", min_size=1, max_size=20)
times = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive


def optional(**elements: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw any of these elements."""
    return st.fixed_dictionaries({}, optional=elements)


def references(resource_type: str) -> st.SearchStrategy[dict[str, str]]:
    """Draw a reference to a resource."""
    return st.builds(lambda identity: {"reference": f"{resource_type}/{identity}"}, ids)


periods = st.builds(
    lambda one, other: {"start": min(one, other).isoformat(), "end": max(one, other).isoformat()}, times, times
)
r4_encounters = st.builds(
    lambda required, more: {"resourceType": "Encounter", **required, **more},
    st.fixed_dictionaries(
        {
            "id": ids,
            "status": st.sampled_from(["planned", "in-progress", "finished", "cancelled", "entered-in-error"]),
            "class": codes,
            "type": st.lists(concepts, max_size=2).map(lambda more: [{"coding": [IPT]}, *more]),
            "subject": references("Patient"),
        }
    ),
    optional(
        period=periods,
        participant=st.lists(references("Practitioner").map(lambda who: {"individual": who}), min_size=1, max_size=2),
        reasonCode=st.lists(concepts, min_size=1, max_size=2),
        episodeOfCare=st.lists(references("EpisodeOfCare"), min_size=1, max_size=2),
        partOf=references("Encounter"),
    ),
)
answers = st.one_of(
    codes.map(lambda coding: {"valueCoding": coding}),
    st.integers(0, 40).map(lambda number: {"valueInteger": number}),
    st.booleans().map(lambda truth: {"valueBoolean": truth}),
)
items = st.recursive(
    st.builds(lambda link_id, answer: {"linkId": link_id, "answer": [answer]}, ids, answers),
    lambda inner: st.builds(
        lambda link_id, nested: {"linkId": link_id, "item": nested}, ids, st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)
responses = st.builds(
    lambda required, more: {"resourceType": "QuestionnaireResponse", **required, **more},
    st.fixed_dictionaries(
        {
            "id": ids,
            "status": st.sampled_from(["in-progress", "completed", "amended", "stopped", "entered-in-error"]),
            # A form's: of an instrument's, answers under linkIds that nobody knows would be parked.
            "questionnaire": st.sampled_from([FORM, f"{FORM}|2.1"]),
            "subject": references("Patient"),
        }
    ),
    optional(
        authored=times.map(datetime.isoformat),
        encounter=references("Encounter"),
        author=references("Practitioner"),
        item=st.lists(items, min_size=1, max_size=4),
    ),
)


def fact_of(resource: dict[str, Any]) -> Fact:
    """Return the one fact that a resource becomes."""
    (fact,) = read(orjson.dumps(resource)).facts
    return fact


def as_codes(model_concepts: Any) -> tuple[Code, ...]:  # noqa: ANN401 - models of two FHIR versions
    """Return the codes of modelled CodeableConcepts."""
    return tuple(
        dict.fromkeys(Code(coding.system, coding.code) for concept in model_concepts or () for coding in concept.coding)
    )


def as_names(model_references: Any) -> tuple[str, ...]:  # noqa: ANN401 - models of two FHIR versions
    """Return modelled references, sorted, each once."""
    return tuple(sorted({each.reference for each in model_references}))


@given(r4_encounters)
def test_encounter_readings_agree_with_the_r4_model(resource: dict[str, Any]) -> None:
    """On every element that is read."""
    model: Any = R4Encounter.model_validate(resource)
    fact = fact_of(resource)

    assert f"Patient/{fact.patient_id}" == model.subject.reference
    assert (
        EncounterReading(
            status=model.status,
            types=as_codes(model.type),
            classes=(Code(model.class_fhir.system, model.class_fhir.code),),
            reasons=as_codes(model.reasonCode),
            start=model.period.start if model.period else None,
            end=model.period.end if model.period else None,
            practitioners=as_names(who.individual for who in model.participant or ()),
            episodes=as_names(model.episodeOfCare or ()),
            part_of=model.partOf.reference if model.partOf else None,
        )
        == fact.reading
    )


@given(r4_encounters)
def test_r5_shape_of_an_encounter_reads_like_its_r4_shape(resource: dict[str, Any]) -> None:
    """The two are one fact, digest and all."""
    r5 = {name: value for name, value in resource.items() if name not in {"period", "reasonCode", "participant"}}
    r5 |= {"class": [{"coding": [resource["class"]]}]}
    r5 |= {"status": "completed"} if resource["status"] == "finished" else {}
    if "period" in resource:
        r5["actualPeriod"] = resource["period"]
    if "reasonCode" in resource:
        r5["reason"] = [{"value": [{"concept": concept}]} for concept in resource["reasonCode"]]
    if "participant" in resource:
        r5["participant"] = [{"actor": who["individual"]} for who in resource["participant"]]
    R5Encounter.model_validate(r5)

    assert fact_of(resource) == fact_of(r5)


def modelled_answers(model_items: Any) -> list[Answer]:  # noqa: ANN401 - models of two FHIR versions
    """Return the answers of modelled items, in document order."""
    found = []
    for item in model_items or ():
        for answer in item.answer or ():
            coding = answer.valueCoding
            found.append(
                Answer(
                    item.linkId,
                    codes=(Code(coding.system, coding.code),) if coding else (),
                    number=answer.valueInteger,
                    boolean=answer.valueBoolean,
                )
            )
        found += modelled_answers(item.item)
    return found


@given(responses, st.sampled_from([R4Response, R5Response]))
def test_response_readings_agree_with_the_models(resource: dict[str, Any], version: Any) -> None:  # noqa: ANN401 - two models
    """On every element that is read; a QuestionnaireResponse is the same in R4 and R5."""
    model: Any = version.model_validate(resource)
    fact = fact_of(resource)

    assert f"Patient/{fact.patient_id}" == model.subject.reference
    assert (
        ResponseReading(
            status=model.status,
            questionnaire=model.questionnaire.split("|")[0],
            authored=model.authored,
            encounter=model.encounter.reference if model.encounter else None,
            author=model.author.reference if model.author else None,
            answers=tuple(modelled_answers(model.item)),
        )
        == fact.reading
    )


@given(r4_encounters | responses)
def test_valid_resource_has_no_deviations(resource: dict[str, Any]) -> None:
    """The second opinion has nothing to say where there is nothing."""
    change = Change(resource["resourceType"], resource["id"], Operation.UPDATE, resource, path="")

    assert [] == deviations(change, "R4")
