"""What many tests share: the standard mappings, and the real parts.

A part is started when the first test asks for it and stopped after the last test.
A part that can't start is an error, never a skip: a green run has tested what it says.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from xdist.scheduler import LoadFileScheduling

from service.domain.mapping_files import parse
from service.sandbox.hapi import FhirServer
from service.sandbox.kafka import Broker
from service.sandbox.postgres import Postgres
from service.sandbox.validator import Validator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer

    from service.domain.mappings import Mappings

TESTS = Path(__file__).parent
MAPPINGS = TESTS.parent / "mappings"


class ByPart(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no type marks
    """Each file's tests go to one of several processes, and all that need the FHIR server to the same one.

    No part takes longer to start and to warm up.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "the FHIR server" if _needs_fhir_server(file) else file


@cache
def _needs_fhir_server(file: str) -> bool:
    return "fhir_server" in (TESTS.parent / file).read_text()


@pytest.hookimpl(optionalhook=True)  # the plugin may be turned off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByPart:
    """Return what shares out the tests."""
    return ByPart(config, log)


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> None:
    """Log exceptions without each frame's variables: showing all mappings takes seconds of CPU time for each."""
    structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)])


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
