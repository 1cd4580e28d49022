"""`ipt-bridge read`: what it says of a file, its exit code, and that it agrees with the intake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from typer.testing import CliRunner

from service import app
from service.cli import cli
from service.commands.inspection import inspect
from service.configuration import environment_names
from service.domain.codes import LOINC, SNOMED_CT
from service.inbound.reading import read_record
from service.inbound.records import Record
from service.settings import Settings

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

SPECIMENS = Path(__file__).parents[1] / "specimens"
PHQ_9 = ["44250-9", "44255-8", "44259-0", "44254-1", "44251-7", "44258-2", "44252-5", "44253-3", "44260-8"]
ANSWERS = ["LA6568-5", "LA6569-3", "LA6570-1", "LA6571-9"]


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder, without any setting in the environment: nothing is to be set."""
    monkeypatch.chdir(tmp_path)
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)


def phq_9(points: list[int], stated: int | None = None, **elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return a response with these points."""
    items = [
        {"linkId": f"/{code}", "answer": [{"valueCoding": {"system": LOINC, "code": ANSWERS[each]}}]}
        for code, each in zip(PHQ_9, points, strict=False)
    ]
    if stated is not None:
        items.append({"linkId": "/44261-6", "answer": [{"valueInteger": stated}]})
    return {
        "resourceType": "QuestionnaireResponse",
        "id": "qr-88",
        "meta": {"versionId": "3", "lastUpdated": "2026-03-04T10:12:31-05:00"},
        "status": "completed",
        "questionnaire": "http://loinc.org/q/44249-1",
        "subject": {"reference": "Patient/p-19"},
        "authored": "2026-03-04T10:12:00-05:00",
        "item": items,
        **elements,
    }


def session(**elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any element
    """Return an IPT session."""
    return {
        "resourceType": "Encounter",
        "id": "ses-1",
        "status": "finished",
        "type": [{"coding": [{"system": SNOMED_CT, "code": "443730003"}]}],
        "subject": {"reference": "Patient/p-19"},
        "period": {"start": "2026-03-04T10:00:00Z", "end": "2026-03-04T10:50:00Z"},
        **elements,
    }


def say(*arguments: str, content: object = None) -> tuple[int, str]:
    """Return exit code and output of the command, reading the content from standard input."""
    written = content if isinstance(content, bytes) else orjson.dumps(content)
    answer = CliRunner().invoke(cli, ["read", *arguments, "-"], input=written)
    return answer.exit_code, answer.output


def lines(*arguments: str, content: object) -> list[dict[str, Any]]:
    """Return what the command says as JSON."""
    return [orjson.loads(line) for line in say("--json", *arguments, content=content)[1].splitlines()]


def test_scores_and_flags_of_a_response_are_told() -> None:
    """Envelope, change, why it is ours, patient, score beside the stated one, and the safety item."""
    code, text = say(content=phq_9([3, 3, 3, 3, 2, 2, 2, 2, 2], stated=21))

    assert 0 == code
    assert text.splitlines() == [
        "envelope   FHIR resource",
        "change     update  QuestionnaireResponse/qr-88  version 3  2026-03-04T10:12:31-05:00",
        "ours       yes: questionnaire http://loinc.org/q/44249-1 is PHQ-9",
        'patient    Patient/p-19 (source "main")',
        "measure    PHQ-9 = 22, severe.  Stated total 21 differs: kept, flagged.  9 of 9 items.",
        "safety     item 9 = 2 → same-day finding",
        "",
    ]


def test_a_positive_screener_is_told_as_what_calls_a_clinician() -> None:
    """It has no single item on self-harm: all of it asks."""
    scores = Path(__file__).parents[1] / "specimens" / "scores"
    _, text = say(content=orjson.loads((scores / "c-ssrs" / "with-a-method.json").read_bytes()))
    assert "safety     screener = 2 → same-day finding" in text.splitlines()


def test_json_has_a_line_for_each_change() -> None:
    """With the names that a script can rely on."""
    (session_line, response_line) = lines(
        content={
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": session()}, {"resource": phq_9([0] * 8)}],
        }
    )

    assert "FHIR Bundle" == session_line["envelope"]
    assert {
        "type": "Encounter",
        "id": "ses-1",
        "operation": "update",
        "version": None,
        "lastUpdated": None,
    } == session_line["change"]
    assert ("held", "session", 50) == tuple(session_line["session"][name] for name in ("state", "kind", "minutes"))
    assert "2026-03-04T10:50:00Z" == session_line["session"]["end"].replace("+00:00", "Z")
    (measure,) = response_line["measures"]
    assert (None, [9], None, True) == tuple(measure[name] for name in ("total", "missing", "band", "safetyUnanswered"))


def test_what_would_be_parked_has_exit_code_1_and_says_where() -> None:
    """The element's path, what to do, and what it would say once mended."""
    response = phq_9([1] * 9)
    del response["subject"]
    code, text = say(content=response)

    assert 1 == code
    assert "parked     no-subject   at QuestionnaireResponse.subject\n" in text
    assert "measure    PHQ-9 = 9, mild." in text
    assert {"code": "no-subject", "path": "QuestionnaireResponse.subject"} == lines(content=response)[0]["parked"]


def test_what_is_not_ours_says_why() -> None:
    """And what would keep it from being read, if it were."""
    code, text = say(content=session(type=[{"coding": [{"system": "urn:x", "code": "visit"}]}], status="Finished"))

    assert 0 == code
    assert "ours       no: urn:x|visit: no code of a session, an assessment or a crisis\n" in text
    assert "aside      if it were ours it would be parked: bad-status at Encounter.status\n" in text


def test_duration_that_can_not_be_is_told_and_no_reason_to_park() -> None:
    """The session counts by its status."""
    code, text = say(content=session(period={"start": "2026-03-04T10:00:00Z", "end": "2026-03-03T10:00:00Z"}))

    assert 0 == code
    assert "impossible duration: flagged" in text


def test_notification_tells_its_events() -> None:
    """Form, event number and what the payload holds."""
    for name, words in {
        "r4-full": "R4 backport), event 30, full resource, seen with Patient/pat-81",
        "r5-id-only": "R5), event 14, 16, id only",
        "r4b-full": "R4B backport), event 19, full resource",
        "r5-empty": "R5), event 17, empty",
        "r5-heartbeat": "R5), heartbeat",
        "r5-status-in-error": "R5), subscription error, query-status",
    }.items():
        _, text = say(content=(SPECIMENS / "fhir-notification" / f"{name}.json").read_bytes())

        assert f"envelope   FHIR Subscription notification ({words}\n" in text


def test_headers_come_with_the_record_or_from_the_option() -> None:
    """`{"headers", "value"}` in the file, or `--headers name=value`."""
    in_file = {"headers": {"X-Medplum-Deleted-Resource": "Encounter/ses-1"}, "value": {}}

    (by_file,) = lines(content=in_file)
    (by_option,) = lines("--headers", "X-Medplum-Deleted-Resource=Encounter/ses-1", content={})

    assert by_file == by_option
    assert ("delete", "Encounter") == (by_file["change"]["operation"], by_file["change"]["type"])


def test_lines_of_kcat_are_records() -> None:
    """`kcat -J` writes a record in a line, with its headers as a flat list."""
    written = [
        {"topic": "t", "partition": 0, "offset": 7, "ts": 1772618400000, "headers": [], "key": None}
        | {"payload": orjson.dumps(session()).decode()},
        {"topic": "t", "partition": 0, "offset": 8, "ts": 1772618400000, "key": "Encounter/ses-1", "payload": None},
    ]
    told = lines(content=b"\n".join(orjson.dumps(each) for each in written))

    assert ["update", "delete"] == [each["change"]["operation"] for each in told]


def test_long_ndjson_is_a_record_for_each_line(tmp_path: Path) -> None:
    """A file of a bulk export is longer than any record may be."""
    config = tmp_path / "small.toml"
    config.write_text("[limits]\nbytes = 1000\n")
    content = b"\n".join([orjson.dumps(session(id=f"ses-{number}")) for number in range(9)])

    told = lines("--config", str(config), content=content)

    assert [f"ses-{number}" for number in range(9)] == [each["change"]["id"] for each in told]


def test_several_sources_ask_for_one(tmp_path: Path) -> None:
    """A record is read as one source's: time zone, base and site mapping are its own."""
    config = tmp_path / "two.toml"
    config.write_text('[[sources]]\nid = "a"\ntopics = ["a.e"]\n[[sources]]\nid = "b"\ntopics = ["b.e"]\n')

    code, text = say("--config", str(config), content=session())
    assert 2 == code
    assert "a, b" in text
    assert 0 == say("--config", str(config), "--source", "b", content=session())[0]
    assert 2 == say("--config", str(config), "--source", "c", content=session())[0]


def test_what_the_ehr_is_asked_for_is_told_and_is_not_parked(tmp_path: Path) -> None:
    """Where the source's settings say so; else both are parked, and the exit code says it."""
    config = tmp_path / "asking.toml"
    config.write_text('[[sources]]\nfhir_base = "https://ehr.example/fhir"\nsubjects_by_identifier = "search"\n')
    named = {"lastUpdated": "2026-03-04T10:00:00Z", "location": "Encounter/ses-1/_history/2", "operationType": "update"}
    numbered = session(subject={"identifier": {"system": "urn:oid:1.2", "value": "7"}})

    for content, told, parked in (
        (named, "aside      it is fetched from the source's fhir_base", "reference-only"),
        (
            numbered,
            "aside      the patient is searched for by identifier at the source's fhir_base",
            "unresolved-subject",
        ),
    ):
        code, text = say("--config", str(config), content=content)
        assert (0, True, False) == (code, told in text.splitlines(), "parked" in text)
        code, text = say(content=content)
        assert (1, True) == (code, f"parked     {parked}" in text)


def test_deviations_are_told_of_the_version_that_is_asked_for() -> None:
    """Never without asking: the full model costs more than all the rest."""
    (plain,) = lines(content=session())
    (asked,) = lines("--fhir-version", "R5", content=session())

    assert [] == plain["deviations"]
    assert "Encounter.period" in asked["deviations"]


def test_missing_file_is_wrong_usage() -> None:
    """Not a defect."""
    assert 2 == CliRunner().invoke(cli, ["read", "no-such-file.json"]).exit_code


@pytest.mark.parametrize("path", sorted(SPECIMENS.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_inspection_agrees_with_the_intake(path: Path, mappings: Mappings) -> None:
    """The same facts, the same things parked, in the same order."""
    settings = Settings()
    feed, limits = app.feed(settings.sources[0], mappings), app.limits(settings)
    record = Record("fhir.encounter", 0, 0, app.now(), None, path.read_bytes())
    reading = read_record(record, feed.context, feed.relevance, limits)
    told = inspect(record, feed, limits, None)

    assert reading.facts == [each.fact for each in told if each.fact is not None]
    parked = [(place, problem.code, problem.path) for place, problem in reading.unreadable]
    parked += [(place, "reference-only", change.path) for place, change in reading.fetch]
    assert sorted(parked) == [
        (place, each.parked.code, each.parked.path) for place, each in enumerate(told) if each.parked is not None
    ]
