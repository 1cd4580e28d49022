"""What one record amounts to: facts, markers, versions that are not ours, and what can't be read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from service.domain.codes import SNOMED_CT
from service.domain.facts import UNVERSIONED, Code, EncounterReading, Fact, FactKey, OrderKey, PatientKey, merge
from service.inbound.reading import RecordReading, marker_of
from service.inbound.records import Limits, Reason
from service.inbound.times import microseconds

if TYPE_CHECKING:
    from collections.abc import Callable

IPT = [{"coding": [{"system": SNOMED_CT, "code": "443730003"}]}]
UPDATED = "2026-03-01T09:00:00.25Z"
ZONE = ZoneInfo("America/New_York")
UPDATED_AT = 1_772_355_600_250_000
RECEIVED_AT = microseconds(datetime(2026, 3, 2, 12, tzinfo=UTC))


def encounter(identity: object = "e-1", **elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return a held IPT session; elements that are None are left out."""
    whole = {
        "resourceType": "Encounter",
        "id": identity,
        "meta": {"versionId": "3", "lastUpdated": UPDATED},
        "status": "finished",
        "type": IPT,
        "subject": {"reference": "Patient/p-1"},
        **elements,
    }
    return {name: value for name, value in whole.items() if value is not None}


def test_session_becomes_a_fact(read_value: Callable[..., RecordReading]) -> None:
    """With its source, its patient, its order and nothing but codes."""
    security = [{"system": "urn:label", "code": "PSY"}]
    meta = {"versionId": "3", "lastUpdated": UPDATED, "security": security}
    reading = read_value(encounter(meta=meta))

    (fact,) = reading.facts
    assert (
        Fact(
            key=FactKey("clinic", "Encounter", "e-1"),
            order=OrderKey(UPDATED_AT, 3, deleted=False, digest=fact.order.digest),
            patient_id="p-1",
            reading=EncounterReading("finished", types=(Code(SNOMED_CT, "443730003"),)),
            labels=(Code("urn:label", "PSY"),),
        )
        == fact
    )
    assert 32 == len(fact.order.digest)
    assert RecordReading(facts=[fact]) == reading


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "cancelled"},
        {"subject": {"reference": "Patient/p-2"}},
        {"meta": {"versionId": "3", "lastUpdated": UPDATED, "security": [{"code": "R"}]}},
        {"period": {"start": "2026-03-01"}},
    ],
)
def test_two_contents_of_one_version_never_tie(
    read_value: Callable[..., RecordReading], changed: dict[str, Any]
) -> None:
    """Whatever it is that differs, one of the two wins wherever it comes from."""
    (one,) = read_value(encounter()).facts
    (other,) = read_value(encounter(**changed)).facts

    assert one.order[:3] == other.order[:3]
    assert merge(one, other) == merge(other, one)
    assert one.order != other.order


def test_no_two_answers_tie(read_value: Callable[..., RecordReading]) -> None:
    """One as a number, as a truth value, as a code and as a score are four answers."""
    score = {"url": "http://hl7.org/fhir/StructureDefinition/ordinalValue", "valueDecimal": 1}
    values: list[dict[str, Any]] = [
        {"valueInteger": 1},
        {"valueBoolean": True},
        {"valueCoding": {"code": "1"}},
        {"valueCoding": {"system": "1", "code": "1"}},
        {"valueCoding": {"code": "1", "extension": [score]}},
        {"valueString": "in words"},
    ]
    items = [{"linkId": link_id, "answer": [value]} for link_id in ("a", "b") for value in values]
    items += [item | {"code": [{"code": "1"}]} for item in items]
    response = {
        "resourceType": "QuestionnaireResponse",
        "id": "q-1",
        "status": "completed",
        "questionnaire": "ipt-session",
    }
    subject = {"reference": "Patient/p-1"}

    facts = [read_value({**response, "subject": subject, "item": [item]}).facts[0] for item in items]

    assert len(items) == len({fact.order.digest for fact in facts})


def test_what_is_not_read_makes_no_difference(read_value: Callable[..., RecordReading]) -> None:
    """A new name or text is no new fact."""
    (one,) = read_value(encounter()).facts
    (other,) = read_value(encounter(text={"div": "x"}, priority={"text": "y"})).facts

    assert one == other


@pytest.mark.parametrize(
    ("meta", "order"),
    [
        (None, (RECEIVED_AT, UNVERSIONED)),
        ({}, (RECEIVED_AT, UNVERSIONED)),
        ({"lastUpdated": ""}, (RECEIVED_AT, UNVERSIONED)),
        ({"lastUpdated": UPDATED}, (UPDATED_AT, UNVERSIONED)),
        ({"versionId": "12"}, (RECEIVED_AT, 12)),
        ({"versionId": 12}, (RECEIVED_AT, 12)),
        ({"versionId": "a4f7"}, (RECEIVED_AT, UNVERSIONED)),
        ({"versionId": "-1"}, (RECEIVED_AT, UNVERSIONED)),
        ({"versionId": "٣"}, (RECEIVED_AT, UNVERSIONED)),
        ({"versionId": "9" * 18}, (RECEIVED_AT, int("9" * 18))),
        ({"versionId": "9" * 19}, (RECEIVED_AT, UNVERSIONED)),
        ({"versionId": "9" * 5000}, (RECEIVED_AT, UNVERSIONED)),
        ("x", (RECEIVED_AT, UNVERSIONED)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_order_is_the_resources_own_or_the_records(
    read_value: Callable[..., RecordReading], meta: object, order: tuple[int, int]
) -> None:
    """Versions that are no numbers, or larger than a database takes, are none."""
    reading = read_value({**encounter(type=None), "meta": meta})

    (version,) = reading.irrelevant
    found = marker_of(version, ZONE).order
    assert order == (found.last_updated, found.version)


@pytest.mark.parametrize("written", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z", "yesterday", 7])
def test_version_whose_time_can_not_be_is_not_ordered_on_a_guess(
    read_value: Callable[..., RecordReading], written: object
) -> None:
    """A year 9999 would keep every later version out for good."""
    reading = read_value(encounter(meta={"lastUpdated": written}))

    ((_, problem),) = reading.unreadable
    assert (Reason.BAD_TIME, "Encounter.meta.lastUpdated") == (problem.reason, problem.path)


def test_entry_that_is_older_by_its_envelope_loses(read_value: Callable[..., RecordReading]) -> None:
    """Where a resource has no meta, its history entry says how new it is."""
    entries = [
        {"resource": encounter(meta=None, status=status), "response": {"lastModified": time, "etag": f'W/"{version}"'}}
        for status, time, version in [
            ("finished", "2026-03-01T10:00:00Z", 2),
            ("planned", "2026-03-01T09:00:00Z", 1),
        ]
    ]
    newer, older = read_value({"resourceType": "Bundle", "type": "history", "entry": entries}).facts

    assert (2, 1) == (newer.order.version, older.order.version)
    assert newer == merge(newer, older)


def test_delete_leaves_a_marker(read_value: Callable[..., RecordReading]) -> None:
    """It names no patient, and is as new as its record."""
    (fact,) = read_value(None, key=b"Encounter/e-1").facts

    order = OrderKey(RECEIVED_AT, UNVERSIONED, deleted=True, digest="")
    assert Fact(FactKey("clinic", "Encounter", "e-1"), order, patient_id=None, reading=None) == fact


def test_delete_wins_over_the_version_of_its_instant(read_value: Callable[..., RecordReading]) -> None:
    """A history that deletes in the second of the last update means the delete."""
    entries = [
        {"request": {"method": "DELETE", "url": "Encounter/e-1/_history/3"}, "response": {"lastModified": UPDATED}},
        {"resource": encounter()},
    ]
    deleted, updated = read_value({"resourceType": "Bundle", "type": "history", "entry": entries}).facts

    assert deleted == merge(updated, deleted)


def test_version_that_is_not_ours_names_key_order_and_patient(read_value: Callable[..., RecordReading]) -> None:
    """An older version of it may have been ours."""
    reading = read_value(encounter(type=None, status="Finished"))

    (version,) = reading.irrelevant
    key, order = FactKey("clinic", "Encounter", "e-1"), OrderKey(UPDATED_AT, 3, deleted=False, digest="")
    assert RecordReading(irrelevant=[version]) == reading
    assert (key, PatientKey("clinic", "p-1")) == (version.key, version.patient)
    assert Fact(key, order, patient_id=None, reading=None) == marker_of(version, ZONE)


def test_version_that_is_not_ours_keeps_no_more_than_says_how_new_it_is(
    read_value: Callable[..., RecordReading],
) -> None:
    """Thousands of them wait for one transaction."""
    (version,) = read_value(encounter(type=None, status="Finished")).irrelevant

    assert {"meta": {"versionId": "3", "lastUpdated": UPDATED}} == version.change.resource


@pytest.mark.parametrize("subject", [None, {"reference": "Group/g-1"}])
def test_version_that_is_not_ours_may_name_no_patient(
    read_value: Callable[..., RecordReading], subject: object
) -> None:
    """Its key is enough to take an older fact's place."""
    (version,) = read_value(encounter(type=None, subject=subject)).irrelevant

    assert version.patient is None


def test_resource_that_is_not_ours_fails_on_nothing(read_value: Callable[..., RecordReading]) -> None:
    """Whatever is wrong with it is nobody's concern here."""
    odd = encounter(type=None, meta={"lastUpdated": "yesterday"}, status=7, subject="x", period=[])

    (version,) = read_value(odd).irrelevant
    assert RECEIVED_AT == marker_of(version, ZONE).order.last_updated
    assert ["Encounter"] == read_value(encounter(None, type=None)).skipped


@pytest.mark.parametrize("resource_type", ["Patient", "Observation", "NoSuchThing", "encounter"])
def test_other_resource_types_are_skipped(read_value: Callable[..., RecordReading], resource_type: str) -> None:
    """Most of a hospital's stream, deletes included."""
    assert [resource_type] == read_value({"resourceType": resource_type}).skipped


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"resourceType":"Observation","id":"o-1","contained":[', b"]}"),
        (b'{"resourceType":"Observation","id":"o-1"}\n', b"\n"),
        (b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":', b"}]}"),
    ],
    ids=["contained", "another line", "Bundle"],
)
def test_a_record_is_not_skipped_for_its_first_words_alone(
    read_value: Callable[..., RecordReading], before: bytes, after: bytes
) -> None:
    """A session that follows them is read where it stands for itself, and not where another resource contains it."""
    reading = read_value(before + orjson.dumps(encounter()) + after)
    assert bool(reading.facts) == (b"contained" not in before)
    assert not reading.unreadable


def test_record_of_two_types_is_not_skipped_for_the_first(read_value: Callable[..., RecordReading]) -> None:
    """Nothing that a reader of JSON would take for a session is passed over: it is in doubt."""
    written = orjson.dumps(encounter())
    ((_, problem),) = read_value(b'{"resourceType":"Observation",' + written[1:]).unreadable

    assert Reason.DUPLICATE_KEY is problem.reason


def test_delete_of_another_type_is_skipped(read_value: Callable[..., RecordReading]) -> None:
    """Its key says of what type it is."""
    assert ["Observation"] == read_value(None, key=b"Observation/o-1").skipped


@pytest.mark.parametrize("identity", [None, "", "two words", "a/b", "x" * 129, True, ["e-1"]], ids=repr)
def test_session_without_a_usable_id_is_unreadable(read_value: Callable[..., RecordReading], identity: object) -> None:
    """Without a key no later version could take its place."""
    ((_, problem),) = read_value(encounter(identity)).unreadable

    assert (Reason.NO_ID, "Encounter.id") == (problem.reason, problem.path)


@pytest.mark.parametrize(("identity", "key"), [("e_1", "e_1"), (" e-1 ", "e-1"), (17, "17"), ("{e}", "{e}")])
def test_ids_are_read_as_real_systems_write_them(
    read_value: Callable[..., RecordReading], identity: object, key: str
) -> None:
    """With `_` and braces, padded, or as a number."""
    (fact,) = read_value(encounter(identity)).facts

    assert key == fact.key.resource_id


def test_resource_that_is_only_named_is_to_be_fetched(read_value: Callable[..., RecordReading]) -> None:
    """Of our types; others need no fetching."""
    entries = [{"fullUrl": f"https://ehr.example/fhir/{name}"} for name in ("Patient/p-1", "Encounter/e-1")]
    reading = read_value({"resourceType": "Bundle", "type": "history", "entry": entries})

    ((place, change),) = reading.fetch
    assert (1, "e-1") == (place, change.resource_id)
    assert ["Patient"] == reading.skipped


def test_one_bad_entry_harms_no_other(read_value: Callable[..., RecordReading]) -> None:
    """Each is told with its place and its path."""
    entries = [{"resource": encounter("e-1")}, {"resource": encounter("e-2", status="Finished")}, 7]
    reading = read_value({"resourceType": "Bundle", "type": "collection", "entry": entries})

    assert ["e-1"] == [fact.key.resource_id for fact in reading.facts]
    assert [
        (1, "bad-status", "Bundle.entry[1].resource.status"),
        (2, "wrong-type", "Bundle.entry[2]"),
    ] == [(place, problem.code, problem.path) for place, problem in reading.unreadable]


def test_local_references_are_resolved_within_their_bundle(read_value: Callable[..., RecordReading]) -> None:
    """A transaction names its own entries by `urn:uuid:`."""
    patient = {"fullUrl": "urn:uuid:5f0e", "resource": {"resourceType": "Patient", "id": "p-9"}}
    session = {"fullUrl": "urn:uuid:77aa", "resource": encounter(subject={"reference": "urn:uuid:5f0e"})}
    reading = read_value({"resourceType": "Bundle", "type": "transaction", "entry": [session, patient]})

    assert ["p-9"] == [fact.patient_id for fact in reading.facts]


def test_entered_in_error_is_a_reading_like_any(read_value: Callable[..., RecordReading]) -> None:
    """It takes the place of what was entered, and says so."""
    (fact,) = read_value(encounter(status="entered-in-error")).facts

    assert isinstance(fact.reading, EncounterReading)
    assert "entered-in-error" == fact.reading.status


def test_response_is_about_its_source_where_it_has_no_subject(read_value: Callable[..., RecordReading]) -> None:
    """And says so only of a patient who answered."""
    response = {
        "resourceType": "QuestionnaireResponse",
        "id": "q-1",
        "status": "completed",
        "questionnaire": "phq-9",
        "source": {"reference": "Patient/p-1"},
    }

    assert ["p-1"] == [fact.patient_id for fact in read_value(response).facts]
    ((_, problem),) = read_value(response | {"source": {"reference": "Practitioner/a"}}).unreadable
    assert "no-subject" == problem.code


def test_caps_hold_before_anything_is_read(read_value: Callable[..., RecordReading]) -> None:
    """Bytes, depth, entries and items, each with its reason."""
    item = {"linkId": "44250-9", "answer": [{"valueInteger": 1}]}
    response = {"resourceType": "QuestionnaireResponse", "id": "q-1", "item": [item] * 3}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": encounter()}] * 3}
    limits = Limits(bytes=1_000, depth=9, items=2, entries=2)
    deep = orjson.loads(b'{"a":' * 9 + b"1" + b"}" * 9)

    problems = [
        read_value(value, limits=limits).unreadable[0][1].code
        for value in (encounter(text="x" * 1_000), encounter(text=deep), response, bundle)
    ]

    assert ["too-large", "too-deep", "too-many-items", "too-many-entries"] == problems


def test_error_says_what_to_do_and_never_what_was_written(read_value: Callable[..., RecordReading]) -> None:
    """An error may end in a log; patients' data may not."""
    ((_, problem),) = read_value(encounter("secret-id/x", status="secret-status")).unreadable

    assert "no-id at Encounter.id: The resource has no usable id" in str(problem)
    assert "secret" not in f"{problem} {problem!r}"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_says_what_to_do(reason: Reason) -> None:
    """A code alone helps nobody."""
    assert reason.advice.endswith(".")
