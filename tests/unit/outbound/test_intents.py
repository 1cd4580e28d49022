"""Creates that nobody could look for afterwards: what of them stays in the ledger, and what a person's word undoes."""

from __future__ import annotations

import contextlib

import httpx
import orjson
import pytest

from service.outbound.intents import meaning
from service.outbound.ledger import Remote
from service.rest.answers import Answer, raise_unless_fhir
from service.rest.errors import Transient

OUTCOME = orjson.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "transient"}]})


@pytest.mark.parametrize(
    ("status", "headers", "body", "may_be_there"),
    [
        (503, {}, b"upstream connect error or disconnect/reset before headers", True),
        (503, {"Retry-After": "5"}, b"", False),
        (503, {"Content-Type": "application/fhir+json"}, OUTCOME, False),
        (504, {"Retry-After": "5"}, OUTCOME, True),
        (408, {}, b"", True),
        (429, {}, b"", False),
    ],
)
async def test_what_a_gateway_may_have_passed_on_is_not_taken_for_undone(
    status: int, headers: dict[str, str], body: bytes, *, may_be_there: bool
) -> None:
    """A 503 is an answer only where the server itself gives it: as an OperationOutcome, or with a time to wait."""
    remotes: dict[str, Remote] = {}
    with contextlib.suppress(Transient):
        async with meaning("careplan", Remote("c-1", None, "", "active", foreign=False), remotes, None):
            raise_unless_fhir(Answer(status, None, body), httpx.Headers(headers))
    assert may_be_there == ("careplan" in remotes)
