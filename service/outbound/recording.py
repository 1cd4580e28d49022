"""What one attempt writes at a FHIR server, recorded where it is written: what came of it, failures too."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.outbound.audit import Write
from service.rest.client import Conflict
from service.rest.errors import CONFLICT, Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.outbound.audit import Action
    from service.outbound.elements import Element
    from service.rest.client import Created, FhirClient, Found

INTERRUPTED = "interrupted"
"""Outcome of a write that was not waited for any longer: nobody knows whether it took effect."""
NOT_TAKEN = "not-taken"
"""Outcome of a transaction at a server that takes none."""


class Recording:
    """A client that notes each create, update and delete, with its outcome, as it is made.

    Whether an update without a version is a creation, the read before it tells.
    """

    def __init__(self, client: FhirClient, writes: list[Write]) -> None:
        """`writes` is appended to."""
        self._client = client
        self._writes = writes
        self._absent: set[str] = set()

    @property
    def base(self) -> str:
        """The server's FHIR base URL."""
        return self._client.base

    async def read(self, kind: str, resource_id: str) -> Found | None:
        """Return a resource, as the client does."""
        found = await self._client.read(kind, resource_id)
        reference = f"{kind}/{resource_id}"
        if found is None:
            self._absent.add(reference)
        else:
            self._absent.discard(reference)
        return found

    async def is_deleted(self, kind: str, resource_id: str) -> bool:
        """Return whether the server says that a resource was deleted, as the client does."""
        return await self._client.is_deleted(kind, resource_id)

    async def search(self, kind: str, params: Mapping[str, str]) -> list[Found]:
        """Return what a search finds, as the client does."""
        return await self._client.search(kind, params)

    async def create(self, resource: Element, *, unless: str | None, request_id: str) -> Created:
        """Create a resource, as the client does; one that existed already was not written."""
        kind = resource["resourceType"]
        with self._failing(Write("create", kind, None, None)):
            created = await self._client.create(resource, unless=unless, request_id=request_id)
        if not created.existed:
            self._writes.append(Write("create", kind, created.id, created.version))
        return created

    async def put(self, resource: Element, *, if_match: str | None, anew: bool = False, request_id: str) -> str | None:
        """Update a resource, or create it under its id, as the client does."""
        kind, resource_id = resource["resourceType"], resource["id"]
        reference = f"{kind}/{resource_id}"
        action: Action = "create" if anew or (if_match is None and reference in self._absent) else "update"
        with self._failing(Write(action, kind, resource_id, None)):
            version = await self._client.put(resource, if_match=if_match, anew=anew, request_id=request_id)
        self._absent.discard(reference)
        self._writes.append(Write(action, kind, resource_id, version))
        return version

    async def delete(self, kind: str, resource_id: str, *, request_id: str) -> None:
        """Delete a resource, as the client does."""
        write = Write("delete", kind, resource_id, None)
        with self._failing(write):
            await self._client.delete(kind, resource_id, request_id=request_id)
        self._writes.append(write)

    async def transaction(self, bundle: Element, *, request_id: str) -> list[str | None] | None:
        """Create all resources of a transaction or none, as the client does."""
        resources = [entry["resource"] for entry in bundle["entry"]]
        made = [Write("create", each["resourceType"], each["id"], None) for each in resources]
        with self._failing(*made):
            versions = await self._client.transaction(bundle, request_id=request_id)
        if versions is None:
            self._writes += [each._replace(outcome=NOT_TAKEN) for each in made]
        else:
            self._writes += [each._replace(version=version) for each, version in zip(made, versions, strict=True)]
        return versions

    @contextmanager
    def _failing(self, *writes: Write) -> Iterator[None]:
        """Note these writes with what they failed with, where they fail."""
        outcome = None
        try:
            yield
        except Conflict:
            outcome = CONFLICT
            raise
        except (Transient, Permanent) as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            outcome = INTERRUPTED
            raise
        finally:
            if outcome is not None:
                self._writes += [each._replace(outcome=outcome) for each in writes]
