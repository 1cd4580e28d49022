"""Reading holds for any bytes: what a record holds never raises."""

from __future__ import annotations

import random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from service.domain.codes import LOINC, SNOMED_CT
from service.inbound.reading import RecordReading
from service.inbound.records import Reason
from tests.property.records import read

IPT = {"system": SNOMED_CT, "code": "443730003"}

ENCOUNTER: dict[str, Any] = {
    "resourceType": "Encounter",
    "id": "e-1",
    "meta": {"versionId": "3", "lastUpdated": "2026-03-01T09:00:00Z", "security": [{"code": "R"}]},
    "status": "finished",
    "class": {"code": "VR"},
    "type": [{"coding": [IPT]}],
    "serviceType": {"coding": [IPT]},
    "subject": {"reference": "Patient/p-1"},
    "period": {"start": "2026-03-01T09:00:00Z", "end": "2026-03-01T10:00:00Z"},
    "participant": [{"individual": {"reference": "Practitioner/a"}}],
    "reason": [{"value": [{"concept": {"coding": [IPT]}, "reference": {"reference": "Condition/c"}}]}],
    "diagnosis": [{"condition": {"reference": "Condition/c"}}],
    "episodeOfCare": [{"reference": "EpisodeOfCare/ep"}],
    "partOf": {"reference": "Encounter/e-0"},
    "location": [{"location": {"reference": "Location/l"}}],
}
RESPONSE: dict[str, Any] = {
    "resourceType": "QuestionnaireResponse",
    "id": "q-1",
    "meta": {"versionId": "1", "lastUpdated": "2026-03-01T09:00:00Z"},
    "status": "completed",
    "questionnaire": "http://loinc.org/q/44249-1|1",
    "subject": {"reference": "Patient/p-1"},
    "authored": "2026-03-01",
    "encounter": {"reference": "Encounter/e-1"},
    "author": {"reference": "Practitioner/a"},
    "item": [
        {"linkId": "44250-9", "answer": [{"valueCoding": {"system": LOINC, "code": "LA6569-3", "extension": []}}]},
        {"linkId": "g", "item": [{"linkId": "44255-8", "answer": [{"valueInteger": 1, "item": []}]}]},
        {"linkId": "a", "code": [{"code": "x"}], "answer": [{"value": {"Coding": {"code": "LA6569-3"}}}]},
        {"linkId": "t", "answer": [{"valueQuantity": {"value": 3}}, {"valueString": "3"}, {"valueBoolean": True}]},
    ],
}
BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "history",
    "timestamp": "2026-03-01T09:00:00Z",
    "entry": [
        {"fullUrl": "urn:uuid:5f0e", "resource": ENCOUNTER, "request": {"method": "PUT", "url": "Encounter/e-1"}},
        {"resource": RESPONSE, "response": {"etag": 'W/"1"', "lastModified": "2026-03-01T09:00:00Z"}},
        {"request": {"method": "DELETE", "url": "Encounter/e-2"}},
        {"fullUrl": "https://ehr.example/fhir/Encounter/e-3"},
    ],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fhir_words = st.sampled_from(
    [
        *ENCOUNTER,
        *RESPONSE,
        "resource",
        "entry",
        "coding",
        "code",
        "system",
        "reference",
        "valueCoding",
        "Bundle",
        "#",
        "",
    ]
)


def spots(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 - any JSON
    """Return the path of every value within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(spot for name, each in inner for spot in spots(each, (*above, name)))]


def put(value: Any, spot: tuple[Any, ...], other: object) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy of a value with another at one path."""
    if not spot:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[spot[0]] = put(copy[spot[0]], spot[1:], other)
    return copy


@given(st.binary(max_size=200) | json_values.map(orjson.dumps), st.none() | st.binary(max_size=40))
def test_no_bytes_raise(value: bytes, key: bytes | None) -> None:
    """Any value under any key is told apart, never an exception."""
    reading = read(value, key)

    assert reading.unreadable or reading.skipped or reading == RecordReading()


@given(st.binary(max_size=40) | json_values.map(orjson.dumps) | fhir_words.map(str.encode))
def test_no_key_raises(key: bytes) -> None:
    """A record without value is a delete or is unreadable, whatever its key holds."""
    reading = read(None, key)

    assert 1 == len(reading.facts) + len(reading.unreadable) + len(reading.skipped)


@given(
    st.sampled_from([ENCOUNTER, RESPONSE, BUNDLE, {"resource": RESPONSE}]).flatmap(
        lambda document: st.tuples(
            st.just(document),
            st.lists(st.tuples(st.sampled_from(spots(document)), json_values | fhir_words), min_size=1, max_size=3),
        )
    )
)
def test_no_wrong_element_raises(case: tuple[dict[str, Any], list[tuple[tuple[Any, ...], Any]]]) -> None:
    """Any JSON in the place of any element leaves a reading that names no value of it."""
    document: Any = case[0]
    for spot, other in case[1]:
        if spot in spots(document):
            document = put(document, spot, other)

    for _, problem in read(orjson.dumps(document)).unreadable:
        assert isinstance(problem.reason, Reason)
        assert problem.path is None or problem.path.isascii()


@given(st.binary(max_size=12), st.integers(0, 2**32))
def test_no_damaged_record_raises(damage: bytes, seed: int) -> None:
    """Bytes overwritten, lost or doubled anywhere in a good record."""
    good = orjson.dumps(BUNDLE)
    place = random.Random(seed).randrange(len(good))  # noqa: S311 - a place, no secret

    for value in (good[:place], good[:place] + damage + good[place + len(damage) :], good[:place] + good[place - 9 :]):
        assert isinstance(read(value), RecordReading)
