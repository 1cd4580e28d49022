"""How each request proves who we are: `httpx.Auth` made of values. httpx has Basic itself."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator

    from service.rest.tokens import TokenCache

MOST_OF_A_REFUSAL = 65_536
"""Bytes that are read of a 401's body before the request is made again."""


class Bearer(httpx.Auth):
    """One token for every request."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the request with its header."""
        request.headers["Authorization"] = self._header
        yield request


class Granted(httpx.Auth):
    """The token that the cache has; where the server refuses it (401), another one, once."""

    def __init__(self, tokens: TokenCache) -> None:
        self._tokens = tokens

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Yield the request with a token, and again with another. Raises what fetching it raises."""
        token = await self._tokens.token()
        request.headers["Authorization"] = f"Bearer {token.value}"
        answer = yield request
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            return
        # httpx reads the whole body before it asks again.
        answer.stream = _Beginning(answer.stream)
        token = await self._tokens.token(refused=token.value)
        request.headers["Authorization"] = f"Bearer {token.value}"
        yield request


class _Beginning(httpx.AsyncByteStream):
    def __init__(self, whole: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        if isinstance(self._whole, httpx.AsyncByteStream):
            async for chunk in self._whole:
                yield chunk
                read += len(chunk)
                if read > MOST_OF_A_REFUSAL:
                    return

    async def aclose(self) -> None:
        if isinstance(self._whole, httpx.AsyncByteStream):
            await self._whole.aclose()
