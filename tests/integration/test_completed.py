"""Looking for Tasks that clinicians completed, at a server that does not let every one be read."""

from __future__ import annotations

import pytest

from service.outbound.completed import completed
from service.outbound.ledger import Ledger, Remote
from service.rest.client import FhirClient
from tests.charts import charts, status


@pytest.mark.parametrize(("code", "answers"), [(403, ["ehr.b"]), (405, ["ehr.b"]), (503, [])])
async def test_a_task_that_cannot_be_read_does_not_hold_up_the_plan(code: int, answers: list[str]) -> None:
    """The others are looked at, unless the server is in trouble; an error would park the Flag too."""
    ledger = Ledger({f"task/{name}": Remote(name, "1", "", "requested", foreign=False) for name in "ab"}, ())
    async with charts() as ehr, FhirClient(ehr.base) as client:
        ehr.refused["Task/a"] = status(code)
        ehr.resources["Task/b"] = {"resourceType": "Task", "id": "b", "status": "completed"}
        done = await completed(client, ledger, "Patient/p-1", "ehr.")
    assert answers == [task["id"] for task in done]
