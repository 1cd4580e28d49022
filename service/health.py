"""Probes: is the process alive, is it ready, what are its numbers.

Alive means that the loops go round, whatever the broker, the database or a destination does: a restart
cures none of those. Ready says whether this worker takes part; nothing stops working because it is not.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request

    from service.metrics import Metrics

PATIENCE_S = 120.0
"""Longest time between two turns of a loop: longer than a batch, a lease or a back-off step takes."""


class Condition(StrEnum):
    """What has to hold before this worker is ready."""

    CONFIGURATION = "configuration"
    SCHEMA = "schema"
    CONSUMING = "consuming"


@dataclass(slots=True)
class Health:
    """What the loops and the wiring report of themselves; times are seconds of `now`."""

    now: Callable[[], float] = time.monotonic
    patience_s: float = PATIENCE_S
    stopping: bool = False
    _turns: dict[str, float] = field(default_factory=dict)
    _met: set[Condition] = field(default_factory=set)

    def turn(self, loop: str) -> None:
        """Note that `loop` went round: also while it waits for a broker or a database that is away."""
        self._turns[loop] = self.now()

    def ended(self, loop: str) -> None:
        """Note that `loop` ended as intended and will not go round again."""
        self._turns.pop(loop, None)

    def hold(self, condition: Condition, *, holds: bool = True) -> None:
        """Note whether `condition` holds."""
        if holds:
            self._met.add(condition)
        else:
            self._met.discard(condition)

    def stuck(self) -> list[str]:
        """Return the loops that have not gone round within the patience."""
        now = self.now()
        return sorted(loop for loop, at in self._turns.items() if now - at > self.patience_s)

    def missing(self) -> list[str]:
        """Return what is lacking before the worker is ready."""
        unmet = [condition.value for condition in Condition if condition not in self._met]
        return ["stopping", *unmet] if self.stopping else unmet


def health_app(health: Health, metrics: Metrics) -> Starlette:
    """Return the web application with /livez, /readyz (200 or 503, the reasons as JSON) and /metrics."""

    async def livez(_: Request) -> Response:
        stuck = health.stuck()
        return JSONResponse({"stuck": stuck}, status_code=503 if stuck else 200)

    async def readyz(_: Request) -> Response:
        missing = health.missing()
        return JSONResponse({"missing": missing}, status_code=503 if missing else 200)

    async def numbers(_: Request) -> Response:
        body, content_type = metrics.exposition()
        return Response(body, headers={"Content-Type": content_type})

    return Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", numbers)],
    )


@asynccontextmanager
async def serving(app: Starlette, host: str, port: int) -> AsyncIterator[str]:
    """Serve `app` while the block lasts; the value is the base URL, with the port taken where `port` is 0.

    Raises OSError where the address is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    server = _Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield url
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process's own handlers."""
        yield
