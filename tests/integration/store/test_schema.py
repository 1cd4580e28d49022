"""The tables and their migrations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from service.store import SchemaState, Store
from service.store.schema import config_on
from service.store.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

HEAD = "0011"


def differences(connection: Connection) -> Sequence[object]:
    """What alembic would change to make the tables those of the code."""
    found: Sequence[object] = compare_metadata(
        MigrationContext.configure(connection, opts={"compare_type": True}), metadata
    )
    return found


def back_to(connection: Connection, number: str) -> None:
    """Undo the migrations after this one."""
    command.downgrade(config_on(connection), number)


async def test_migrations_make_the_tables_that_the_code_knows(store: Store, url: str) -> None:
    """Nothing is left that alembic would change."""
    assert (await store.schema_state()).at_head
    drivers = {"sqlite:": "sqlite+aiosqlite:", "postgresql:": "postgresql+asyncpg:"}
    for plain, driver in drivers.items():
        url = url.replace(plain, driver)
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()

    assert [] == found


async def test_empty_database_says_so_until_it_is_migrated(url: str) -> None:
    """The state tells what is there and what is needed."""
    async with await Store.open(url) as store:
        assert SchemaState(None, HEAD) == await store.schema_state()
        assert SchemaState(None, HEAD) == await store.migrate()
        assert SchemaState(HEAD, HEAD) == await store.schema_state()


async def test_of_migrators_at_once_one_migrates(url: str) -> None:
    """The others wait, and find the work done."""

    async def migrate() -> SchemaState:
        async with await Store.open(url) as store:
            return await store.migrate()

    found = await asyncio.gather(*(migrate() for _ in range(4)))

    assert [HEAD, HEAD, HEAD, None] == sorted((each.current for each in found), key=lambda each: each or "~")


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite compresses nothing
async def test_postgresql_compresses_long_texts_by_lz4_where_it_can(store: Store, url: str) -> None:
    """The older way takes more of the server's time for each course that is stored."""
    del store
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    ways = await connection.fetchval("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
    columns = await connection.fetch(
        "SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attcompression = 'l' ORDER BY 1, 2"
    )
    await connection.close()

    long = [("course", "state"), ("delivery", "remote"), ("fact", "body")]
    assert [tuple(each) for each in columns] == (long if "lz4" in (ways or ()) else [])


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
async def test_migration_beside_a_running_intake_ends_neither(store: Store, url: str) -> None:
    """It comes to the tables in the intake's order: it waits for the transaction, which goes on."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(back_to, "0010")
    await engine.dispose()
    intake, watcher = [await asyncpg.connect(url.replace("+asyncpg", "")) for _ in range(2)]
    async with asyncio.timeout(30), intake.transaction():
        await intake.execute("LOCK TABLE fact IN ROW EXCLUSIVE MODE")
        migrating = asyncio.create_task(store.migrate())
        while not await watcher.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'fact'::regclass"
        ):
            assert not migrating.done()
            await asyncio.sleep(0.01)
        await intake.execute("LOCK TABLE course IN ROW EXCLUSIVE MODE")
        await intake.execute("LOCK TABLE delivery IN ROW EXCLUSIVE MODE")
    assert SchemaState("0010", HEAD) == await migrating
    await intake.close()
    await watcher.close()
