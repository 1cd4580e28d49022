"""The databases that tests run on, SQLite in a file and a real PostgreSQL, and workers over them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from service.store import Store
from tests.workers import Clock, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.sandbox.postgres import Postgres
    from tests.workers import Worker


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, one of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create_database(f"store_{uuid.uuid4().hex}")


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A store with its tables."""
    async with await Store.open(url) as opened:
        await opened.migrate()
        yield opened


@pytest.fixture
async def other(store: Store, url: str) -> AsyncIterator[Store]:
    """A second worker's store over the same database."""
    assert (await store.schema_state()).at_head
    async with await Store.open(url) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    """A clock that both workers read."""
    return Clock()


@pytest.fixture
def one(store: Store, mappings: Mappings, clock: Clock) -> Worker:
    """A worker."""
    return worker(store, mappings, clock)


@pytest.fixture
def two(other: Store, mappings: Mappings, clock: Clock) -> Worker:
    """Another worker on the same database."""
    return worker(other, mappings, clock)
