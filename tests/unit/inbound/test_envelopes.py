"""What records of every kind say happened."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from service.inbound.changes import Change, Operation
from service.inbound.envelopes import open_record
from service.inbound.records import Limits, Record, SourceContext, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

LAST_MODIFIED = "2026-03-01T08:30:00Z"


@pytest.fixture
def open_value(source: SourceContext) -> Callable[..., list[Change | Unreadable]]:
    """Return a function that opens one record with this value."""

    def open_it(
        value: object, *, key: bytes | None = None, topic: str = "fhir", limits: Limits | None = None
    ) -> list[Change | Unreadable]:
        written = value if isinstance(value, bytes | None) else orjson.dumps(value)
        record = Record(topic, 0, 0, datetime(2026, 3, 2, tzinfo=UTC), key, written)
        return list(open_record(record, source, limits or Limits()).changes)

    return open_it


def encounter(identity: str = "e-1", **elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return an Encounter."""
    return {"resourceType": "Encounter", "id": identity, **elements}


def bundle(*entries: Any, kind: str = "collection", **elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any entry
    """Return a Bundle."""
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **elements}


def told(changes: list[Change | Unreadable]) -> list[tuple[str, ...]]:
    """Return each change in short: operation, type and id, or reason code and path."""
    return [
        (str(change.path), change.code)
        if isinstance(change, Unreadable)
        else (change.path, change.operation.value, change.resource_type, change.resource_id)
        for change in changes
    ]


def test_plain_resource_is_an_update(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """A resource alone doesn't tell a create from an update, and the difference changes nothing."""
    assert [("Encounter", "update", "Encounter", "e-1")] == told(open_value(encounter()))


def test_wrapped_resource_is_read_like_a_plain_one(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """`{"resource": …}` is a Bundle entry without its Bundle."""
    assert [("entry.resource", "update", "Encounter", "e-1")] == told(open_value({"resource": encounter()}))


def test_wrapped_bundle_is_opened(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """The wrapper may hold a Bundle as well."""
    opened = open_value({"resource": bundle({"resource": encounter()})})

    assert [("Bundle.entry[0].resource", "update", "Encounter", "e-1")] == told(opened)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"operationType": "delete", "resource": encounter()}, "unknown-envelope"),
        ({"specversion": "1.0", "data": encounter()}, "unknown-envelope"),
        (bundle({"resource": encounter()}, kind="subscription-notification"), "unknown-envelope"),
        (bundle({"resource": {"resourceType": "Parameters"}}, kind="history"), "unknown-envelope"),
        ([{"payload": {"lunch": 1}}], "unknown-envelope"),
        ({"resource": bundle({"resource": encounter()}, kind="subscription-notification")}, "unknown-envelope"),
        ({}, "not-fhir"),
        ({"resourceType": 7}, "not-fhir"),
        ({"id": "e-1", "status": "finished"}, "not-fhir"),
        ("Encounter/e-1", "not-fhir"),
        (7, "not-fhir"),
    ],
)
def test_envelope_of_an_unknown_kind_is_not_opened(
    open_value: Callable[..., list[Change | Unreadable]], value: object, code: str
) -> None:
    """An envelope that is only half understood could hide a delete."""
    (problem,) = open_value(value)

    assert isinstance(problem, Unreadable)
    assert code == problem.code


@pytest.mark.parametrize("kind", ["collection", "history", "transaction", "message", "searchset", "batch", "document"])
def test_every_entry_of_a_bundle_stands_on_its_own(
    open_value: Callable[..., list[Change | Unreadable]], kind: str
) -> None:
    """One bad entry harms no other, whatever the Bundle is for."""
    opened = open_value(
        bundle(
            {"resource": {"resourceType": "Patient", "id": "p-1"}},
            {"resource": encounter("e-1")},
            {"resource": "broken"},
            "broken",
            {"resource": {"id": "no type"}},
            {"resource": encounter("e-2")},
            kind=kind,
        )
    )

    assert [
        ("Bundle.entry[0].resource", "update", "Patient", "p-1"),
        ("Bundle.entry[1].resource", "update", "Encounter", "e-1"),
        ("Bundle.entry[2].resource", "wrong-type"),
        ("Bundle.entry[3]", "wrong-type"),
        ("Bundle.entry[4].resource", "not-fhir"),
        ("Bundle.entry[5].resource", "update", "Encounter", "e-2"),
    ] == told(opened)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ({"request": {"method": "POST", "url": "Encounter"}, "resource": encounter()}, "create Encounter/e-1"),
        ({"request": {"method": "PUT", "url": "Encounter/e-1"}, "resource": encounter()}, "update Encounter/e-1"),
        ({"request": {"method": "DELETE", "url": "Encounter/e-1"}}, "delete Encounter/e-1"),
        ({"request": {"method": "DELETE", "url": "Encounter/e-1"}, "resource": encounter()}, "delete Encounter/e-1"),
        (
            {"request": {"method": "DELETE", "url": "Encounter"}, "fullUrl": "http://ehr.example/fhir/Encounter/e-1"},
            "delete Encounter/e-1",
        ),
        ({"fullUrl": "http://ehr.example/fhir/Encounter/e-1"}, "update Encounter/e-1 by name"),
        ({"request": {"method": "PUT", "url": "Encounter/e-1"}}, "update Encounter/e-1 by name"),
        (
            {"request": {"method": "PATCH", "url": "Encounter/e-1"}, "resource": {"resourceType": "Parameters"}},
            "update Encounter/e-1 by name",
        ),
        ({"response": {"location": "Encounter/e-1/_history/2", "status": "201"}}, "update Encounter/e-1 by name"),
        (
            {"fullUrl": "http://ehr.example/fhir/Encounter/e-1", "resource": {"resourceType": "Encounter"}},
            "update Encounter/e-1",
        ),
        ({"request": {"method": ["PUT"]}, "response": 7, "resource": encounter()}, "update Encounter/e-1"),
    ],
)
def test_entry_says_what_happened(
    open_value: Callable[..., list[Change | Unreadable]], entry: dict[str, Any], change: str
) -> None:
    """From its request, its response or its fullUrl, with the resource or without it."""
    (opened,) = open_value(bundle(entry, kind="history"))

    assert isinstance(opened, Change)
    by_name = opened.resource is None and opened.operation is not Operation.DELETE
    assert change == (f"{opened.operation} {opened.resource_type}/{opened.resource_id}{' by name' if by_name else ''}")


def test_entry_that_only_asks_is_no_change(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """A GET in a batch changed nothing."""
    assert not open_value(bundle({"request": {"method": "GET", "url": "Encounter/e-1"}}, kind="batch"))


@pytest.mark.parametrize("entry", [{}, {"request": {"method": "DELETE", "url": "Encounter?identifier=a|b"}}])
def test_entry_that_names_nothing_is_unreadable(
    open_value: Callable[..., list[Change | Unreadable]], entry: dict[str, Any]
) -> None:
    """A conditional delete says what it deletes to its server alone."""
    assert [("Bundle.entry[0].resource", "no-id")] == told(open_value(bundle(entry, kind="transaction")))


def test_entry_gives_version_and_time_of_a_deleted_resource(
    open_value: Callable[..., list[Change | Unreadable]],
) -> None:
    """What has no resource has no meta."""
    response = {"etag": 'W/"4"', "lastModified": LAST_MODIFIED}
    (opened,) = open_value(
        bundle({"request": {"method": "DELETE", "url": "Encounter/e-1"}, "response": response}, kind="history")
    )

    assert isinstance(opened, Change)
    assert ("4", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)) == (opened.version_id, opened.last_updated)


@pytest.mark.parametrize("versions", [(3, 2, 1), (1, 2, 3), (None, None, None)], ids=["newest first", "last", "none"])
def test_delete_that_a_history_undoes_is_no_news(
    open_value: Callable[..., list[Change | Unreadable]], versions: tuple[int | None, ...]
) -> None:
    """Servers give a delete no time: the Bundle's would make it the newest word on a resource written again since."""
    methods = {3: "PUT", 2: "DELETE", 1: "POST"}
    entries = []
    for place, version in enumerate(versions):
        written = version or 3 - place
        response = {} if version is None else {"etag": f'W/"{version}"'}
        entry: dict[str, Any] = {"request": {"method": methods[written], "url": "Encounter/e-1"}, "response": response}
        if written != 2:
            entry["resource"] = {"resourceType": "Encounter", "id": "e-1", "meta": {"versionId": str(written)}}
        entries.append(entry)
    opened = open_value({"resourceType": "Bundle", "type": "history", "entry": entries})
    told = [change.operation for change in opened if isinstance(change, Change)]
    assert {Operation.UPDATE, Operation.CREATE} == set(told)
    assert 2 == len(told)


def test_delete_that_a_history_ends_with_stands(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """Newest first: nothing was written after it."""
    entries = [
        {"request": {"method": "DELETE", "url": "Encounter/e-1/_history/2"}},
        {"request": {"method": "POST", "url": "Encounter"}, "resource": {"resourceType": "Encounter", "id": "e-1"}},
    ]
    opened = open_value({"resourceType": "Bundle", "type": "history", "entry": entries})
    assert Operation.DELETE in [change.operation for change in opened if isinstance(change, Change)]


def test_bundle_time_stands_in_where_an_entry_has_none(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """A collection says when it was put together."""
    (opened,) = open_value(bundle({"resource": encounter()}, timestamp=LAST_MODIFIED))

    assert isinstance(opened, Change)
    assert datetime(2026, 3, 1, 8, 30, tzinfo=UTC) == opened.last_updated


def test_bundle_within_a_bundle_is_opened(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """The answer to a batch of searches is a Bundle of Bundles."""
    inner = bundle({"resource": encounter("e-2")}, kind="searchset")
    opened = open_value(bundle({"resource": encounter()}, {"resource": inner}, kind="batch-response"))

    assert [
        ("Bundle.entry[0].resource", "update", "Encounter", "e-1"),
        ("Bundle.entry[1].resource.entry[0].resource", "update", "Encounter", "e-2"),
    ] == told(opened)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (bundle(*[{}] * 4), ("Bundle.entry", "too-many-entries")),
        ({"resourceType": "Bundle", "entry": {"resource": {}}}, ("Bundle.entry", "wrong-type")),
        (bundle({"resource": bundle(*[{}] * 4)}), ("Bundle.entry[0].resource.entry", "too-many-entries")),
    ],
)
def test_bundle_that_can_not_be_opened_says_why(
    open_value: Callable[..., list[Change | Unreadable]], value: dict[str, Any], problem: tuple[str, str]
) -> None:
    """Its entries are left alone."""
    assert [problem] == told(open_value(value, limits=Limits(entries=3)))


def test_empty_bundle_says_nothing(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """A search that found nothing is no mistake."""
    assert not open_value({"resourceType": "Bundle", "type": "searchset", "total": 0})


@pytest.mark.parametrize(
    ("key", "topic"),
    [
        (b"Encounter/e-1", "fhir"),
        (b'"Encounter/e-1"', "fhir"),
        (b"https://ehr.example/fhir/Encounter/e-1/_history/2", "fhir"),
        (b'{"resourceType": "Encounter", "id": "e-1"}', "fhir"),
        (b"e-1", "fhir.encounter"),
        (b'"e-1"', "fhir.encounter"),
    ],
)
def test_record_without_value_deletes_what_its_key_names(
    open_value: Callable[..., list[Change | Unreadable]], key: bytes, topic: str
) -> None:
    """In every form that such keys have; a bare id needs the topic's resource type."""
    assert [("key", "delete", "Encounter", "e-1")] == told(open_value(None, key=key, topic=topic))


@pytest.mark.parametrize(
    "key", [None, b"", b"e-1", b"\xff\xfe", b"{", b"{}", b'{"id": "e-1"}', b"two words", b"[]", b'"'], ids=repr
)
def test_record_without_value_and_usable_key_is_unreadable(
    open_value: Callable[..., list[Change | Unreadable]], key: bytes | None
) -> None:
    """Nothing is deleted on a guess."""
    assert [("None", "unknown-key")] == told(open_value(None, key=key))


def test_empty_value_deletes_nothing(open_value: Callable[..., list[Change | Unreadable]]) -> None:
    """Only null is a tombstone."""
    assert [("None", "empty")] == told(open_value(b"", key=b"Encounter/e-1"))
