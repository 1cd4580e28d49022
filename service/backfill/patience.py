"""How long a place that is away is asked again, before the command ends and leaves the rest to its next run."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from service.rest.backoff import Backoff
from service.rest.errors import Transient
from service.store.errors import StoreError, is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_T = TypeVar("_T")

BACKOFF = Backoff(first_s=1.0, longest_s=60.0)
MOST_ATTEMPTS = 8
"""At one request: with waits that double, some two minutes."""
LONGEST_ASKED_S = 600.0
"""A server that asks to wait longer is not waited for (seconds)."""
_NEEDS_A_PERSON = frozenset({"unauthorised", "redirected", "not-fhir"})
"""Codes of answers that stay the same until somebody changes a setting."""


async def insisting(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Return what `ask` returns, asked again while the server, or the database, can't answer.

    Raises Transient, or StoreError, when patience ends; whatever else it raises, at once.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            return await ask()
        except (Transient, StoreError, OSError) as error:
            await asyncio.sleep(wait_after(error, attempts))


def wait_after(error: Exception, attempts: int) -> float:
    """Return how long to wait after a failed attempt (seconds). Raises the error where waiting is of no use."""
    asked = error.retry_after if isinstance(error, Transient) else None
    if attempts >= MOST_ATTEMPTS or not _may_pass(error) or (asked or 0.0) > LONGEST_ASKED_S:
        raise error
    return BACKOFF.wait(attempts, asked, random.random()).total_seconds()  # noqa: S311 - spreads load, guards nothing


def _may_pass(error: Exception) -> bool:
    return error.code not in _NEEDS_A_PERSON if isinstance(error, Transient) else is_transient(error)
