"""How each request proves who we are: `httpx.Auth` made of values. httpx has Basic itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Generator


class Bearer(httpx.Auth):
    """One token for every request."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the request with its header."""
        request.headers["Authorization"] = self._header
        yield request
