"""What goes wrong, what is said of it, and whether trying again is worth it."""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.store import Store, StoreError, is_transient
from service.store.errors import translate
from tests.integration.store.samples import ANNA, BEN, LEASE, NOW, course, fact, update, write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from service.domain.facts import PatientKey
    from service.sandbox.postgres import Postgres
    from service.store import Transaction


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("mysql://u:secret@h/d", "sqlite:///path or postgresql://"),
        ("secret", "sqlite:///path or postgresql://"),
        ("sqlite://", "sqlite:///path"),
        ("postgresql://u:secret@127.0.0.1:1/d", "IPT_STORE__URL or [store] url"),
        ("sqlite:////nowhere/at/all.sqlite", "IPT_STORE__URL or [store] url"),
    ],
)
async def test_store_that_can_not_be_opened_names_the_setting_and_no_secret(url: str, hint: str) -> None:
    """The message says where to look, and holds nothing of the URL."""
    with pytest.raises(StoreError) as caught:
        await Store.open(url)

    assert hint in str(caught.value)
    # As a log would have it: a driver's own error in the chain would tell the URL.
    told = [line for line in traceback.format_exception(caught.value) if not line.startswith("  File")]
    assert "secret" not in "".join(told)


async def test_database_without_tables_asks_for_migrate(url: str) -> None:
    """Nothing is wrong with the data: it is worth trying again once the tables are there."""
    async with await Store.open(url) as store:
        with pytest.raises(StoreError, match="ipt-bridge migrate") as caught:
            await store.due_patients(datetime(2026, 1, 1, tzinfo=UTC), 1)

    assert is_transient(caught.value)


async def test_value_that_no_column_holds_is_permanent_and_not_quoted(store: Store) -> None:
    """Trying again is in vain, and the message tells nothing of the row."""
    error = await failure(store, lambda transaction: transaction.merge([fact("secret", ANNA, at=2**70)]))

    assert not is_transient(error)
    assert "secret" not in str(error)
    assert "anna" not in str(error)


async def test_row_that_a_constraint_refuses_is_permanent_and_not_quoted(store: Store) -> None:
    """PostgreSQL's own text would name the patient."""
    error = await failure(store, lambda transaction: transaction.write([update(course("c"))], (), NOW))

    assert not is_transient(error)
    assert "anna" not in "".join(traceback.format_exception(error))


async def test_lock_that_another_program_holds_is_transient(tmp_path: Path) -> None:
    """A locked file is worth another try."""
    path = tmp_path / "store.sqlite"
    async with await Store.open(f"sqlite:///{path}") as store:
        await store.migrate()
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        impatient = sqlite3.connect(path, isolation_level=None, timeout=0)
        with pytest.raises(sqlite3.OperationalError) as caught:
            impatient.execute("BEGIN IMMEDIATE")
        impatient.close()
        holder.close()

        assert translate(caught.value).transient
        assert () == await write(store, update())


async def test_connection_that_the_server_ends_is_transient_and_the_store_recovers(postgres: Postgres) -> None:
    """The transaction is lost as a whole; the next one gets a connection that works."""
    url = postgres.create_database("store_killed")
    async with await Store.open(url) as store:
        await store.migrate()

        async def lose(transaction: Transaction) -> object:
            await transaction.lock([ANNA])
            await terminate(url)
            return await transaction.merge([fact("e")])

        error = await failure(store, lose)

        assert is_transient(error)
        async with store.transaction() as transaction:
            assert set() == await transaction.known_patients([ANNA])


async def test_transactions_that_meet_head_on_are_transient(postgres: Postgres) -> None:
    """Of two that lock in opposite orders one goes through, and the other may try again."""
    async with await Store.open(postgres.create_database("store_deadlock")) as store:
        await store.migrate()
        both = asyncio.Barrier(2)

        async def lock(first: PatientKey, second: PatientKey) -> None:
            async with store.transaction() as transaction:
                await transaction.lock([first])
                await both.wait()
                await transaction.lock([second])

        results = await asyncio.gather(lock(ANNA, BEN), lock(BEN, ANNA), return_exceptions=True)

    (error,) = [each for each in results if each is not None]
    assert is_transient(error)


async def test_store_goes_on_after_the_server_closed_connections_that_waited(postgres: Postgres) -> None:
    """Whoever uses the store next is given one that is open."""
    url = postgres.create_database("store_closed")
    async with await Store.open(url) as store:
        await store.migrate()
        await write(store, update(course("c")))
        await terminate(url)
        await asyncio.sleep(0.2)  # until the driver has noticed

        assert ["r1"] == [each.revision for each in await store.deliveries.claim("topic", NOW, 10, LEASE)]


async def failure(store: Store, work: Callable[[Transaction], Awaitable[object]]) -> StoreError:
    """What the store says of work that it can't do."""

    async def attempt() -> None:
        async with store.transaction() as transaction:
            await work(transaction)

    with pytest.raises(StoreError) as caught:
        await attempt()
    return caught.value


async def terminate(url: str) -> None:
    """End every other connection to this database, as an administrator would."""
    admin = await asyncpg.connect(url.replace("+asyncpg", ""))
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await admin.close()
