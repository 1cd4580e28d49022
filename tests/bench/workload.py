"""Work of the service's own functions in a process of its own, which prints what it took as one line of JSON."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import orjson

from service.sandbox.process import Child
from tests.bench.worker import BenchError

if TYPE_CHECKING:
    from tests.bench.parts import Parts


async def run(parts: Parts, module: str, *arguments: object) -> dict[str, Any]:
    """Return what `tests.bench.<module>` says when it is run with these arguments."""
    log = parts.folder / f"{parts.name(module)}.log"
    child = Child(module, [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)], log=log)
    try:
        while child.running:  # noqa: ASYNC110 - a process tells nobody that it ends
            await asyncio.sleep(0.02)
    finally:
        child.kill()
    try:
        said: dict[str, Any] = orjson.loads(log.read_bytes().splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchError(f"{module} said nothing that can be read: {log.read_text()[-3000:]}") from None
    return said
