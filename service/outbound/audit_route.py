"""How a FHIR server is told of what was written there: AuditEvents, where it takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.forms import FHIR_BASE
from service.outbound.audit import SUCCESS, Naming, audit_event
from service.rest.client import Conflict
from service.rest.errors import NEVER_RETRIED, Permanent

if TYPE_CHECKING:
    from service.outbound.agreement import Agreement
    from service.outbound.audit import Audited
    from service.outbound.elements import Element
    from service.outbound.terms import Taken
    from service.rest.client import FhirClient

TAG_SYSTEM = f"{FHIR_BASE}/audit-row"
"""System of the tag by which a server that chooses ids finds an AuditEvent of ours: AuditEvent has no identifier."""

NOT_TAKEN = "audit-not-taken"
"""Code of a Permanent: the server takes no AuditEvents at all."""


class AuditRoute:
    """Tells one FHIR server, over the client that its plans go by and so within its rate."""

    def __init__(self, client: FhirClient, agreement: Agreement, *, deletes: bool = False) -> None:
        """`deletes`: plans that are taken back are deleted there, so that nothing may refer to them."""
        self._client = client
        self._agreement = agreement
        self._deletes = deletes

    async def tell(self, told: Audited) -> None:
        """Return once the server has the AuditEvent of a write. Raises Transient or Permanent.

        Repeating is harmless under ids of ours, or where a create can depend on a search by tag; elsewhere an
        AuditEvent whose answer was lost stands there twice.
        """
        taken = (await self._agreement.terms()).audit
        if taken is None:
            message = "The FHIR server takes no AuditEvents. Set audit_events = false, or have it take them."
            raise Permanent(NOT_TAKEN, message)
        try:
            await self._sent(audit_event(told, self._naming(told)), taken, told)
        except Permanent as error:
            if error.code == NEVER_RETRIED:
                raise
            # What it refers to may be gone by now, or not ours to refer to.
            await self._sent(audit_event(told, Naming.IDENTIFIERS), taken, told)

    def _naming(self, told: Audited) -> Naming:
        write = told.write
        if write.outcome != SUCCESS:
            return Naming.IDENTIFIERS
        return Naming.PATIENT if self._deletes or write.action == "delete" else Naming.REFERENCES

    async def _sent(self, event: Element, taken: Taken, told: Audited) -> None:
        try:
            if taken.ours:
                await self._client.put(event, if_match=None, anew=True, request_id=told.id)
                return
            meta = {"tag": [{"system": TAG_SYSTEM, "code": told.id}]}
            body = {name: value for name, value in event.items() if name != "id"} | {"meta": meta}
            # A server that overlooked the search would take any AuditEvent for ours: it has to list the parameter.
            found_by_tag = taken.conditional and "_tag" in taken.searched_by
            unless = f"_tag={TAG_SYSTEM}|{told.id}" if found_by_tag else None
            await self._client.create(body, unless=unless, request_id=told.id)
        except Conflict:
            return  # it stands there already
