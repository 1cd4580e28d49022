"""What many tests share: the standard mappings, and the real parts.

A part is started when the first test asks for it and stopped after the last test.
A part that can't start is an error, never a skip: a green run has tested what it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.domain.mapping_files import parse
from service.sandbox.hapi import FhirServer
from service.sandbox.kafka import Broker
from service.sandbox.postgres import Postgres
from service.sandbox.validator import Validator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.mappings import Mappings

MAPPINGS = Path(__file__).parents[1] / "mappings"


@pytest.fixture(scope="session")
def mapping_files() -> dict[str, bytes]:
    """Every file of `mappings/` by its path within the folder."""
    return {path.relative_to(MAPPINGS).as_posix(): path.read_bytes() for path in MAPPINGS.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def mappings(mapping_files: dict[str, bytes]) -> Mappings:
    """The standard mappings, with no site's own."""
    return parse(mapping_files)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """A Kafka broker that all tests share: each test takes topics of its own."""
    with Broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def fhir_server() -> Iterator[FhirServer]:
    """A validating FHIR server that all tests share: `reset()` it, or take ids of your own."""
    with FhirServer(validate=True, subscriptions=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that all tests share: each test creates a database of its own."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def validator() -> Iterator[Validator]:
    """A FHIR validator that knows the project's own extensions, codes and questionnaires."""
    with Validator([MAPPINGS / "terminology", MAPPINGS / "forms"]) as running:
        yield running
