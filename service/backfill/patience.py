"""How long a place that is away is asked again, before the command ends and leaves the rest to its next run."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from service.rest.backoff import Backoff
from service.rest.errors import Transient

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
    """Return what `ask` returns, asked again while the server can't answer. Raises Transient when patience ends."""
    attempts = 0
    while True:
        attempts += 1
        try:
            return await ask()
        except Transient as error:
            asked = error.retry_after or 0.0
            if error.code in _NEEDS_A_PERSON or attempts >= MOST_ATTEMPTS or asked > LONGEST_ASKED_S:
                raise
            wait = BACKOFF.wait(attempts, error.retry_after, random.random())  # noqa: S311 - spreads load, guards nothing
        await asyncio.sleep(wait.total_seconds())
