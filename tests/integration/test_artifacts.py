"""`ipt-bridge artifacts`: a package that a real FHIR server takes, and whose Questionnaires real responses answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from service.cli import cli
from service.outbound.artifacts import package
from service.outbound.careplan import render
from service.sandbox.hapi import FhirServer
from service.sandbox.patients import generate
from service.sandbox.validator import Validator
from tests import courses
from tests.property.strategies import START

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.domain.mappings import Mappings

OURS = "https://ipt-bridge.org/fhir/Questionnaire/"
# What a definition needs stands before it.
ORDER = ["CodeSystem", "ValueSet", "ConceptMap", "StructureDefinition", "Questionnaire", "PlanDefinition"]
PLAN = ["Goal", "CarePlan", "Task", "Flag", "Provenance"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, as the command writes it."""
    folder = tmp_path_factory.mktemp("artifacts")
    result = CliRunner().invoke(cli, ["artifacts", "--out", str(folder)])
    assert 0 == result.exit_code, result.output
    return folder / "package"


@pytest.fixture(scope="module")
def resources(written: Path) -> list[dict[str, Any]]:
    """Every resource of the package, what others need first."""
    found = [orjson.loads(file.read_bytes()) for file in sorted(written.glob("[A-Z]*.json"))]
    return sorted(found, key=lambda resource: ORDER.index(resource["resourceType"]))


@pytest.fixture(scope="module")
def knowing(written: Path) -> Iterator[Validator]:
    """A validator that knows the package and nothing else of ours."""
    with Validator([written]) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[FhirServer]:
    """A validating server of this test's own: definitions that one has read stay in its cache."""
    with FhirServer(validate=True) as server:
        yield server


def test_the_package_describes_itself(written: Path, resources: list[dict[str, Any]], mappings: Mappings) -> None:
    """Name, FHIR version and an index of every resource; one of each kind for each thing that the mappings hold."""
    described = orjson.loads((written / "package.json").read_bytes())
    assert ["4.0.1"] == described["fhirVersions"]
    index = orjson.loads((written / ".index.json").read_bytes())["files"]
    assert {file.name for file in written.glob("[A-Z]*.json")} == {entry["filename"] for entry in index}
    assert len(resources) == len(index)
    names = {resource["id"] for resource in resources if resource["resourceType"] == "Questionnaire"}
    assert {*mappings.instruments, "ipt-assessment", "ipt-session", "ipt-ending"} == names
    protocols = {resource["id"] for resource in resources if resource["resourceType"] == "PlanDefinition"}
    assert set(mappings.protocols) == protocols


def test_the_same_mappings_give_the_same_bytes(
    written: Path, mapping_files: dict[str, bytes], mappings: Mappings
) -> None:
    """Whatever the order in which the files were read; the command clears away what is no longer part."""
    version = orjson.loads((written / "package.json").read_bytes())["version"]
    backwards = dict(reversed(mapping_files.items()))
    assert {file.name: file.read_bytes() for file in written.iterdir()} == package(backwards, mappings, version)
    (written / "Questionnaire-of-old.json").write_text("{}")
    result = CliRunner().invoke(cli, ["artifacts", "--out", str(written.parent)])
    assert 0 == result.exit_code
    assert not (written / "Questionnaire-of-old.json").exists()


def test_a_folder_that_is_no_package_is_left_alone(tmp_path: Path) -> None:
    """Nobody's files are removed."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "letter.json").write_text("{}")
    assert 0 != CliRunner().invoke(cli, ["artifacts", "--out", str(tmp_path)]).exit_code
    assert ["letter.json"] == [file.name for file in (tmp_path / "package").iterdir()]


def test_every_resource_passes_the_validator(resources: list[dict[str, Any]], knowing: Validator) -> None:
    """But StructureDefinitions, which it can't judge without a network: the server takes those."""
    judged = [resource for resource in resources if resource["resourceType"] != "StructureDefinition"]
    wrong = {
        f"{resource['resourceType']}/{resource['id']}": issues
        for resource in judged
        if (issues := [issue for issue in knowing.validate(resource) if issue.is_error])
    }
    assert {} == wrong


def test_a_real_server_accepts_every_resource_and_then_plans(
    resources: list[dict[str, Any]], own_server: FhirServer, mappings: Mappings
) -> None:
    """It validates what it is given, and plans by the definitions that it was given."""
    refused = {}
    course = courses.course(practitioners=())
    plan = render(course, mappings)
    patient = {"resourceType": "Patient", "id": course.patient_id}
    with httpx.Client(timeout=60) as client:
        ordered = sorted((body for _, body in plan.resources), key=lambda body: PLAN.index(body["resourceType"]))
        for resource in (*resources, patient, *ordered):
            place = f"{resource['resourceType']}/{resource['id']}"
            answer = client.put(f"{own_server.base}/{place}", json=resource)
            if answer.status_code != httpx.codes.CREATED:
                refused[place] = (answer.status_code, answer.text[:500])
    assert {} == refused


def test_responses_of_synthetic_patients_answer_these_questionnaires(
    knowing: Validator, resources: list[dict[str, Any]], mappings: Mappings
) -> None:
    """Forms and instruments: known questions, answers that are offered."""
    known = {resource["url"] for resource in resources if resource["resourceType"] == "Questionnaire"}
    answered: dict[str, int] = {}
    for patient in generate(7, 20, START):
        for event in patient.events:
            resource = orjson.loads(event.value) if event.value else {}
            if resource.get("resourceType") != "QuestionnaireResponse":
                continue
            named = resource["questionnaire"]
            ours = OURS + mappings.instrument_by_questionnaire.get(named, named.rsplit("/", 1)[-1])
            if ours not in known or answered.get(ours, 0) >= 60:
                continue
            answered[ours] = answered.get(ours, 0) + 1
            issues = [issue for issue in knowing.validate(resource | {"questionnaire": ours}) if issue.is_error]
            assert [] == issues, ours
    assert {OURS + name for name in ("phq-9", "gad-7", "audit", "ipt-assessment", "ipt-session")} <= set(answered)


def test_an_answer_that_is_not_offered_is_refused(knowing: Validator) -> None:
    """So that the test above can fail."""
    coding = {"system": "http://loinc.org", "code": "LA32-8"}
    response = {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": f"{OURS}phq-9",
        "status": "completed",
        "item": [{"linkId": "/44250-9", "answer": [{"valueCoding": coding}]}],
    }
    assert [issue for issue in knowing.validate(response) if issue.is_error]


def test_answers_are_offered_in_words_with_their_scores(resources: list[dict[str, Any]]) -> None:
    """A person can fill the Questionnaire in."""
    phq_9 = next(each for each in resources if (each["resourceType"], each["id"]) == ("Questionnaire", "phq-9"))
    options = [option["valueCoding"] for option in phq_9["item"][0]["answerOption"]]
    assert ["Not at all", "Several days", "More than half the days", "Nearly every day"] == [
        option["display"] for option in options
    ]
    assert [0, 1, 2, 3] == [option["extension"][0]["valueDecimal"] for option in options]


def test_no_text_of_an_instrument_that_may_not_be_printed(resources: list[dict[str, Any]], mappings: Mappings) -> None:
    """Where only the total is read, only the total is asked."""
    for resource in resources:
        instrument = mappings.instruments.get(resource["id"])
        if resource["resourceType"] == "Questionnaire" and instrument is not None and instrument.scoring == "stated":
            assert 1 == len(resource["item"])
    assert "epds" not in {resource["id"] for resource in resources} or mappings.instruments["epds"].scoring == "stated"
