"""What is read of an Encounter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.domain.codes import SNOMED_CT
from service.domain.facts import Code, EncounterReading
from service.inbound.encounters import read_encounter
from service.inbound.records import Reason, Unreadable

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
IPT = {"system": SNOMED_CT, "code": "443730003", "display": "never kept"}
IPT_CODE = Code(SNOMED_CT, "443730003")
REASON = {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "F33.1"}
START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
END = datetime(2026, 3, 2, 15, 50, tzinfo=UTC)
WRITTEN = {"start": "2026-03-02T15:00:00Z", "end": "2026-03-02T15:50:00Z"}

READING = EncounterReading(
    status="finished",
    types=(IPT_CODE,),
    classes=(Code(ACT, "VR"),),
    reasons=(Code("http://hl7.org/fhir/sid/icd-10-cm", "F33.1"),),
    start=START,
    end=END,
    practitioners=("Practitioner/a", "PractitionerRole/b"),
    episodes=("EpisodeOfCare/ep-1",),
    based_on=("ServiceRequest/s-1",),
    part_of="Encounter/e-0",
    conditions=("Condition/c-1", "Condition/c-2"),
    locations=("Location/l-1",),
)

R4 = {
    "status": "finished",
    "class": {"system": ACT, "code": "VR"},
    "type": [{"coding": [IPT], "text": "never kept"}],
    "period": WRITTEN,
    "participant": [
        {"individual": {"reference": "PractitionerRole/b"}},
        {"individual": {"reference": "https://ehr.example/fhir/Practitioner/a"}},
        {"individual": {"reference": "RelatedPerson/mother"}},
    ],
    "episodeOfCare": [{"reference": "EpisodeOfCare/ep-1"}],
    "basedOn": [{"reference": "ServiceRequest/s-1"}],
    "partOf": {"reference": "Encounter/e-0"},
    "reasonCode": [{"coding": [REASON]}],
    "reasonReference": [{"reference": "Condition/c-2"}, {"reference": "Procedure/never-kept"}],
    "diagnosis": [{"condition": {"reference": "Condition/c-1"}}],
    "location": [{"location": {"reference": "Location/l-1"}}],
}

R5 = {
    "status": "completed",
    "class": [{"coding": [{"system": ACT, "code": "VR"}]}],
    "type": [{"coding": [IPT]}],
    "actualPeriod": WRITTEN,
    "participant": [
        {"actor": {"reference": "PractitionerRole/b"}},
        {"actor": {"reference": "Practitioner/a"}},
        {"actor": {"reference": "Device/d"}},
    ],
    "episodeOfCare": [{"reference": "EpisodeOfCare/ep-1"}],
    "basedOn": [{"reference": "ServiceRequest/s-1"}],
    "partOf": {"reference": "Encounter/e-0"},
    "reason": [
        {"value": [{"concept": {"coding": [REASON]}}]},
        {"value": [{"reference": {"reference": "Condition/c-2"}}]},
    ],
    "diagnosis": [{"condition": [{"reference": {"reference": "Condition/c-1"}}]}],
    "location": [{"location": {"reference": "Location/l-1"}}],
}

MIXED = R5 | {"reason": [{"coding": [REASON]}], "reasonReference": R4["reasonReference"]}


def reading_of(resource: dict[str, Any]) -> EncounterReading:
    """Return the reading of an Encounter."""
    return read_encounter(resource, {}, ZoneInfo("UTC"), "Encounter")[0]


@pytest.mark.parametrize("resource", [R4, R5, MIXED], ids=["R4", "R5", "mixed"])
def test_versions_of_fhir_are_read_by_their_shape(resource: dict[str, Any]) -> None:
    """Nothing says which version a resource is in, and feeds mix them."""
    assert READING == reading_of(resource)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("planned", "planned"),
        ("arrived", "arrived"),
        ("triaged", "triaged"),
        ("in-progress", "in-progress"),
        ("onleave", "onleave"),
        ("on-hold", "onleave"),
        ("finished", "finished"),
        ("completed", "finished"),
        ("discharged", "finished"),
        (" finished\t", "finished"),
        ("cancelled", "cancelled"),
        ("discontinued", "discontinued"),
        ("entered-in-error", "entered-in-error"),
        ("unknown", "unknown"),
    ],
)
def test_status_is_read_in_the_words_of_r4(written: str, read: str) -> None:
    """R5's words mean what R4's do, but for `discontinued`, which R4 has no word for."""
    assert read == reading_of({"status": written}).status


@pytest.mark.parametrize("written", [None, "", "Finished", "FINISHED", "final", "completed ish"])
def test_status_unknown_to_fhir_is_not_guessed(written: str | None) -> None:
    """Neither a capital nor a code of something else: whether a session was held is no guess."""
    with pytest.raises(Unreadable) as caught:
        reading_of({"status": written})

    assert (Reason.BAD_STATUS, "Encounter.status") == (caught.value.reason, caught.value.path)


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"period": None},
        {"period": {}},
        {"period": {"start": "#NOW", "end": "later"}},
        {"class": None, "type": None},
    ],
)
def test_session_counts_without_a_time(elements: dict[str, Any]) -> None:
    """Status and code say that it was held; a period that is no time says nothing."""
    assert EncounterReading(status="finished") == reading_of({"status": "finished", **elements})


def test_end_before_start_is_kept_as_written() -> None:
    """That it can't be is for a finding to say, not for the reader."""
    reading = reading_of({"status": "finished", "period": {"start": WRITTEN["end"], "end": WRITTEN["start"]}})

    assert (END, START) == (reading.start, reading.end)


def test_planned_time_of_r5_stands_in_for_the_actual_one() -> None:
    """An R5 Encounter that has not happened has no actualPeriod."""
    planned = {"status": "planned", "plannedStartDate": WRITTEN["start"], "plannedEndDate": WRITTEN["end"]}
    reading = reading_of(planned)

    assert (START, END) == (reading.start, reading.end)


def test_codes_are_trimmed_and_named_by_their_usual_system() -> None:
    """Real feeds write tabs into codes, and OIDs for systems that have a URL."""
    coding = {"system": " urn:oid:2.16.840.1.113883.6.96 ", "code": "\t443730003 "}

    reading = reading_of({"status": "finished", "type": [{"coding": [coding, IPT, {"code": ""}, {"display": "x"}]}]})

    assert (IPT_CODE,) == reading.types


def test_security_labels_are_read_sorted() -> None:
    """Every output carries them all, in one order."""
    security = [{"system": "urn:b", "code": "R"}, {"system": "urn:a", "code": "PSY"}, {"system": "urn:b", "code": "R"}]

    _, labels = read_encounter({"status": "finished", "meta": {"security": security}}, {}, ZoneInfo("UTC"), "Encounter")

    assert (Code("urn:a", "PSY"), Code("urn:b", "R")) == labels


@pytest.mark.parametrize(
    "elements", [{"class": "ambulatory"}, {"patient": {"reference": "Patient/p-1"}}], ids=["class", "patient"]
)
def test_older_fhir_is_refused_by_name(elements: dict[str, Any]) -> None:
    """DSTU2 has its class as a word and its patient in another place."""
    with pytest.raises(Unreadable) as caught:
        reading_of({"status": "finished", **elements})

    assert caught.value.reason is Reason.OLD_FHIR_VERSION


@pytest.mark.parametrize(
    ("elements", "path"),
    [
        ({"type": "443730003"}, "Encounter.type"),
        ({"type": [{"coding": ["x"]}]}, "Encounter.type[0].coding[0]"),
        ({"participant": [{"individual": "Practitioner/a"}]}, "Encounter.participant[0].individual"),
        ({"status": ["finished"]}, "Encounter.status"),
    ],
)
def test_element_of_another_json_type_is_named(elements: dict[str, Any], path: str) -> None:
    """By its path, with no value in any form of the error."""
    with pytest.raises(Unreadable) as caught:
        reading_of({"status": "finished", **elements})

    assert (Reason.WRONG_TYPE, path) == (caught.value.reason, caught.value.path)
    assert caught.value.__cause__ is None
    assert "443730003" not in f"{caught.value} {caught.value!r}"


def test_element_that_nobody_reads_can_not_fail_an_encounter() -> None:
    """Only what is read is looked at."""
    odd = {"hospitalization": 7, "text": {"div": ["<p>"]}, "extension": "x", "length": None, "identifier": {}}

    assert EncounterReading(status="finished") == reading_of({"status": "finished", **odd})


@pytest.mark.parametrize(
    ("participant", "practitioners"),
    [
        (
            {"individual": {"identifier": {"system": "urn:npi", "value": "17"}}},
            ("Practitioner?identifier=urn:npi|17",),
        ),
        (
            {"actor": {"type": "Practitioner", "identifier": {"system": "urn:npi", "value": "17"}}},
            ("Practitioner?identifier=urn:npi|17",),
        ),
        ({"actor": {"identifier": {"system": "urn:npi", "value": "17"}}}, ()),
        ({"individual": {"type": "RelatedPerson", "identifier": {"value": "17"}}}, ()),
        ({"individual": {"reference": "Practitioner/a", "identifier": {"value": "17"}}}, ("Practitioner/a",)),
        ({"individual": {"display": "Dr Who"}}, ()),
        ({"individual": {"identifier": {"system": "urn:npi"}}}, ()),
    ],
)
def test_practitioner_is_known_by_an_identifier_alone(
    participant: dict[str, Any], practitioners: tuple[str, ...]
) -> None:
    """Else no session of a practitioner whom the EHR names so would count; anyone else may be the patient."""
    reading, _ = read_encounter({**R4, "participant": [participant]}, {}, ZoneInfo("UTC"), "Encounter")

    assert practitioners == reading.practitioners
