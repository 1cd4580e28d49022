"""Synthetic patients and the plans of their courses, against the FHIR validator."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from service.domain.facts import PatientKey
from service.domain.projection import project
from service.outbound.careplan import render
from service.sandbox.patients import PERIOD, SyntheticPatient, generate
from service.sandbox.stories import STORIES, Archetype
from tests.conftest import MAPPINGS
from tests.synthetic import facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.sandbox.validator import Validator

START = date(2026, 1, 5)
END = datetime.combine(START + PERIOD, time(), UTC)
PATIENTS = generate(7, len(STORIES), START)
by_archetype = pytest.mark.parametrize("patient", PATIENTS, ids=list(Archetype))


def errors(validator: Validator, resources: Iterable[dict[str, Any]]) -> list[str]:
    """Return what a server that validates would refuse."""
    return [
        f"{resource['resourceType']} {issue.path}: {issue.message}"
        for resource in resources
        for issue in validator.validate(resource)
        if issue.is_error
    ]


@by_archetype
def test_every_synthetic_resource_is_valid(validator: Validator, patient: SyntheticPatient) -> None:
    """Charts that a real EHR could have written."""
    sent = [event.resource for event in patient.events if event.resource is not None]
    assert [] == errors(validator, [*patient.resources, *sent])


@by_archetype
def test_every_plan_of_a_synthetic_course_is_valid(
    validator: Validator, mappings: Mappings, patient: SyntheticPatient
) -> None:
    """With our extensions, codes and value sets known, and any other extension an error."""
    facts = facts_of(patient.events, mappings)
    courses = project(PatientKey("main", patient.patient_id), facts, END, mappings).courses
    plans = [render(course, mappings) for course in courses]
    assert plans
    assert [] == errors(validator, [resource for plan in plans for _, resource in plan.resources])


@pytest.mark.parametrize("path", sorted([*MAPPINGS.glob("forms/*.json"), *MAPPINGS.glob("terminology/[CV]*.json")]))
def test_our_own_definitions_are_valid(validator: Validator, path: Path) -> None:
    """Forms, code systems and value sets. The validator can't judge StructureDefinitions without the network."""
    assert [] == errors(validator, [orjson.loads(path.read_bytes())])
