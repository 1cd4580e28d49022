"""What real feeds hold, row by row, and what the service does about each: from the bytes to what they mean.

Counted in published data of EHRs, servers, implementation guides and apps. A row is a function; what is
parked names its element, what is doubtful is flagged, and nothing is guessed.
"""

from __future__ import annotations

import base64
import gzip
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from service.commands.inspection import Inspected, inspect
from service.domain.codes import LOINC, SNOMED_CT, as_written
from service.domain.course import SessionState
from service.domain.evidence import Meeting, Scored
from service.domain.facts import Code, PatientKey, merge
from service.domain.projection import project
from service.inbound.records import Limits, Record, SourceContext
from service.inbound.relevance import Relevance
from service.intake import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.domain.course import Measure
    from service.domain.mappings import Mappings

PHQ_9 = ["44250-9", "44255-8", "44259-0", "44254-1", "44251-7", "44258-2", "44252-5", "44253-3", "44260-8"]
GAD_7 = ["69725-0", "68509-9", "69733-4", "69734-2", "69735-9", "69689-8", "69736-7"]
ANSWERS = ["LA6568-5", "LA6569-3", "LA6570-1", "LA6571-9"]
ORDINAL = "http://hl7.org/fhir/StructureDefinition/ordinalValue"
WEIGHT = "http://hl7.org/fhir/StructureDefinition/itemWeight"
IPT = {"coding": [{"system": SNOMED_CT, "code": "443730003"}]}


@pytest.fixture
def read(mappings: Mappings) -> Callable[..., list[Inspected]]:
    """Return a function that says what becomes of one record of a clinic in New York."""
    relevance = Relevance.of(mappings)

    def read_it(
        value: object,
        *,
        limits: Limits | None = None,
        base: str | None = None,
        words: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Inspected]:
        texts = {as_written(text): Code(LOINC, ANSWERS[points]) for text, points in words.items()}
        source = SourceContext("clinic", ZoneInfo("America/New_York"), base, answer_texts=texts)
        written = value if isinstance(value, bytes) else orjson.dumps(value)
        record = Record("fhir", 0, 0, datetime(2026, 3, 9, tzinfo=UTC), None, written)
        return inspect(record, Feed(source, relevance, mappings), limits or Limits())

    return read_it


def encounter(**elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return an IPT session of 50 minutes."""
    return {
        "resourceType": "Encounter",
        "id": "ses-1",
        "status": "finished",
        "class": {"code": "AMB"},
        "type": [IPT],
        "subject": {"reference": "Patient/pat-1"},
        "period": {"start": "2026-03-02T10:00:00-05:00", "end": "2026-03-02T10:50:00-05:00"},
        **elements,
    }


def without(resource: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a copy that lacks these elements."""
    return {name: value for name, value in resource.items() if name not in names}


def coded(points: int, **coding: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return an answer by LOINC's code for these points."""
    return {"valueCoding": {"system": LOINC, "code": ANSWERS[points], **coding}}


def items(codes: list[str], points: list[int]) -> list[dict[str, Any]]:
    """Return items under their LOINC codes as linkIds, answered with these points in turn."""
    return [{"linkId": f"/{code}", "answer": [coded(each)]} for code, each in zip(codes, points, strict=False)]


def response(given: list[dict[str, Any]], **elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return a response of these items, to the PHQ-9 unless another questionnaire is named."""
    return {
        "resourceType": "QuestionnaireResponse",
        "id": "qr-1",
        "status": "completed",
        "questionnaire": "http://loinc.org/q/44249-1",
        "subject": {"reference": "Patient/pat-1"},
        "authored": "2026-03-02T09:55:00-05:00",
        "item": given,
        **elements,
    }


def parked(told: list[Inspected]) -> list[tuple[str, str | None]]:
    """Return reason and path of what is parked."""
    return [(each.parked.code, each.parked.path) for each in told if each.parked is not None]


def meeting(told: list[Inspected]) -> Meeting:
    """Return the one meeting that a record tells of; nothing of the record is parked."""
    assert not parked(told)
    (found,) = [found for each in told for found in each.evidence]
    assert isinstance(found, Meeting)
    return found


def measures(told: list[Inspected]) -> list[Measure]:
    """Return the measures that a record tells of; nothing of the record is parked."""
    assert not parked(told)
    return [found.measure for each in told for found in each.evidence if isinstance(found, Scored)]


# STU3 and DSTU2 shapes: refused as an old FHIR version.


@pytest.mark.parametrize(
    "old",
    [
        encounter(**{"class": "outpatient"}),
        without(encounter(patient={"reference": "Patient/pat-1"}), "subject"),
        response(items(PHQ_9, [1] * 9), questionnaire={"reference": "Questionnaire/44249-1"}),
        response(items(PHQ_9, [1] * 9), context={"reference": "Encounter/ses-1"}),
        without(response(items(PHQ_9, [1] * 9), group={"linkId": "g"}), "questionnaire"),
    ],
)
def test_shapes_of_older_fhir_are_refused_by_name(read: Callable[..., list[Inspected]], old: dict[str, Any]) -> None:
    """`class` as a string, `patient`, `questionnaire` as a Reference, `context`, `group`."""
    assert [("old-fhir-version", old["resourceType"])] == parked(read(old))


# R5 shapes in an R4 feed and the reverse: read by shape, not by label.


@pytest.mark.parametrize(
    "resource",
    [
        encounter(),
        encounter(status="completed"),
        encounter(**{"class": [{"coding": [{"code": "VR"}]}]}),
        without(encounter(actualPeriod=encounter()["period"], status="completed"), "period"),
        encounter(participant=[{"actor": {"reference": "Practitioner/a"}}]),
        encounter(serviceType=[{"concept": IPT}], type=[]),
        encounter(statusHistory=[{"status": "planned"}], classHistory=[], hospitalization={}, admission={}),
        encounter(extension=[{"url": "https://ehr.example/x", "valueString": "x"}], contained=[{"resourceType": "X"}]),
    ],
)
def test_r4_and_r5_are_read_by_their_shape(read: Callable[..., list[Inspected]], resource: dict[str, Any]) -> None:
    """One held session of 50 minutes, whichever version writes it, or both at once."""
    found = meeting(read(resource))

    assert (SessionState.HELD, 50) == (found.state, found.minutes)


@pytest.mark.parametrize(
    "written",
    [
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0004", "code": "O"},
        {"system": "urn:oid:2.16.840.1.113883.5.4", "code": "AMB"},
        {"code": "AMB"},
        {"coding": [{"code": "AMB"}], "text": "office"},
        [{"code": "AMB"}],
        [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}]}, {"text": "x"}],
        {},
        [],
    ],
)
def test_class_is_read_in_every_shape_and_system(read: Callable[..., list[Inspected]], written: object) -> None:
    """Coding or CodeableConcept, one or several, V2's codes or v3's: where a session was, not whether."""
    found = meeting(read(encounter(**{"class": written})))

    assert (SessionState.HELD, False) == (found.state, found.telehealth)


VIDEO = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"}


@pytest.mark.parametrize(
    "written", [VIDEO, [{"coding": [VIDEO]}], VIDEO | {"system": "urn:oid:2.16.840.1.113883.5.4"}, {"coding": VIDEO}]
)
def test_class_tells_a_visit_by_video(read: Callable[..., list[Inspected]], written: object) -> None:
    """In R4's shape and in R5's, by v3's URL and by its OID."""
    assert meeting(read(encounter(**{"class": written}))).telehealth


def test_element_that_stands_alone_is_a_list_of_one(read: Callable[..., list[Inspected]]) -> None:
    """As converters from XML write it."""
    who = {"individual": {"reference": "Practitioner/a"}}
    found = meeting(read(encounter(type={"coding": IPT["coding"][0]}, participant=who, reasonCode={"text": "x"})))
    assert (SessionState.HELD, ("Practitioner/a",)) == (found.state, found.practitioners)

    group = {"linkId": "g", "item": {"linkId": "/44260-8", "answer": coded(2)}}
    (measure,) = measures(read(response([], item=group, questionnaire=None)))
    assert 2 == measure.safety


@pytest.mark.parametrize(
    ("participant", "practitioners"),
    [
        ({"individual": {"reference": "Practitioner/a"}}, ("Practitioner/a",)),
        ({"actor": {"reference": "PractitionerRole/r"}}, ("PractitionerRole/r",)),
        (
            {"individual": {"identifier": {"system": "http://hl7.org/fhir/sid/us-npi", "value": "17"}}},
            ("Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|17",),
        ),
        ({"individual": {"display": "somebody"}}, ()),
        ({"actor": {"reference": "Patient/pat-1"}}, ()),
    ],
)
def test_practitioner_is_known_by_reference_or_identifier(
    read: Callable[..., list[Inspected]], participant: dict[str, Any], practitioners: tuple[str, ...]
) -> None:
    """And never by a name."""
    assert practitioners == meeting(read(encounter(participant=[participant]))).practitioners


# Encounter without class, period; impossible and odd times: the status and the code count the session.


@pytest.mark.parametrize(
    ("period", "minutes", "flagged"),
    [
        (None, None, False),
        ({}, None, False),
        ({"start": "2026-03-02T10:00:00Z"}, None, False),
        ({"start": "2026-03-02T10:00:00Z", "end": "2026-03-02T09:00:00Z"}, None, True),
        ({"start": "2025-03-02T10:00:00Z", "end": "2026-03-02T10:00:00Z"}, None, True),
        ({"start": "2026-03-02T10:00:00Z", "end": "2026-03-02T10:00:00Z"}, 0, False),
        ({"start": "2026-03-02T10:00:00Z", "end": "2026-03-02T10:05:00Z"}, 5, False),
        ({"start": "2026-03-02T10:00:00-04:56", "end": "2026-03-02T10:50:00-04:56"}, 50, False),
        ({"start": "2026-03-02T10:00:00+11:00", "end": "2026-03-02T10:50:00+11:00"}, 50, False),
        ({"start": "#NOW", "end": "2026-03-02T10:50:00Z"}, None, False),
        ({"start": "2026-03-02T10:00:00", "end": "2026-03-02T10:50:00"}, 50, False),
        ({"start": "2026-03-02T10:00", "end": "2026-03-02T10:50"}, 50, False),
        ({"start": "2026-03-02T10:00:00.1234567Z", "end": "2026-03-02T10:50:00.123456789Z"}, 50, False),
        ({"start": "2026-03-02T09:59:60Z", "end": "2026-03-02T10:49:59Z"}, 50, False),
        ({"start": "2026-03-02", "end": "2026-03-02"}, 0, False),
    ],
)
def test_times_that_can_not_be_leave_the_session_counted(
    read: Callable[..., list[Inspected]], period: dict[str, str] | None, *, minutes: int | None, flagged: bool
) -> None:
    """A duration that can't be is flagged; it parks nothing."""
    found = meeting(read(encounter(period=period)))

    assert (SessionState.HELD, minutes, flagged) == (found.state, found.minutes, found.odd_duration)


def test_time_without_zone_is_in_the_zone_of_its_source(read: Callable[..., list[Inspected]]) -> None:
    """New York's, summer and winter."""
    winter = meeting(read(encounter(period={"start": "2026-03-02T10:00:00"})))
    summer = meeting(read(encounter(period={"start": "2026-07-02T10:00:00"})))

    assert datetime(2026, 3, 2, 15, tzinfo=UTC) == winter.start
    assert datetime(2026, 7, 2, 14, tzinfo=UTC) == summer.start


def test_encounter_without_class_counts(read: Callable[..., list[Inspected]]) -> None:
    """The class says where a session was, not whether."""
    assert SessionState.HELD is meeting(read(without(encounter(), "class"))).state


def test_part_of_a_meeting_is_counted_with_it(read: Callable[..., list[Inspected]], mappings: Mappings) -> None:
    """A visit and the contact within it are one session."""
    visit = encounter(id="visit", period={"start": "2026-03-02T09:45:00-05:00", "end": "2026-03-02T11:00:00-05:00"})
    contact = encounter(id="contact", partOf={"reference": "Encounter/visit"})
    facts = [fact for each in (visit, contact) for told in read(each) if (fact := told.fact) is not None]

    (course,) = project(PatientKey("clinic", "pat-1"), facts, datetime(2026, 3, 3, tzinfo=UTC), mappings).courses

    assert [("contact", "visit")] == [each.encounters for each in course.sessions]


# Statuses that are no code of FHIR's.


@pytest.mark.parametrize("status", ["Finished", "final", "done", "", None])
def test_status_that_is_no_code_of_fhirs_is_parked(read: Callable[..., list[Inspected]], status: str | None) -> None:
    """The element is named; nobody guesses whether a session was held."""
    assert [("bad-status", "Encounter.status")] == parked(read(encounter(status=status)))
    assert [("bad-status", "QuestionnaireResponse.status")] == parked(read(response(items(PHQ_9, [1]), status=status)))


@pytest.mark.parametrize(
    ("status", "total", "safety"),
    [("completed", 9, 1), ("amended", 9, 1), ("in-progress", None, 1), ("stopped", None, 1)],
)
def test_unfinished_response_has_no_total_and_keeps_its_safety_answer(
    read: Callable[..., list[Inspected]], status: str, total: int | None, safety: int
) -> None:
    """A patient who stops after the self-harm item has answered it."""
    (measure,) = measures(read(response(items(PHQ_9, [1] * 9), status=status)))

    assert (total, safety) == (measure.total, measure.safety)


def test_response_entered_in_error_means_nothing(read: Callable[..., list[Inspected]]) -> None:
    """It takes the place of what was known, and says nothing itself."""
    (told,) = read(response(items(PHQ_9, [3] * 9), status="entered-in-error"))

    assert told.fact is not None
    assert () == told.evidence


# Encodings and broken JSON.


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: b"\n  " + text,
        gzip.compress,
        lambda text: text.decode().encode("utf-16"),
        lambda text: b"\0\0\0\0\x2a" + text,
    ],
    ids=["byte order mark", "white space", "gzip", "UTF-16", "schema id"],
)
def test_packed_and_marked_json_is_read(read: Callable[..., list[Inspected]], pack: Callable[[bytes], bytes]) -> None:
    """What converters and interface engines put around the same text."""
    assert SessionState.HELD is meeting(read(pack(orjson.dumps(encounter())))).state


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'<Encounter xmlns="http://hl7.org/fhir"/>', "xml"),
        (b'{"resourceType": "Encounter", "id": "ses-1",}', "not-json"),
        (b'{"resourceType": "Encounter", "length": {"value": NaN}}', "not-json"),
        (b'{"resourceType": "Encounter", "id": "\\ud800"}', "not-json"),
        (b'{"resourceType": "Encounter", "id": "ses-\xff"}', "not-utf8"),
        (b"\0\0\0\0\x2a\x06abc", "binary-format"),
        (b"", "empty"),
    ],
)
def test_what_is_no_json_is_parked_by_name(read: Callable[..., list[Inspected]], value: bytes, code: str) -> None:
    """Each with a reason that says what the sender has to change."""
    assert [(code, None)] == parked(read(value))


TWICE = b'"status":"cancelled","status":'


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: text,
        lambda text: text.replace(b",", b" ,\n").replace(b'":', b'" : '),
        lambda text: text.replace(b"2026-03-02T10:00", b"2026-03-02T10\\u003a00"),
        gzip.compress,
        lambda text: b'{"resource":' + text + b"}",
        lambda text: b"[" + text + b"]",
        lambda text: orjson.dumps({"payload": {"operationType": "UPDATE", "payload": text.decode()}}),
        lambda text: orjson.dumps({"payload": {"operationType": "UPDATE", "payload": base64.b64encode(text).decode()}}),
    ],
    ids=["as it is", "spaced", "escaped", "gzip", "wrapped", "array", "JSON string", "base64"],
)
def test_key_that_stands_twice_parks_what_is_ours(
    read: Callable[..., list[Inspected]], pack: Callable[[bytes], bytes]
) -> None:
    """Cancelled or finished: parsers disagree, and a session must not be counted by chance."""
    text = orjson.dumps(encounter())

    assert ["duplicate-key"] == [code for code, _ in parked(read(pack(text.replace(b'"status":', TWICE, 1))))]
    assert SessionState.HELD is meeting(read(pack(text))).state


def test_key_that_stands_twice_parks_its_own_resource_alone(read: Callable[..., list[Inspected]]) -> None:
    """The others of a Bundle, and of lines, are read; and it does not matter in what is not ours."""
    good, doubtful = orjson.dumps(encounter()), orjson.dumps(encounter(id="ses-2")).replace(b'"status":', TWICE, 1)
    foreign = b'{"resourceType":"Observation","id":"o","status":"final","status":"final"}'
    entries = b",".join(b'{"resource":' + each + b"}" for each in (good, doubtful, foreign))
    bundle = b'{"resourceType":"Bundle","type":"collection","entry":[' + entries + b"]}"

    told = read(bundle)
    assert [("duplicate-key", "Bundle.entry[1].resource")] == parked(told)
    assert ["Encounter/ses-1"] == [each.fact.key.reference for each in told if each.fact is not None]
    lines = read(b"\n".join((good, doubtful)))
    assert [("duplicate-key", "line[2].Encounter")] == parked(lines)
    assert 1 == sum(each.fact is not None for each in lines)


def test_key_that_stands_twice_around_resources_puts_all_in_doubt(read: Callable[..., list[Inspected]]) -> None:
    """A second `resource` of an entry takes the place of the first in most parsers: what was lost may be ours."""
    one, other = orjson.dumps(encounter()), orjson.dumps(encounter(id="ses-2"))
    entry = b'{"resource":' + one + b',"resource":' + other + b"}"
    bundle = b'{"resourceType":"Bundle","type":"collection","entry":[' + entry + b"]}"

    assert [("duplicate-key", "Bundle.entry[0].resource")] == parked(read(bundle))


# Caps, each at its limit.


def test_caps_hold_at_their_limits(read: Callable[..., list[Inspected]]) -> None:
    """Bytes, depth, items and entries: as much as is allowed is read, one more is parked."""
    session, answers = encounter(), response(items(PHQ_9, [1] * 9))
    size = len(orjson.dumps(session))
    entry = {"resource": session}
    entries = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}

    assert not parked(read(session, limits=Limits(bytes=size)))
    assert [("too-large", None)] == parked(read(session, limits=Limits(bytes=size - 1)))
    assert not parked(read(gzip.compress(orjson.dumps(session)), limits=Limits(bytes=size)))
    assert [("too-large", None)] == parked(read(gzip.compress(orjson.dumps(session)), limits=Limits(bytes=size - 1)))
    assert not parked(read(session, limits=Limits(depth=5)))
    assert [("too-deep", None)] == parked(read(session, limits=Limits(depth=4)))
    assert not parked(read(answers, limits=Limits(items=9)))
    assert [("too-many-items", "QuestionnaireResponse.item")] == parked(read(answers, limits=Limits(items=8)))
    assert not parked(read(entries, limits=Limits(entries=1)))
    assert [("too-many-entries", "Bundle.entry")] == parked(
        read({**entries, "entry": [entry, entry]}, limits=Limits(entries=1))
    )


# Aidbox's own format.


def test_aidbox_format_is_read(read: Callable[..., list[Inspected]]) -> None:
    """`answer.value.Coding`, references as `{id, resourceType}`."""
    given = [
        {"linkId": code, "answer": [{"value": {"Coding": {"system": LOINC, "code": ANSWERS[1]}}}]} for code in PHQ_9
    ]
    (told,) = read(response(given, subject={"id": "pat-1", "resourceType": "Patient"}))

    assert told.fact is not None
    assert "pat-1" == told.fact.patient_id
    (measure,) = measures([told])
    assert 9 == measure.total


# Ids, codes and strings that FHIR forbids.


def test_ids_codes_and_strings_that_fhir_forbids_are_read(read: Callable[..., list[Inspected]]) -> None:
    """`_` in ids, a tab before a code, empty strings."""
    (told,) = read(
        encounter(
            id="ses_1",
            type=[{"coding": [{"system": SNOMED_CT, "code": "\t443730003", "display": ""}], "text": ""}],
            subject={"reference": "Patient/pat_1", "display": ""},
        )
    )

    assert told.fact is not None
    assert ("Encounter/ses_1", "pat_1") == (told.fact.key.reference, told.fact.patient_id)


# QuestionnaireResponse without subject, questionnaire or id.


@pytest.mark.parametrize(
    ("elements", "patient"),
    [
        ({"subject": {"reference": "Patient/pat-1"}}, "pat-1"),
        ({"subject": {"reference": "https://ehr.example/fhir/Patient/pat-1"}}, "pat-1"),
        ({"subject": {"reference": "https://ehr.example/fhir/Patient/pat-1/_history/4"}}, "pat-1"),
        ({"subject": {"reference": "urn:uuid:0f3b"}}, "0f3b"),
        ({"subject": {"reference": "pat-1", "type": "Patient"}}, "pat-1"),
        ({"subject": None, "source": {"reference": "Patient/pat-1"}}, "pat-1"),
    ],
)
def test_patient_is_read_from_every_form_of_reference(
    read: Callable[..., list[Inspected]], elements: dict[str, Any], patient: str
) -> None:
    """Relative, absolute within the base, a urn, an id with its type, or the source alone."""
    (told,) = read(response(items(PHQ_9, [1] * 9), **elements), base="https://ehr.example/fhir")

    assert told.fact is not None
    assert patient == told.fact.patient_id


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"subject": None}, "no-subject"),
        ({"subject": None, "source": {"reference": "Practitioner/a"}}, "no-subject"),
        ({"subject": {"display": "somebody"}}, "no-subject"),
        ({"subject": {"identifier": {"system": "urn:mrn", "value": "1"}}}, "unresolved-subject"),
        ({"subject": {"reference": "#contained"}}, "unresolved-subject"),
        ({"subject": {"reference": "Group/g-1"}}, "subject-not-a-patient"),
        ({"subject": {"reference": "https://elsewhere.example/fhir/Patient/pat-1"}}, "foreign-subject"),
        ({"subject": {"reference": "https://ehr.example/fhir-test/Patient/pat-1"}}, "foreign-subject"),
    ],
)
def test_answers_of_nobody_known_are_parked(
    read: Callable[..., list[Inspected]], elements: dict[str, Any], code: str
) -> None:
    """Answers in the wrong chart would be worse than answers that wait."""
    told = read(response(items(PHQ_9, [1] * 9), **elements), base="https://ehr.example/fhir")

    assert [(code, "QuestionnaireResponse.subject")] == parked(told)


def test_another_servers_patient_is_parked_from_the_source_too(read: Callable[..., list[Inspected]]) -> None:
    """Whichever element names it."""
    elsewhere = {"reference": "https://elsewhere.example/fhir/Patient/pat-1"}
    told = read(response(items(PHQ_9, [1] * 9), subject=None, source=elsewhere), base="https://ehr.example/fhir")

    assert [("foreign-subject", "QuestionnaireResponse.source")] == parked(told)


@pytest.mark.parametrize(
    "questionnaire",
    [
        None,
        "http://loinc.org/q/44249-1|2.77",
        "http://loinc.org/q/44249-1#a",
        "https://elsewhere.example/q",
        "phq-9",
    ],
)
def test_instrument_is_known_by_its_items_whatever_the_questionnaire_is_called(
    read: Callable[..., list[Inspected]], questionnaire: str | None
) -> None:
    """Missing, with a version, with a fragment, unknown, or an id alone."""
    (measure,) = measures(read(response(items(PHQ_9, [1] * 9), questionnaire=questionnaire)))

    assert ("phq-9", 9) == (measure.instrument, measure.total)


@pytest.mark.parametrize(
    "form",
    [
        {"url": "http://loinc.org/q/44249-1"},
        {"derivedFrom": ["http://loinc.org/q/44249-1|2.77"]},
        {"url": "https://clinic.example/adaptive/1"},
    ],
)
def test_instrument_is_known_by_the_questionnaire_that_a_response_contains(
    read: Callable[..., list[Inspected]], form: dict[str, Any]
) -> None:
    """By its canonical or by the codes of its items, under whatever linkIds; adaptive forms are sent so."""
    asked = [{"linkId": f"i{n}", "code": [{"system": LOINC, "code": code}]} for n, code in enumerate(PHQ_9)]
    contained = {"resourceType": "Questionnaire", "id": "form", "item": [{"linkId": "g", "item": asked}], **form}
    given = [{"linkId": f"i{n}", "answer": [coded(1)]} for n in range(9)]
    nested = [{"linkId": "g", "item": given}]
    (measure,) = measures(read(response(nested, questionnaire="#form", contained=[contained])))

    assert ("phq-9", 9) == (measure.instrument, measure.total)


@pytest.mark.parametrize("contained", [None, [], ["x"], [{"resourceType": "Questionnaire", "id": "other"}], {}])
def test_fragment_that_leads_nowhere_leaves_the_items_to_tell(
    read: Callable[..., list[Inspected]], contained: object
) -> None:
    """The linkIds are the instrument's own."""
    (measure,) = measures(read(response(items(PHQ_9, [1] * 9), questionnaire="#form", contained=contained)))

    assert 9 == measure.total


def test_response_without_id_is_parked(read: Callable[..., list[Inspected]]) -> None:
    """A correction of it could never be told from another one."""
    told = read(without(response(items(PHQ_9, [1] * 9)), "id"))

    assert [("no-id", "QuestionnaireResponse.id")] == parked(told)


# linkIds and groups.


@pytest.mark.parametrize(
    "spelling",
    [
        "/{loinc}",
        "{loinc}",
        "/44249-1/{loinc}",
        "http://loinc.org|{loinc}",
        "phq9-{n}",
        "phq-9-{n}",
        "PHQ-9.{n}",
        "phq9-item-{n}",
        "PHQ9_Q{n}",
        "phq9.q0{n}",
        "/PHQ-9/question-{n}",
        "Phq9Item{n}",
        "phq9:{n}",
    ],
)
def test_link_ids_are_read_in_every_published_spelling(read: Callable[..., list[Inspected]], spelling: str) -> None:
    """In groups within groups, as well."""
    given = [
        {"linkId": spelling.format(loinc=code, n=number), "answer": [coded(2)]} for number, code in enumerate(PHQ_9, 1)
    ]
    nested = [{"linkId": "page", "item": [{"linkId": "table", "item": given}]}]
    (measure,) = measures(read(response(nested, questionnaire=None)))

    assert 18 == measure.total


@pytest.mark.parametrize("link_id", ["phq9-10", "phq2-1", "phq15-1", "q1", "1", "phq9", "phq9-a", "phq-1", "144250-9"])
def test_link_ids_of_something_else_name_no_item(read: Callable[..., list[Inspected]], link_id: str) -> None:
    """Nearly the same is another question."""
    (told,) = read(response([{"linkId": link_id, "answer": [coded(3)]}], questionnaire=None))

    assert (False, None) == (told.relevant, told.fact)


@pytest.mark.parametrize(
    ("questionnaire", "link_id", "code"),
    [
        (
            "http://hl7.org/fhir/uv/sdc/Questionnaire/questionnaire-sdc-profile-example-PHQ9",
            "H1/T1/Q{n}",
            {"system": "http://hl7.org/fhir/uv/sdc/CodeSystem/CSPHQ9", "code": "Nearly every day"},
        ),
        ("Questionnaire/mii-qst-pro-phq-9", "PHQ.{n}", {"code": "LA6571-9"}),
        (
            "https://www.medizininformatik-initiative.de/fhir/ext/modul-pro/Questionnaire/mii-qst-pro-phq-9",
            "phq-phq9-q0{n}",
            {"system": LOINC, "code": "LA6571-9"},
        ),
    ],
)
def test_published_questionnaires_are_read_by_their_own_link_ids(
    read: Callable[..., list[Inspected]], questionnaire: str, link_id: str, code: dict[str, str]
) -> None:
    """And by their own answer codes; the same linkIds elsewhere mean nothing."""
    given = [{"linkId": link_id.format(n=number), "answer": [{"valueCoding": code}]} for number in range(1, 10)]

    (measure,) = measures(read(response(given, questionnaire=questionnaire)))

    assert 27 == measure.total
    assert [] == measures(read(response(given, questionnaire="https://elsewhere.example/q")))


def test_answers_that_nobody_can_place_are_parked(read: Callable[..., list[Inspected]]) -> None:
    """A PHQ-9 by name under linkIds that no mapping knows may hold an answer about self-harm."""
    given = [{"linkId": str(number), "answer": [coded(3)]} for number in range(1, 10)]

    assert [("unknown-items", "QuestionnaireResponse.item")] == parked(
        read(response(given, questionnaire="https://clinic.example/Questionnaire/PHQ9"))
    )


# Answers in words: by a site's mapping, else not at all.

WORDS = {"Several days": 1, "Nearly every day": 3}


@pytest.mark.parametrize(
    "answer",
    [
        {"valueString": "Several days"},
        {"valueString": "  several   DAYS "},
        {"valueCoding": {"display": "Several days"}},
        {"valueCoding": {"system": LOINC, "code": "", "display": "Several days"}},
        {"value": {"string": "Several days"}},
        {"value": {"Coding": {"display": "Several days"}}},
    ],
)
def test_words_are_an_answer_only_where_a_site_says_so(
    read: Callable[..., list[Inspected]], answer: dict[str, Any]
) -> None:
    """Off, they are flagged and never scored; on, they have the points of the code that they stand for."""
    given = [*items(PHQ_9, [1] * 8), {"linkId": "/44260-8", "answer": [answer]}]

    (off,) = measures(read(response(given)))
    assert (None, None, (9,)) == (off.total, off.safety, off.contradicted)
    (told,) = read(response(given), words=WORDS)
    (on,) = measures([told])
    assert (9, 1, ()) == (on.total, on.safety, on.contradicted)
    assert "everal" not in repr(told.fact)


@pytest.mark.parametrize(
    "answer",
    [
        {"valueString": "Often"},
        coded(0, display="Several days"),
        {"valueCoding": {"code": "x", "display": "Several days"}},
    ],
)
def test_code_goes_before_words_and_other_words_stay_unread(
    read: Callable[..., list[Inspected]], answer: dict[str, Any]
) -> None:
    """A code that is written decides, known or not."""
    given = [*items(PHQ_9, [1] * 8), {"linkId": "/44260-8", "answer": [answer]}]

    assert measures(read(response(given))) == measures(read(response(given), words=WORDS))


def test_version_read_with_words_goes_before_the_same_without(read: Callable[..., list[Inspected]]) -> None:
    """So that a backfill after the mapping was written brings what was not read before, whatever the digests are."""
    for number in range(20):
        given = [{"linkId": "/44260-8", "answer": [{"valueString": "Nearly every day"}]}]
        (off,) = read(response(given, id=f"qr-{number}"))
        (on,) = read(response(given, id=f"qr-{number}"), words=WORDS)
        assert off.fact is not None
        assert on.fact is not None
        assert merge(merge(None, on.fact), off.fact) == merge(merge(None, off.fact), on.fact) == on.fact


# Codings.


@pytest.mark.parametrize(
    ("answer", "points", "contradicted"),
    [
        ({"valueCoding": {"code": "LA6570-1"}}, 2, False),
        ({"valueCoding": {"system": LOINC, "code": " LA6570-1"}}, 2, False),
        ({"valueCoding": {"system": "LA6570-1", "code": LOINC}}, None, True),
        (coded(0, display="Nearly every day"), 0, False),
        ({"valueCoding": {"system": "urn:x", "code": "often"}}, None, True),
        (
            {
                **coded(2),
                "extension": [{"url": ORDINAL, "valueDecimal": 2}],
            },
            2,
            False,
        ),
        (
            {
                **coded(2),
                "extension": [{"url": ORDINAL, "valueDecimal": 4}],
            },
            2,
            True,
        ),
        (
            coded(2, extension=[{"url": WEIGHT, "valueDecimal": 1}]),
            2,
            True,
        ),
        ({"valueString": "Several days"}, None, True),
        ({"valueInteger": 2}, 2, False),
        ({"valueDecimal": 2.0}, 2, False),
        ({"valueString": "2"}, 2, False),
    ],
)
def test_code_decides_and_what_contradicts_it_is_flagged(
    read: Callable[..., list[Inspected]], answer: dict[str, Any], points: int | None, *, contradicted: bool
) -> None:
    """Displays and words never count, and words are flagged; a code and its system that changed places are no code."""
    given = items(PHQ_9, [1] * 9)
    given[2]["answer"] = [answer]

    (measure,) = measures(read(response(given)))

    assert (points, contradicted) == (measure.items[2], 3 in measure.contradicted)


@pytest.mark.parametrize(
    ("answers", "points", "contradicted"),
    [
        ([coded(2), coded(2)], 2, False),
        ([coded(1), coded(2)], None, True),
        (
            [{"valueCoding": {"system": SNOMED_CT, "code": "1"}, "extension": [{"url": ORDINAL, "valueDecimal": 2}]}],
            2,
            False,
        ),
        (
            [{"valueCoding": {"system": "urn:site", "code": "B", "extension": [{"url": WEIGHT, "valueInteger": 2}]}}],
            2,
            False,
        ),
        ([{"valueCoding": {"system": "urn:site", "code": "B"}}], None, True),
    ],
)
def test_several_answers_and_other_code_systems(
    read: Callable[..., list[Inspected]], answers: list[dict[str, Any]], points: int | None, *, contradicted: bool
) -> None:
    """The same twice is one; two that differ are none; a code of another system counts by the score that it carries."""
    given = items(PHQ_9, [1] * 9)
    given[2]["answer"] = answers

    (measure,) = measures(read(response(given)))

    assert (points, contradicted) == (measure.items[2], 3 in measure.contradicted)


def test_item_code_decides_over_the_link_id(read: Callable[..., list[Inspected]]) -> None:
    """And the contradiction is flagged."""
    given = items(PHQ_9, [1] * 8)
    given.append({"linkId": "/44250-9", "code": [{"system": LOINC, "code": "44260-8"}], "answer": [coded(2)]})

    (measure,) = measures(read(response(given)))

    assert (2, (9,)) == (measure.safety, measure.contradicted)


# Totals.


@pytest.mark.parametrize(
    ("codes", "link_id", "questionnaire"),
    [
        (PHQ_9, "phq9-total-score", "https://clinic.example/q"),
        (PHQ_9, "total-score", None),
        (GAD_7, "total-score", None),
        (GAD_7, "anxiety-score", "gad-7"),
    ],
)
def test_stated_total_is_found_under_its_published_link_ids(
    read: Callable[..., list[Inspected]], codes: list[str], link_id: str, questionnaire: str | None
) -> None:
    """As apps write it beside items under their LOINC codes."""
    total = {"linkId": link_id, "answer": [{"valueDecimal": 5}]}
    (measure,) = measures(read(response([*items(codes, [1] * 9), total], questionnaire=questionnaire)))

    assert (len(codes), 5) == (measure.total, measure.stated_total)


@pytest.mark.parametrize(("points", "stated"), [([1] * 9, 13), ([3] * 9, 23), ([3] * 9, 25), ([1, 2] + [0] * 7, 2)])
def test_total_is_recomputed_and_a_stated_one_kept_beside_it(
    read: Callable[..., list[Inspected]], points: list[int], stated: int
) -> None:
    """Both are shown; the items are right."""
    total = {"linkId": "/44261-6", "answer": [{"valueInteger": stated}]}
    (measure,) = measures(read(response([*items(PHQ_9, points), total])))

    assert (sum(points), stated) == (measure.total, measure.stated_total)


def test_missing_items_leave_no_total(read: Callable[..., list[Inspected]]) -> None:
    """5 of 7 items are no GAD-7, and are not prorated."""
    (measure,) = measures(read(response(items(GAD_7, [3] * 5), questionnaire="http://loinc.org/q/69737-5")))

    assert (None, None) == (measure.total, measure.band)
    assert (3, 3, 3, 3, 3, None, None) == measure.items


def test_missing_safety_item_is_not_zero(read: Callable[..., list[Inspected]]) -> None:
    """An adaptive PHQ-9 that leaves item 9 out has not asked."""
    (measure,) = measures(read(response(items(PHQ_9, [0] * 8))))

    assert (None, True) == (measure.safety, measure.safety_unanswered)


def test_low_total_does_not_hide_the_safety_item(read: Callable[..., list[Inspected]]) -> None:
    """PHQ-9 = 8 with item 9 = 1."""
    (measure,) = measures(read(response(items(PHQ_9, [1, 1, 1, 1, 1, 1, 1, 0, 1]))))

    assert (8, 1) == (measure.total, measure.safety)


# Look-alikes.


@pytest.mark.parametrize(
    ("questionnaire", "link_ids"),
    [
        ("http://loinc.org/q/55757-9", ["/44250-9", "/44255-8"]),
        ("https://elsewhere.example/Questionnaire/phq-15", ["69671-6", "69672-4"]),
        ("https://elsewhere.example/Questionnaire/prapare", ["93025-5", "56051-6"]),
        ("https://elsewhere.example/Questionnaire/promis-depression", ["61967-6", "61969-2"]),
    ],
)
def test_look_alikes_are_never_scored(
    read: Callable[..., list[Inspected]], questionnaire: str, link_ids: list[str]
) -> None:
    """PHQ-2, PHQ-15, PRAPARE and PROMIS, whose answers have the PHQ-9's codes."""
    (told,) = read(response([{"linkId": each, "answer": [coded(3)]} for each in link_ids], questionnaire=questionnaire))

    assert (False, None, None) == (told.relevant, told.fact, told.parked)


# What resources come in.


def test_each_response_in_a_record_stands_on_its_own(read: Callable[..., list[Inspected]]) -> None:
    """In a Bundle, in a wrapper, in lines."""
    one, other = response(items(PHQ_9, [1] * 9)), response(items(PHQ_9, [2] * 9), id="qr-2")
    broken = response(items(PHQ_9, [3] * 9), id="qr-3", status="final")
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in (one, broken, other)]}

    for value in (bundle, b"\n".join(orjson.dumps(each) for each in (one, broken, other))):
        told = read(value)

        assert [9, 18] == [measure.total for measure in measures([each for each in told if each.parked is None])]
        assert ["bad-status"] == [code for code, _ in parked(told)]
    assert [9] == [measure.total for measure in measures(read({"resource": one}))]


def test_status_of_a_subscription_is_no_event(read: Callable[..., list[Inspected]]) -> None:
    """The answer to `$status` is a searchset of what nobody reads."""
    status = {"resourceType": "SubscriptionStatus", "type": "query-status", "status": "active"}
    (told,) = read({"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": status}]})

    assert (False, None) == (told.relevant, told.parked)


@pytest.mark.parametrize("status", ["SubscriptionStatus", "AidboxSubscriptionStatus"])
def test_what_a_notification_only_names_waits_to_be_fetched(read: Callable[..., list[Inspected]], status: str) -> None:
    """An entry of fullUrl and request alone; the status may be of a type that FHIR does not know."""
    told = read(
        {
            "resourceType": "Bundle",
            "type": "history",
            "entry": [
                {"resource": {"resourceType": status, "type": "event-notification"}},
                {
                    "fullUrl": "https://ehr.example/fhir/Encounter/ses-1",
                    "request": {"method": "PUT", "url": "Encounter"},
                },
            ],
        }
    )

    assert [("reference-only", "Bundle.entry[1].resource")] == parked(told)


@pytest.mark.parametrize(
    "pack",
    [lambda text: text.decode(), lambda text: base64.b64encode(text).decode()],
    ids=["JSON string", "base64"],
)
def test_resource_within_a_string_is_read(read: Callable[..., list[Inspected]], pack: Callable[[bytes], str]) -> None:
    """As servers put it into a field of their own message."""
    message = {"payload": {"operationType": "UPDATE", "payload": pack(orjson.dumps(encounter()))}}

    assert SessionState.HELD is meeting(read(message)).state
