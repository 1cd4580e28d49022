"""A proxy in front of a FHIR server that does to a request what networks and servers do to requests.

It speaks HTTP byte by byte, so that it can also break it. One request a connection.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

import httpx

from service.rest.transport import authorities

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

PASSED_ON = ("content-type", "if-match", "if-none-exist", "prefer", "accept")
PASSED_BACK = ("content-type", "etag", "location", "content-location", "last-modified")
WRITES = frozenset({"PUT", "POST", "PATCH", "DELETE"})
BEGINNING = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n"
CHUNK = b"a" * 65_536


class How(Enum):
    """What becomes of a request, and of its answer."""

    ANSWERED = auto()
    """The fault's own answer, and the server learns nothing of the request."""
    LOST = auto()
    """No answer, and the server learns nothing of the request."""
    LOST_AFTER = auto()
    """No answer, though the server has done what was asked."""
    CUT_AFTER = auto()
    """The connection is reset in the midst of the answer's body; the server has done what was asked."""
    ENDLESS = auto()
    """A body that does not end; the server learns nothing of the request."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    how: How
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    body: bytes = b""
    media_type: str = "application/fhir+json"


@dataclass(slots=True)
class FaultProxy:
    """A server at `base`: what is asked of it goes to `upstream`, but for the requests that faults wait for."""

    upstream: str
    base: str = ""
    meets: Callable[[str, str, bytes], bool] = lambda method, _target, _body: method in WRITES
    """Whether a request (method, target, body) is one of those that the faults wait for."""
    faults: list[Fault] = field(default_factory=list)
    """Those to come, one a request."""
    before: Callable[[str], Awaitable[None]] | None = None
    """What happens to the world before each request, of this method, is passed on."""
    stores: Callable[[bytes], bytes] = bytes
    """What the server makes of the body of a PUT before it stores it."""
    met: int = 0
    """How many requests met one."""
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            await self._serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        pairs = (line.partition(":") for line in lines[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(f"{method} {target}")
        if method == "PUT":
            body = self.stores(body)
        if self.before is not None:
            await self.before(method)
        if self.faults and self.meets(method, target, body):
            self.met += 1
            await self._go_wrong(self.faults.pop(0), method, target, headers, body, writer)
        else:
            writer.write(await self._upstream(method, target, headers, body))
            await writer.drain()

    async def _go_wrong(  # noqa: PLR0917 - a request's parts
        self,
        fault: Fault,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> None:
        match fault.how:
            case How.ANSWERED:
                writer.write(answer(fault.status, *fault.headers, body=fault.body, media_type=fault.media_type))
                await writer.drain()
            case How.LOST:
                await asyncio.sleep(3600)
            case How.LOST_AFTER:
                await self._upstream(method, target, headers, body)
                await asyncio.sleep(3600)
            case How.CUT_AFTER:
                whole = await self._upstream(method, target, headers, body)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 500000\r\n\r\n"
                )
                writer.write(whole.partition(b"\r\n\r\n")[2][:20] or b"{")
                await writer.drain()
                writer.transport.abort()
            case How.ENDLESS:
                writer.write(BEGINNING + b"\r\n")
                while True:
                    writer.write(CHUNK)
                    await writer.drain()

    async def _upstream(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        path = target.partition("/fhir")[2]
        kept = {name: headers[name] for name in PASSED_ON if name in headers}
        async with httpx.AsyncClient(timeout=60, verify=authorities()) as http:
            found = await http.request(method, f"{self.upstream}{path}", content=body, headers=kept)
        back = [f"{name}: {found.headers[name]}" for name in PASSED_BACK if name in found.headers]
        return answer(f"{found.status_code} {found.reason_phrase}", *back, body=found.content, media_type=None)


def answer(status: str, *headers: str, body: bytes = b"", media_type: str | None = "application/fhir+json") -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    if body and media_type:
        lines.append(f"Content-Type: {media_type}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def fault_proxy(upstream: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[FaultProxy]:
    """Stand in front of a server while the block lasts."""
    proxy = FaultProxy(upstream)
    under_way: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    proxy.base = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir"
    try:
        yield proxy
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)  # an aborted connection is closed in the loop's next turn
