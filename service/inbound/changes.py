"""Changes: what an envelope says happened to one resource."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from service.domain.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Operation(StrEnum):
    """What happened. Where the envelope doesn't tell a create from an update, it is an update."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    MISSING = "missing"
    """Its server does not find it: a delete, and less than what is read of the same version."""


class Change(Value, frozen=True):
    """One resource, created, updated or deleted."""

    resource_type: str
    resource_id: str
    """Empty where neither the resource nor its envelope gives a usable one."""
    operation: Operation
    resource: Mapping[str, Any] | None
    """Raw JSON. None for a delete, and where the envelope only names the resource."""
    path: str
    """Where the resource stands in its record, for the paths of errors."""
    version_id: str | None = None
    """As the envelope says; what the resource's `meta` says goes before."""
    last_updated: datetime | None = None
    """As the envelope says; what the resource's `meta` says goes before."""
    local: Mapping[str, str] = MappingProxyType({})
    """What `urn:` references stand for in the same Bundle: fullUrl to `Type/id`."""
