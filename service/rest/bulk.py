"""FHIR Bulk Data, the client's side: start an export, ask how it stands, fetch its files, have it deleted.

Source: https://hl7.org/fhir/uv/bulkdata/export.html, version 2.0.0
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import orjson

from service.rest.answers import Answer, not_fhir, outcome_codes, raise_unless_fhir, retry_after
from service.rest.errors import Permanent
from service.rest.links import at_hosts, is_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from service.rest.client import FhirClient

MANIFEST_LIMIT = 32 * 1024 * 1024
"""Bytes of a manifest: some 100,000 files."""
MOST_PAGES = 1000
"""Pages of a manifest; each may name some 100,000 files."""
_PERCENT = re.compile(r"(\d{1,3})\s*%")
_LOST = frozenset({404, 410})
_JSON = "application/json"


class Lost(Exception):  # noqa: N818 - it says what the job is
    """The server no longer knows the export."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An export that the server still prepares."""

    retry_after_s: float | None
    percent: int | None
    """As far as the server tells."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an export."""

    url: str
    kind: str
    """`output`, `deleted` or `error`."""
    resource_type: str
    """Of what it holds; empty where the server does not say."""
    needs_token: bool
    count: int | None
    """Of its resources, where the server says so."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export came to."""

    time: str
    """`transactionTime`, as written: the files hold the state of then. Empty where it is missing."""
    files: tuple[ExportFile, ...]


class BulkExport:
    """The exports of one FHIR server. Raises Transient and Permanent, as `FhirClient` does."""

    def __init__(self, client: FhirClient, hosts: frozenset[str]) -> None:
        """`hosts`, each a name or `name:port`, may hold files beside the server itself."""
        self._client = client
        self._hosts = hosts

    async def start(self, group: str | None, parameters: Sequence[tuple[str, str]]) -> str:
        """Return the address at which the server tells of the export that it begins, of a group or of all patients."""
        path = "Patient/$export" if group is None else f"Group/{group}/$export"
        url = httpx.URL(f"{self._client.base}/{path}", params=httpx.QueryParams(tuple(parameters)))
        headers = {"Accept": "application/fhir+json", "Prefer": "respond-async"}
        async with self._client.exchange("GET", url, headers) as response:
            answer = await self._answer(response)
        place = response.headers.get("Content-Location")
        if answer.status == HTTPStatus.ACCEPTED and place:
            return str(place)
        if answer.ok:
            raise not_fhir(answer.status)
        raise _refused(answer, "does not start the export", "Ask for the right to export, or search instead.")

    async def standing(self, status: str) -> UnderWay | Manifest:
        """Return how an export stands, or its manifest. Raises Lost where the server knows it no longer."""
        files: list[ExportFile] = []
        seen, time = {status}, ""
        while True:
            async with self._client.exchange("GET", self._here(status), {"Accept": _JSON}) as response:
                answer = await self._answer(response)
            if answer.status == HTTPStatus.ACCEPTED:
                found = _PERCENT.search(response.headers.get("X-Progress", ""))
                return UnderWay(retry_after(response.headers), min(100, int(found[1])) if found else None)
            if answer.status in _LOST:
                raise Lost
            if answer.status != HTTPStatus.OK:
                raise _refused(answer, "has given the export up", "Look at its log, and begin again with --restart.")
            manifest = _object(answer)
            files += _files(manifest)
            time = time or _text(manifest.get("transactionTime"))
            following = _next(manifest)
            if following is None:
                return Manifest(time, tuple(files))
            if following in seen or len(seen) >= MOST_PAGES:
                message = "The pages of the export's manifest never end. Report it to the server's maker, or search."
                raise Permanent("endless-pages", message)
            seen.add(following)
            status = following

    async def content(self, file: ExportFile) -> AsyncIterator[bytes]:
        """Yield a file in chunks as they come, packed or not. Raises Permanent for one on a host that is not named."""
        url = at_hosts(self._client.base, file.url, self._hosts)
        if url is None:
            host = _host(self._client.base, file.url)
            raise Permanent(
                "foreign-link",
                f"The export's files are at another host ({host}); they are not fetched. If that is meant, add "
                f"--allow-host {host}.",
            )
        headers = {"Accept": "application/fhir+ndjson"}
        authorised = file.needs_token or is_at(self._client.base, url)
        async with self._client.exchange("GET", url, headers, authorised=authorised) as response:
            if response.status_code != HTTPStatus.OK:
                answer = await self._answer(response)
                raise _refused(answer, "does not give a file of the export", "Begin again with --restart.")
            # As they are: packing is undone behind, within limits.
            async for chunk in response.aiter_raw():
                yield chunk

    async def delete(self, status: str) -> None:
        """Let the server delete an export whose files are read. Raises Transient where it can't be reached."""
        async with self._client.exchange("DELETE", self._here(status), {"Accept": _JSON}) as response:
            await self._answer(response)

    def _here(self, status: str) -> httpx.URL:
        """Return the address of an export's state: at the server itself, wherever its files are."""
        url = at_hosts(self._client.base, status, frozenset())
        if url is None:
            message = (
                "The export's state is at another server than the source's fhir_base; it is not asked there. Set "
                "fhir_base to the address that the server gives itself, or have it told its public one."
            )
            raise Permanent("foreign-link", message)
        return url

    async def _answer(self, response: httpx.Response) -> Answer:
        """Return an answer, read whole. Raises Transient for what says nothing of the export."""
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MANIFEST_LIMIT:
                message = (
                    f"The export's manifest is larger than {MANIFEST_LIMIT} bytes. Export fewer (--type, --group)."
                )
                raise Permanent("answer-too-large", message)
        answer = Answer(response.status_code, None, bytes(body))
        raise_unless_fhir(answer, response.headers)
        return answer


def _refused(answer: Answer, what: str, advice: str) -> Permanent:
    codes = outcome_codes(answer.body)
    named = f", {', '.join(codes)}" if codes else ""
    return Permanent(f"http-{answer.status}", f"The FHIR server {what} ({answer.status}{named}). {advice}")


def _object(answer: Answer) -> Mapping[str, object]:
    try:
        manifest = orjson.loads(answer.body)
    except ValueError:
        raise not_fhir(answer.status) from None
    if not isinstance(manifest, dict):
        raise not_fhir(answer.status)
    return manifest


def _files(manifest: Mapping[str, object]) -> list[ExportFile]:
    token = manifest.get("requiresAccessToken") is True
    found = []
    for kind in ("output", "deleted", "error"):
        listed = manifest.get(kind)
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict) and isinstance(each.get("url"), str):
                count = each.get("count")
                found.append(
                    ExportFile(each["url"], kind, _text(each.get("type")), token, count if type(count) is int else None)
                )
    return found


def _next(manifest: Mapping[str, object]) -> str | None:
    links = manifest.get("link")
    for each in links if isinstance(links, list) else ():
        if isinstance(each, dict) and each.get("relation") == "next" and isinstance(each.get("url"), str):
            return str(each["url"])
    return None


def _host(base: str, url: str) -> str:
    """Return the host of an address, in letters that a terminal may show."""
    try:
        host = httpx.URL(f"{base}/").join(url).netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError, UnicodeDecodeError):
        return "unreadable"
    return host.rpartition("@")[2]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
