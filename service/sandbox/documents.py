"""An EHR that takes only documents: what many hospitals have, shown before the sandbox's own server."""

from __future__ import annotations

import orjson

from service.domain.vendors import VendorProfile
from service.sandbox.mask import Mask

_STATEMENT = {
    "resourceType": "CapabilityStatement",
    "status": "active",
    "date": "2026-01-01",
    "kind": "instance",
    "fhirVersion": "4.0.1",
    "format": ["json"],
    "software": {"name": "Documents only"},
    "rest": [
        {
            "mode": "server",
            "resource": [
                {"type": "Patient", "interaction": [{"code": "read"}]},
                {
                    "type": "DocumentReference",
                    "interaction": [{"code": "create"}, {"code": "search-type"}],
                    "searchParam": [{"name": "patient", "type": "reference"}, {"name": "identifier", "type": "token"}],
                },
            ],
        }
    ],
}


def documents_only(behind: str) -> Mask:
    """Return a server that lets patients be read, and documents be found and added; nothing is ever changed there.

    `behind` is the FHIR base URL of the server that holds them.
    """
    return Mask(behind, orjson.dumps(_STATEMENT), VendorProfile(title="Documents only"))
