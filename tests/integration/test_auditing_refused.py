"""A FHIR server that refuses some of the AuditEvents that it is to be told by."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from service.auditing import AuditTeller
from service.domain.mapping_files import vendor_profiles
from service.health import Health
from service.metrics import create_metrics
from service.outbound.agreement import Agreement
from service.outbound.audit_route import AuditRoute
from service.rest.client import FhirClient
from service.settings import Deliveries
from service.store import Store, Write
from service.vitals import Vitals
from tests.charts import Charts, charts, status
from tests.ehrs import statement
from tests.integration.store.samples import EHR, NOW, course, deliver, update, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GOAL, PLAN = Write("create", "Goal", "g-1", "1"), Write("create", "CarePlan", "c-1", "1")


@dataclass
class Site:
    """A store with writes that an EHR is to be told of."""

    ehr: Charts
    client: FhirClient
    store: Store
    vitals: Vitals
    teller: AuditTeller

    async def told(self) -> tuple[float | None, float | None, float | None, int]:
        """Tell once; return how many were told, refused and put off, and how many wait."""
        await self.teller.tell(asyncio.Event())
        value = self.vitals.metrics.registry.get_sample_value
        told, refused, put_off = (
            value("ipt_bridge_audit_events_total", {"destination": "ehr", "outcome": each})
            for each in ("told", "refused", "retried")
        )
        return told, refused, put_off, await self.store.audit_marks.waiting("ehr")


@asynccontextmanager
async def at(folder: Path, mapping_files: dict[str, bytes], *writes: Write) -> AsyncIterator[Site]:
    """Open a site whose EHR takes everything, and has got these."""
    async with (
        charts() as ehr,
        FhirClient(ehr.base) as client,
        await Store.open(f"sqlite:///{folder}/store.sqlite") as store,
    ):
        await store.migrate()
        await write(store, update(course("c")), to=(EHR,))
        await deliver(store, "ehr", writes=writes)
        stated = orjson.loads(statement("hapi"))
        taken = stated["rest"][0]["resource"]
        taken.append(next(each for each in taken if each["type"] == "Goal") | {"type": "AuditEvent"})
        ehr.resources["metadata"] = stated
        ehr.takes_puts = True
        agreement = Agreement("ehr", client, vendor_profiles(mapping_files))
        await agreement.ask()
        metrics = create_metrics(topics={"main": ()}, destinations=["ehr"], reasons=[])
        vitals = Vitals(metrics, Health(), lambda: NOW)
        teller = AuditTeller(store, "ehr", ehr.base, AuditRoute(client, agreement), Deliveries(), vitals)
        yield Site(ehr, client, store, vitals, teller)


async def test_one_that_is_refused_for_good_holds_up_no_other(tmp_path: Path, mapping_files: dict[str, bytes]) -> None:
    """By whatever it refers to what was written: one patient's consent is no word on another's."""
    async with at(tmp_path, mapping_files, GOAL, PLAN, GOAL) as site:
        forbidden = status(403)
        site.ehr.put_faults = [forbidden, forbidden, None, forbidden, forbidden]

        assert (1, 2, 0, 0) == await site.told()


async def test_one_that_cannot_be_made_holds_up_no_other(tmp_path: Path, mapping_files: dict[str, bytes]) -> None:
    """It is an error of ours, and would be one again."""
    async with at(tmp_path, mapping_files, Write("odd", "Goal", "g-1", "1"), PLAN) as site:
        assert (1, 1, 0, 0) == await site.told()


async def test_what_may_not_be_referred_to_is_told_by_identifier(
    tmp_path: Path, mapping_files: dict[str, bytes]
) -> None:
    """Where the server forbids it, as where it knows nothing of it."""
    async with at(tmp_path, mapping_files, PLAN) as site:
        site.ehr.put_faults = [status(403)]

        assert (1, 0, 0, 0) == await site.told()

        (event,) = (site.ehr.resources[each] for each in site.ehr.puts)
        assert [] == [each for each in event["entity"] if "reference" in each["what"]]


async def test_what_must_not_be_asked_again_is_asked_once(tmp_path: Path, mapping_files: dict[str, bytes]) -> None:
    """Not by an identifier either, though nothing else tells whether the server takes any."""
    async with at(tmp_path, mapping_files, PLAN) as site:
        site.client.heed({}, ("processing",))
        site.ehr.put_faults = [status(403)]

        assert (0, 1, 0, 0) == await site.told()
        assert [] == site.ehr.puts


async def test_all_wait_while_all_are_refused(tmp_path: Path, mapping_files: dict[str, bytes]) -> None:
    """The server may have been set up wrongly: then nothing of the trail may be passed over."""
    async with at(tmp_path, mapping_files, GOAL, PLAN) as site:
        site.ehr.put_faults = [status(403) for _ in range(4)]

        assert (0, 0, 1, 2) == await site.told()
