"""EHRs that are none: a real FHIR server behind a mask that takes only what a vendor's statement allows."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from service.outbound.agreement import Agreement, Wishes
from service.outbound.destination import Delivered, PlanDelivery
from service.outbound.ehr import EhrDestination
from service.rest.client import FhirClient
from service.rest.transport import authorities
from service.sandbox.mask import Mask
from tests import courses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from service.domain.course import Course
    from service.domain.vendors import VendorProfile
    from service.outbound.careplan import Plan

STATEMENTS = Path(__file__).parent / "specimens" / "statements"
KINDS = ("CarePlan", "Goal", "Task", "Flag", "Provenance", "DocumentReference", "Observation", "Communication")


def statement(vendor: str) -> bytes:
    """Return a vendor's statement, by the name of its specimen."""
    return (STATEMENTS / f"{vendor}.json").read_bytes()


def said(vendor: str, *absent: str, **stated: object) -> bytes:
    """Return a vendor's statement without some resource types, and with other elements for all that remain."""
    whole = orjson.loads(statement(vendor))
    rest = whole["rest"][0]
    rest["resource"] = [{**each, **stated} for each in rest["resource"] if each["type"] not in absent]
    return orjson.dumps(whole)


class Records:
    """What the real server behind the masks holds, as a clinician sees and changes it."""

    def __init__(self, base: str) -> None:
        self._http = httpx.Client(base_url=f"{base}/", timeout=60, verify=authorities())

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def person(self) -> str:
        """Return the id of a patient whom the server knows, and their therapist's: the same."""
        known = f"p-{uuid.uuid4()}"
        for kind in ("Patient", "Practitioner"):
            self.write({"resourceType": kind, "id": known})
        return known

    def read(self, reference: str) -> dict[str, Any]:
        """Return a resource as it stands."""
        answer = self._http.get(reference)
        answer.raise_for_status()
        resource: dict[str, Any] = answer.json()
        return resource

    def write(self, resource: Mapping[str, Any]) -> None:
        """Store a resource, whatever its version."""
        path = f"{resource['resourceType']}/{resource['id']}"
        self._http.put(path, json=resource).raise_for_status()

    def edit(self, resource: Mapping[str, Any], **elements: object) -> None:
        """Change elements of a resource, as a clinician would in the EHR."""
        self.write({**self.read(f"{resource['resourceType']}/{resource['id']}"), **elements})

    def of(self, patient: str, kind: str) -> list[dict[str, Any]]:
        """Return every resource of a type that is a patient's, the oldest first."""
        if kind == "Provenance":
            targets = [f"{each['resourceType']}/{each['id']}" for each in self._plans(patient)]
            params = {"target": ",".join(targets)}
            if not targets:
                return []
        else:
            params = {"patient": patient}
        found = self._http.get(kind, params={**params, "_count": "200", "_sort": "_lastUpdated"}).json()
        return [entry["resource"] for entry in found.get("entry", [])]

    def _plans(self, patient: str) -> list[dict[str, Any]]:
        return [*self.of(patient, "CarePlan"), *self.of(patient, "DocumentReference")]


@contextmanager
def masked(
    behind: str, vendor: str, profiles: Mapping[str, VendorProfile], said: bytes | None = None
) -> Iterator[Mask]:
    """Open a mask with a vendor's statement, or with what is `said` in its place."""
    known = profiles.get(vendor, profiles["generic-r4"])
    with Mask(behind, statement(vendor) if said is None else said, known) as mask:
        yield mask


@asynccontextmanager
async def destination(
    mask: Mask, profiles: Mapping[str, VendorProfile], *, scores: bool = False, note_format: str | None = None
) -> AsyncIterator[EhrDestination]:
    """Open a masked server as a destination that has agreed to what it states."""
    client = FhirClient(mask.base)
    agreement = Agreement("ehr", client, profiles, Wishes(scores=scores, note_format=note_format))
    await agreement.ask()
    opened = EhrDestination("ehr", client, agreement=agreement)
    try:
        yield opened
    finally:
        await opened.close()


def delivery(plan: Plan, after: Delivered | None = None, counter: int = 1) -> PlanDelivery:
    """Return a plan on its way, after what was delivered before."""
    return PlanDelivery(plan.course_id, f"r{counter}", counter, plan, (), after.ledger if after else {})


def course_of(patient: str, **fields: Any) -> Course:  # noqa: ANN401 - any field of a course
    """Return a course of a patient whose therapist has the same id."""
    return courses.course(patient, practitioners=(f"Practitioner/{patient}",), **fields)
