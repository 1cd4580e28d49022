"""Statements that are compiled once and handed to the driver: for what runs with every event.

SQLAlchemy takes 0.2 ms for a statement that the driver and the database are done with in 0.05 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Delete, Dialect, Insert, Select, Update
    from sqlalchemy.ext.asyncio import AsyncConnection

    _Process = Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement as the driver takes it."""

    sql: str
    names: tuple[str, ...]
    """Parameters by place."""
    constants: Mapping[str, Any]
    """Values that stand in the statement itself."""
    processes: tuple[_Process, ...] | None
    """From the driver's value of each column to ours; None where all are the same."""

    @classmethod
    def of(cls, statement: Select[Any] | Insert | Update | Delete, dialect: Dialect) -> _Text:
        compiled = statement.compile(dialect=dialect)
        types = [each.type.dialect_impl(dialect) for each in statement.exported_columns]
        processes = tuple(each.result_processor(dialect, None) for each in types)
        return cls(
            str(compiled),
            tuple(compiled.positiontup or ()),
            compiled.params,
            processes if any(processes) else None,
        )


class Compiled:
    """A statement of one dialect. Lists that are expanded (`in_`) have no place in it: bind rows instead."""

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement = statement
        self._text: _Text | None = None

    async def rows(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run it in the connection's transaction, and return its rows: none, if it returns nothing."""
        if not connection.in_transaction():
            await connection.begin()
        text = self._text
        if text is None:
            text = self._text = _Text.of(self._statement, connection.dialect)
        given = {**text.constants, **parameters}
        values = [given[name] for name in text.names]
        driver = connection.sync_connection.connection.driver_connection  # type: ignore[union-attr] # it is open
        rows: list[Any]
        if connection.dialect.name == "postgresql":
            rows = await driver.fetch(text.sql, *values)  # type: ignore[union-attr] # asyncpg's connection
        else:
            rows = await driver.execute_fetchall(text.sql, values)  # type: ignore[union-attr] # aiosqlite's
        if text.processes is None:
            return rows
        return [_processed(row, text.processes) for row in rows]


def _processed(row: Sequence[Any], processes: Sequence[_Process]) -> tuple[Any, ...]:
    return tuple(value if process is None else process(value) for value, process in zip(row, processes, strict=True))
