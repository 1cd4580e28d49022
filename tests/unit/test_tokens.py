"""Access tokens: when one is fetched, for whom, and what happens where none is to be had."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from service.rest.errors import Transient
from service.rest.tokens import EARLY_S, PATIENCE_S, Token, TokenCache


@dataclass
class Endpoint:
    """Grants token-1, token-2 and so on, or fails, at a time that the test sets."""

    lifetime_s: float = 300.0
    time: float = 1000.0
    asked: int = 0
    fails: bool = False
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Let requests through."""
        self.open.set()

    async def fetch(self) -> Token:
        """Return the next token."""
        self.asked += 1
        number = self.asked
        await self.open.wait()
        if self.fails:
            raise Transient("token-unreachable", "away")
        return Token(f"token-{number}", self.lifetime_s)


@pytest.fixture
def endpoint() -> Endpoint:
    """Return an endpoint that grants tokens for five minutes."""
    return Endpoint()


@pytest.fixture
def cache(endpoint: Endpoint) -> TokenCache:
    """Return a cache of its tokens."""
    return TokenCache(endpoint.fetch, clock=lambda: endpoint.time)


async def test_a_token_is_kept_until_shortly_before_its_end(endpoint: Endpoint, cache: TokenCache) -> None:
    """A request that is under way when a token ends would be refused."""
    values = []
    for passed in (0.0, 300 - EARLY_S - 1, 300 - EARLY_S):
        endpoint.time = 1000 + passed
        values.append((await cache.token()).value)

    assert ["token-1", "token-1", "token-2"] == values


async def test_a_brief_token_is_kept_for_three_quarters_of_its_life(endpoint: Endpoint, cache: TokenCache) -> None:
    """Else every request would fetch one."""
    endpoint.lifetime_s = 40
    values = []
    for passed in (0, 29, 30):
        endpoint.time = 1000 + passed
        values.append((await cache.token()).value)

    assert ["token-1", "token-1", "token-2"] == values


async def test_all_who_need_a_token_wait_for_one_fetch(endpoint: Endpoint, cache: TokenCache) -> None:
    """A hundred concurrent requests ask the endpoint once."""
    endpoint.open.clear()
    waiting = [asyncio.create_task(cache.token()) for _ in range(100)]
    await asyncio.sleep(0)
    endpoint.open.set()

    assert {"token-1"} == {token.value for token in await asyncio.gather(*waiting)}
    assert 1 == endpoint.asked


async def test_one_who_gives_up_does_not_end_the_fetch_for_others(endpoint: Endpoint, cache: TokenCache) -> None:
    """A delivery that is cancelled takes nobody's token away."""
    endpoint.open.clear()
    hasty, patient = asyncio.create_task(cache.token()), asyncio.create_task(cache.token())
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.sleep(0)
    endpoint.open.set()

    assert "token-1" == (await patient).value
    assert (True, 1) == (hasty.cancelled(), endpoint.asked)


async def test_a_refused_token_is_replaced_once_for_all_whom_it_failed(endpoint: Endpoint, cache: TokenCache) -> None:
    """Those who come later with the same refusal get the token that replaced it."""
    refused = (await cache.token()).value
    values = [(await cache.token(refused=refused)).value for _ in range(3)]

    assert (["token-2"] * 3, 2) == (values, endpoint.asked)


async def test_while_the_token_holds_a_failed_early_fetch_hurts_nobody(endpoint: Endpoint, cache: TokenCache) -> None:
    """It is tried again after a while, not with every request; at the token's end it fails."""
    await cache.token()
    endpoint.fails = True
    endpoint.time = 1000 + 300 - EARLY_S
    values = [(await cache.token()).value for _ in range(3)]
    assert (["token-1"] * 3, 2) == (values, endpoint.asked)

    endpoint.time += PATIENCE_S
    assert ("token-1", 3) == ((await cache.token()).value, endpoint.asked)

    endpoint.time = 1000 + 300
    with pytest.raises(Transient, match="away"):
        await cache.token()

    endpoint.fails = False
    assert "token-5" == (await cache.token()).value


async def test_a_refused_token_is_not_given_again_where_no_other_is_to_be_had(
    endpoint: Endpoint, cache: TokenCache
) -> None:
    """It may hold by the clock, and is worth nothing."""
    refused = (await cache.token()).value
    endpoint.fails = True

    with pytest.raises(Transient, match="away"):
        await cache.token(refused=refused)


def test_a_token_is_not_shown() -> None:
    """Neither in logs nor in tracebacks with values."""
    assert "token-1" not in repr(Token("token-1", 300.0))
