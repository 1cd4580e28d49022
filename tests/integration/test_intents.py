"""A server that chooses ids, takes no condition and can't be searched: a lost answer never makes a second plan."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from service.deliveries import Remembered
from service.domain.mapping_files import vendor_profiles
from service.outbound.careplan import render
from service.outbound.destination import PlanDelivery
from service.rest.errors import UNANSWERED, Permanent, Transient
from service.store import ParkedState, Store
from tests.ehrs import Records, course_of, destination, masked, statement
from tests.integration.store.samples import EHR, LEASE, NOW, course, done, update, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.outbound.destination import Delivered
    from service.outbound.ehr import EhrDestination
    from service.sandbox.hapi import FhirServer
    from service.sandbox.mask import Mask
    from service.store import Claimed

DOCUMENTS = "documents-only"
MINUTE = timedelta(minutes=1)
BLIND = {
    "conditionalCreate": False,
    "conditionalUpdate": False,
    "interaction": [{"code": code} for code in ("read", "create", "update")],
    "searchParam": [],
}
"""What such a server states of each resource type."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with its tables."""
    async with await Store.open(f"sqlite:///{tmp_path}/store.sqlite") as opened:
        await opened.migrate()
        yield opened


class Scene:
    """One course of one patient, delivered as the service would, or as a process that is killed on the way."""

    def __init__(self, store: Store, ehr: EhrDestination, mask: Mask, records: Records, mappings: Mappings) -> None:
        self.store, self.ehr, self.mask, self.records = store, ehr, mask, records
        self.patient = records.person()
        self.plan = render(course_of(self.patient), mappings)
        self.now = NOW

    async def claim(self) -> Claimed:
        """Claim the delivery once any lease is over."""
        self.now += LEASE + MINUTE
        (claimed,) = await self.store.deliveries.claim("ehr", self.now, 1, LEASE)
        return claimed

    async def deliver(self, claimed: Claimed) -> Delivered:
        """Send the plan; nothing is reported."""
        return await self.ehr.deliver(self.sent(claimed))

    def sent(self, claimed: Claimed) -> PlanDelivery:
        """The plan on its way."""
        intents = Remembered(self.store, claimed)
        return PlanDelivery("c", claimed.revision, claimed.counter, self.plan, (), claimed.remote, intents=intents)

    async def park(self, claimed: Claimed) -> str:
        """Send the plan, which is refused, and park it; why."""
        sent = self.sent(claimed)
        with pytest.raises(Permanent) as refused:
            await self.ehr.deliver(sent)
        await self.store.deliveries.park_delivery(claimed, refused.value.code, self.now, remote=sent.progress.ledger)
        return refused.value.code

    def plans(self, kind: str) -> int:
        """How many the server has."""
        return len(self.records.of(self.patient, kind))


@pytest.fixture(params=[("medplum", "CarePlan"), (DOCUMENTS, "DocumentReference")], ids=["plan", "note"])
async def scene(
    request: pytest.FixtureRequest,
    store: Store,
    fhir_server: FhirServer,
    mapping_files: dict[str, bytes],
    mappings: Mappings,
) -> AsyncIterator[tuple[Scene, str]]:
    """A course, and the type of what stands for its plan there."""
    vendor, kind = request.param
    profiles = vendor_profiles(mapping_files)
    records = Records(fhir_server.base)
    with masked(fhir_server.base, vendor, profiles, blind(vendor)) as mask:
        async with destination(mask, profiles) as ehr:
            await write(store, update(course("c")), to=(EHR,))
            yield Scene(store, ehr, mask, records, mappings), kind
    records.close()


def blind(vendor: str) -> bytes:
    """A vendor's statement, of a server that finds nothing again."""
    whole: dict[str, Any] = orjson.loads(statement(vendor))
    rest = whole["rest"][0]
    rest["resource"] = [{**each, **BLIND} for each in rest["resource"]]
    return orjson.dumps(whole)


async def test_a_killed_process_leaves_what_it_meant_and_nothing_is_created_twice(scene: tuple[Scene, str]) -> None:
    """Not by itself, and not for a newer revision; a person who has looked has it created again, once."""
    site, kind = scene
    site.mask.lost.append(f"POST {kind}")
    with pytest.raises(Transient):
        await site.deliver(await site.claim())  # and no report: it was killed

    assert UNANSWERED == await site.park(await site.claim())
    await write(site.store, update(course("c", "r2")), to=(EHR,), now=site.now)
    assert UNANSWERED == await site.park(await site.claim())
    assert 1 == site.plans(kind)

    await site.store.desk.retry("ehr", ["c"], site.now)
    last = await site.claim()
    delivered = await site.deliver(last)
    await site.store.deliveries.acknowledge([done(last, delivered.ledger)], site.now)
    assert 2 == site.plans(kind)
    assert [ParkedState.RESOLVED] == [each.state for each in await site.store.operators.parked(None)]


async def test_a_persons_leave_to_create_again_is_used_up_by_it(scene: tuple[Scene, str]) -> None:
    """Where that answer is lost too, they are asked anew."""
    site, kind = scene
    site.mask.lost += [f"POST {kind}", f"POST {kind}"]
    with pytest.raises(Transient):
        await site.deliver(await site.claim())
    await site.park(await site.claim())
    await site.store.desk.retry("ehr", ["c"], site.now)
    with pytest.raises(Transient):
        await site.deliver(await site.claim())

    assert UNANSWERED == await site.park(await site.claim())
    assert 2 == site.plans(kind)


async def test_a_create_that_surely_never_got_there_is_made_without_a_person(scene: tuple[Scene, str]) -> None:
    """A refusal is an answer: what was meant is forgotten."""
    site, kind = scene
    site.mask.locked = "break-the-glass"
    first = await site.claim()
    assert UNANSWERED != await site.park(first)
    site.mask.locked = None

    await site.store.desk.retry("ehr", None, site.now)
    await site.deliver(await site.claim())

    assert 1 == site.plans(kind)


async def test_who_lost_the_lease_creates_nothing(scene: tuple[Scene, str]) -> None:
    """What is meant is remembered under the lease; another worker goes on."""
    site, kind = scene
    first = await site.claim()
    await site.claim()

    with pytest.raises(Transient):
        await site.deliver(first)

    assert 0 == site.plans(kind)
