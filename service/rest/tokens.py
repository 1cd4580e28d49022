"""Access tokens: fetched once for all who wait, kept, and fetched anew before they end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from service.rest.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EARLY_S = 60.0
"""Longest time before a token's end from which on the next one is fetched (seconds); SMART tokens live for 300."""
EARLY_SHARE = 0.25
"""The same as a share of its life, for tokens that live more briefly."""
PATIENCE_S = 10.0
"""Wait after an early fetch that failed, while the token at hand still holds (seconds)."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token endpoint grants."""

    value: str = field(repr=False)
    lifetime_s: float
    scopes: frozenset[str] | None = None
    """The scopes granted; None where the answer names none, which are then those asked for (RFC 6749, 5.1)."""


@dataclass(frozen=True, slots=True)
class _Held:
    token: Token
    refresh_at: float
    ends_at: float


class TokenCache:
    """One token at a time, for any number of concurrent requests of one event loop."""

    def __init__(self, fetch: Callable[[], Awaitable[Token]], *, clock: Callable[[], float] = time.monotonic) -> None:
        """`fetch` asks the token endpoint; `clock` gives seconds that never go back."""
        self._fetch = fetch
        self._clock = clock
        self._held: _Held | None = None
        self._flight: asyncio.Task[Token] | None = None

    async def token(self, *, refused: str | None = None) -> Token:
        """Return a token that holds, other than the one that a server has just refused.

        Raises what `fetch` raises, to all who wait for it.
        """
        held = self._held
        usable = held is not None and held.token.value != refused
        if held is not None and usable and self._clock() < held.refresh_at:
            return held.token
        if self._flight is None:
            self._flight = asyncio.create_task(self._fetched())
            self._flight.add_done_callback(self._landed)
        try:
            # One who stops waiting must not end it for the others.
            return await asyncio.shield(self._flight)
        except Transient:
            now = self._clock()
            if held is None or not usable or now >= held.ends_at:
                raise
            if self._held is held:
                self._held = replace(held, refresh_at=min(held.ends_at, now + PATIENCE_S))
            return held.token

    async def _fetched(self) -> Token:
        asked_at = self._clock()
        token = await self._fetch()
        ends_at = asked_at + token.lifetime_s
        early = min(EARLY_S, EARLY_SHARE * token.lifetime_s)
        self._held = _Held(token, ends_at - early, ends_at)
        return token

    def _landed(self, flight: asyncio.Task[Token]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # looked at, in case nobody waits for it any more
