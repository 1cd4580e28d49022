"""Connections to the database: each use is one transaction."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from service.store.dialects import READ_ONLY
from service.store.errors import DATABASE_ERRORS, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class Connections:
    """The two kinds of transaction. Whatever the database raises inside becomes a StoreError."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite takes one writer at a time, and lets the others ask again and again: the loops of one
        # process queue here instead, and each has its turn.
        self._turn = asyncio.Lock() if engine.dialect.name == "sqlite" else None

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @asynccontextmanager
    async def single(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection to PostgreSQL on which each statement is a transaction of its own: one round trip."""
        with translated():
            async with self._single.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a transaction that is committed at the end, and rolled back on any error."""
        async with AsyncExitStack() as stack:
            if self._turn is not None:
                await stack.enter_async_context(self._turn)
            stack.enter_context(translated())
            yield await stack.enter_async_context(self._engine.begin())

    @asynccontextmanager
    async def reading(self, *, snapshot: bool = False) -> AsyncIterator[AsyncConnection]:
        """Give a transaction that only reads, and waits for no writer.

        With `snapshot` all its statements see the same instant; on SQLite they always do.
        """
        options: dict[str, Any] = {READ_ONLY: True}
        if snapshot and self._engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        with translated():
            async with self._engine.connect() as connection:
                yield await connection.execution_options(**options)


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of a driver into a StoreError. Not chained: a driver's text may quote rows."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise translate(error) from None
