"""Readings agree with the full FHIR models on resources that are valid."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

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
from service.inbound.encounters import STATUSES
from tests.property.records import read

IPT = {"system": SNOMED_CT, "code": "443730003"}

STAFF = ("Practitioner", "PractitionerRole")
ORDINAL = "http://hl7.org/fhir/StructureDefinition/itemWeight"
FORM = "https://ipt-bridge.org/fhir/Questionnaire/ipt-session"

codes = st.builds(
    lambda system, code: {"system": system, "code": code},
    st.sampled_from([SNOMED_CT, LOINC, "urn:other"]),
    st.text("ABCabc0123-", min_size=1, max_size=8).filter(lambda code: code.strip() == code),
)
concepts = st.builds(lambda codings: {"coding": codings}, st.lists(codes, min_size=1, max_size=2))
ids = st.text("abcXYZ019-.", min_size=1, max_size=20)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=5, minutes=45))])
instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=zones)  # noqa: DTZ001 - bounds are naive
times = instants.map(datetime.isoformat) | st.dates(date(1990, 1, 1), date(2090, 1, 1)).map(date.isoformat)
periods = st.fixed_dictionaries({}, optional={"start": times, "end": times})


def optional(**elements: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw any of these elements."""
    return st.fixed_dictionaries({}, optional=elements)


def references(*types: str) -> st.SearchStrategy[dict[str, str]]:
    """Draw a reference to a resource of one of these types."""
    return st.builds(lambda kind, identity: {"reference": f"{kind}/{identity}"}, st.sampled_from(types), ids)


def several(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw a list of one or two."""
    return st.lists(inner, min_size=1, max_size=2)


def within(name: str, inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw an element that has this element alone."""
    return inner.map(lambda value: {name: value})


metas = optional(
    versionId=st.integers(1, 999).map(str), lastUpdated=instants.map(datetime.isoformat), security=several(codes)
)
people = references("Practitioner", "PractitionerRole", "RelatedPerson")
diagnosed = references("Condition", "Procedure")
_SHARED: dict[str, st.SearchStrategy[Any]] = {
    "meta": metas,
    "episodeOfCare": several(references("EpisodeOfCare")),
    "partOf": references("Encounter"),
    "location": several(within("location", references("Location"))),
}
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
        **_SHARED,
        period=periods,
        serviceType=concepts,
        participant=several(within("individual", people)),
        reasonCode=several(concepts),
        reasonReference=several(diagnosed),
        diagnosis=several(within("condition", diagnosed)),
        basedOn=several(references("ServiceRequest")),
    ),
)
codeable = within("concept", concepts) | within("reference", diagnosed)
r5_encounters = st.builds(
    lambda required, more: {"resourceType": "Encounter", **required, **more},
    st.fixed_dictionaries(
        {
            "id": ids,
            "status": st.sampled_from(
                [status for status in STATUSES if status not in {"arrived", "triaged", "onleave"}]
            ),
            "class": several(concepts),
            "type": st.lists(concepts, max_size=2).map(lambda more: [{"coding": [IPT]}, *more]),
            "subject": references("Patient"),
        }
    ),
    optional(
        **_SHARED,
        actualPeriod=periods,
        plannedStartDate=times,
        plannedEndDate=times,
        serviceType=several(within("concept", concepts)),
        participant=several(within("actor", people)),
        reason=several(within("value", several(codeable))),
        diagnosis=several(within("condition", several(codeable))),
        basedOn=several(references("CarePlan", "ServiceRequest")),
    ),
)
ordinals = st.integers(0, 4).map(lambda score: [{"url": ORDINAL, "valueDecimal": score}])
answers = st.one_of(
    st.builds(lambda coding, more: {"valueCoding": coding | more}, codes, optional(extension=ordinals)),
    st.builds(lambda coding, more: {"valueCoding": coding} | more, codes, optional(extension=ordinals)),
    st.integers(0, 40).map(lambda number: {"valueInteger": number}),
    st.integers(0, 400).map(lambda tenths: {"valueDecimal": tenths / 10}),
    st.integers(0, 40).map(lambda number: {"valueQuantity": {"value": number}}),
    st.integers(0, 40).map(lambda number: {"valueString": str(number)}),
    st.sampled_from(["never", "a few days"]).map(lambda words: {"valueString": words}),
    st.booleans().map(lambda truth: {"valueBoolean": truth}),
)
items = st.recursive(
    st.builds(lambda link_id, given: {"linkId": link_id, "answer": given}, ids, several(answers)),
    lambda inner: st.one_of(
        st.builds(lambda link_id, nested: {"linkId": link_id, "item": nested}, ids, several(inner)),
        st.builds(
            lambda link_id, answer, nested: {"linkId": link_id, "answer": [answer | {"item": nested}]},
            ids,
            answers,
            several(inner),
        ),
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
        meta=metas,
        authored=times,
        encounter=references("Encounter"),
        author=references("Practitioner", "Patient"),
        item=st.lists(items, min_size=1, max_size=4),
    ),
)


def fact_of(resource: dict[str, Any]) -> Fact:
    """Return the one fact that a resource becomes."""
    (fact,) = read(orjson.dumps(resource)).facts
    return fact


def as_codes(*model_concepts: Any) -> tuple[Code, ...]:  # noqa: ANN401 - models of two FHIR versions
    """Return the codes of modelled CodeableConcepts, each once."""
    return tuple(dict.fromkeys(Code(coding.system, coding.code) for each in model_concepts for coding in each.coding))


def as_names(model_references: Any, *types: str) -> tuple[str, ...]:  # noqa: ANN401 - models of two FHIR versions
    """Return modelled references to resources of these types, or of any, sorted, each once."""
    found = {each.reference for each in model_references if each is not None}
    return tuple(sorted(name for name in found if not types or name.split("/")[0] in types))


def as_instant(value: date | datetime | None) -> datetime | None:
    """Return the instant of a modelled dateTime: a date alone begins at the clinic's midnight."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.combine(value, time(), ZoneInfo("America/New_York"))


def check_what_every_fact_says(fact: Fact, model: Any) -> None:  # noqa: ANN401 - models of two FHIR versions
    """Hold key, order, patient and labels against a model."""
    assert (model.id, f"Patient/{fact.patient_id}") == (fact.key.resource_id, model.subject.reference)
    meta = model.meta
    labels = {Code(each.system, each.code) for each in (meta.security or ())} if meta else set()
    assert tuple(sorted(labels)) == fact.labels
    if meta and meta.lastUpdated:
        since = meta.lastUpdated - datetime(1970, 1, 1, tzinfo=UTC)
        assert since // timedelta(microseconds=1) == fact.order.last_updated
    if meta and meta.versionId:
        assert int(meta.versionId) == fact.order.version


@given(r4_encounters)
def test_encounter_readings_agree_with_the_r4_model(resource: dict[str, Any]) -> None:
    """On every element that is read."""
    model: Any = R4Encounter.model_validate(resource)
    fact = fact_of(resource)
    period = model.period
    conditions = [*(model.reasonReference or ()), *(each.condition for each in model.diagnosis or ())]

    check_what_every_fact_says(fact, model)
    assert (
        EncounterReading(
            status=model.status,
            types=as_codes(*model.type, *filter(None, [model.serviceType])),
            classes=(Code(model.class_fhir.system, model.class_fhir.code),),
            reasons=as_codes(*(model.reasonCode or ())),
            start=as_instant(period.start) if period else None,
            end=as_instant(period.end) if period else None,
            practitioners=as_names((who.individual for who in model.participant or ()), *STAFF),
            episodes=as_names(model.episodeOfCare or ()),
            based_on=as_names(model.basedOn or ()),
            part_of=model.partOf.reference if model.partOf else None,
            conditions=as_names(conditions, "Condition"),
            locations=as_names(each.location for each in model.location or ()),
        )
        == fact.reading
    )


@given(r5_encounters)
def test_encounter_readings_agree_with_the_r5_model(resource: dict[str, Any]) -> None:
    """On every element that is read; statuses have R4's names."""
    model: Any = R5Encounter.model_validate(resource)
    fact = fact_of(resource)
    period = model.actualPeriod
    start, end = (period.start, period.end) if period else (None, None)
    reasons = [value for reason in model.reason or () for value in reason.value]
    diagnoses = [condition for each in model.diagnosis or () for condition in each.condition]

    check_what_every_fact_says(fact, model)
    assert (
        EncounterReading(
            status=STATUSES[model.status],
            types=as_codes(*model.type, *(each.concept for each in model.serviceType or ())),
            classes=as_codes(*model.class_fhir),
            reasons=as_codes(*(each.concept for each in reasons if each.concept)),
            start=as_instant(start or model.plannedStartDate),
            end=as_instant(end or model.plannedEndDate),
            practitioners=as_names((who.actor for who in model.participant or ()), *STAFF),
            episodes=as_names(model.episodeOfCare or ()),
            based_on=as_names(model.basedOn or ()),
            part_of=model.partOf.reference if model.partOf else None,
            conditions=as_names((each.reference for each in (*reasons, *diagnoses)), "Condition"),
            locations=as_names(each.location for each in model.location or ()),
        )
        == fact.reading
    )


@given(r4_encounters)
def test_r5_shape_of_an_encounter_reads_like_its_r4_shape(resource: dict[str, Any]) -> None:
    """The two are one fact, digest and all."""
    renamed = {"period", "reasonCode", "reasonReference", "participant", "serviceType", "diagnosis"}
    r5 = {name: value for name, value in resource.items() if name not in renamed}
    r5 |= {"class": [{"coding": [resource["class"]]}]}
    r5 |= {"status": "completed"} if resource["status"] == "finished" else {}
    if "period" in resource:
        r5["actualPeriod"] = resource["period"]
    if "serviceType" in resource:
        r5["serviceType"] = [{"concept": resource["serviceType"]}]
    concepts_of = [{"concept": concept} for concept in resource.get("reasonCode", ())]
    references_of = [{"reference": reference} for reference in resource.get("reasonReference", ())]
    if concepts_of or references_of:
        r5["reason"] = [{"value": [*concepts_of, *references_of]}]
    if "diagnosis" in resource:
        r5["diagnosis"] = [{"condition": [{"reference": each["condition"]}]} for each in resource["diagnosis"]]
    if "participant" in resource:
        r5["participant"] = [{"actor": who["individual"]} for who in resource["participant"]]
    R5Encounter.model_validate(r5)

    assert fact_of(resource) == fact_of(r5)


def ordinal_of(*elements: Any) -> float | None:  # noqa: ANN401 - models of two FHIR versions
    """Return the score that the extensions of a modelled Coding or answer carry."""
    scores = [each for element in elements if element for each in element.extension or () if each.url == ORDINAL]
    return float(scores[0].valueDecimal) if scores else None


def modelled_answer(item: Any) -> Answer | None:  # noqa: ANN401 - models of two FHIR versions
    """Return what the answers of a modelled item say: all codes, and the first number, truth value and score."""
    found = Answer(item.linkId)
    answered = False
    for each in item.answer or ():
        coding, text = each.valueCoding, each.valueString
        quantity = each.valueQuantity.value if each.valueQuantity else None
        number = next(
            (float(n) for n in (each.valueInteger, each.valueDecimal, quantity) if n is not None),
            float(text) if text and text.isdigit() else None,
        )
        code = (Code(coding.system, coding.code),) if coding else ()
        found = Answer(
            found.link_id,
            codes=tuple(dict.fromkeys((*found.codes, *code))),
            number=number if found.number is None else found.number,
            boolean=each.valueBoolean if found.boolean is None else found.boolean,
            ordinal=ordinal_of(coding, each) if found.ordinal is None else found.ordinal,
        )
        answered = True
    return found if answered else None


def modelled_answers(model_items: Any) -> list[Answer]:  # noqa: ANN401 - models of two FHIR versions
    """Return the answers of modelled items, in document order."""
    found = []
    for item in model_items or ():
        if (answer := modelled_answer(item)) is not None:
            found.append(answer)
        found += modelled_answers(item.item)
        for each in item.answer or ():
            found += modelled_answers(each.item)
    return found


@given(responses, st.sampled_from([R4Response, R5Response]))
def test_response_readings_agree_with_the_models(resource: dict[str, Any], version: Any) -> None:  # noqa: ANN401 - two models
    """On every element that is read; a QuestionnaireResponse is the same in R4 and R5."""
    model: Any = version.model_validate(resource)
    fact = fact_of(resource)

    check_what_every_fact_says(fact, model)
    assert (
        ResponseReading(
            status=model.status,
            questionnaire=model.questionnaire.split("|")[0],
            authored=as_instant(model.authored),
            encounter=model.encounter.reference if model.encounter else None,
            author=model.author.reference if model.author else None,
            answers=tuple(modelled_answers(model.item)),
        )
        == fact.reading
    )


def check_that_nothing_deviates(resource: dict[str, Any], version: str) -> None:
    """Hold a resource against the full model of a version."""
    assert [] == deviations(Change(resource["resourceType"], resource["id"], Operation.UPDATE, resource, ""), version)


@given(r4_encounters | responses)
def test_valid_resource_has_no_deviations_from_r4(resource: dict[str, Any]) -> None:
    """The second opinion has nothing to say where there is nothing."""
    check_that_nothing_deviates(resource, "R4")


@given(r5_encounters | responses)
def test_valid_resource_has_no_deviations_from_r5(resource: dict[str, Any]) -> None:
    """As in R4."""
    check_that_nothing_deviates(resource, "R5")
