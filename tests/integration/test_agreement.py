"""What a destination knows of its server: asked at start, asked again, and what happens meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest

from service.domain.mapping_files import vendor_profiles
from service.outbound import agreement
from service.outbound.agreement import Agreement, Wishes
from service.outbound.careplan import render
from service.outbound.destination import Route
from service.outbound.ehr import EhrDestination
from service.outbound.negotiation import Way
from service.rest.client import FhirClient
from service.rest.errors import Transient
from service.sandbox.mask import Mask
from tests import courses
from tests.ehrs import delivery, statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile

NOBODY = "http://127.0.0.1:9/fhir"
SMART = {"token_endpoint": "https://ehr.example/token", "capabilities": ["client-confidential-asymmetric"]}


@pytest.fixture(scope="module")
def profiles(mapping_files: dict[str, bytes]) -> dict[str, VendorProfile]:
    """Every profile of `mappings/ehr/`."""
    return vendor_profiles(mapping_files)


@pytest.fixture
def mask(profiles: dict[str, VendorProfile]) -> Iterator[Mask]:
    """A server that states what Epic's does, with nothing behind it."""
    with Mask(NOBODY, statement("epic"), profiles["epic"], smart=orjson.dumps(SMART)) as running:
        yield running


@pytest.fixture
async def client(mask: Mask) -> AsyncIterator[FhirClient]:
    """A client of it."""
    async with FhirClient(mask.base) as opened:
        yield opened


def looks(mask: Mask) -> list[tuple[str, int]]:
    """Return what was asked of the server, and how it answered."""
    return [(path.rpartition("/")[2], status) for _, path, status in mask.asked]


async def test_an_unchanged_statement_is_not_sent_again(
    mask: Mask, client: FhirClient, profiles: dict[str, VendorProfile]
) -> None:
    """Neither of the two documents; the terms stay."""
    held = Agreement("ehr", client, profiles)
    assert await held.ask()
    assert not await held.ask()
    names = ["metadata", "smart-configuration"]
    assert [*((name, 200) for name in names), *((name, 304) for name in names)] == looks(mask)
    assert Way.DOCUMENT is (await held.terms()).plan


async def test_a_changed_statement_changes_the_terms(
    mask: Mask, client: FhirClient, profiles: dict[str, VendorProfile]
) -> None:
    """And tells whoever follows it."""
    held = Agreement("ehr", client, profiles, every_s=0.01)
    stop, told = asyncio.Event(), 0

    def on_change() -> None:
        nonlocal told
        told += 1
        mask.says(statement("medplum"))
        if told == 2:
            stop.set()

    await held.follow(stop, on_change)
    assert Way.SERVER_ID is (await held.terms()).plan


@pytest.fixture
async def rich(profiles: dict[str, VendorProfile]) -> AsyncIterator[tuple[Mask, Agreement]]:
    """A server that takes CarePlans, Tasks and Flags, and what is agreed with it."""
    with Mask(NOBODY, statement("medplum"), profiles["medplum"]) as mask:
        async with FhirClient(mask.base) as client:
            held = Agreement("ehr", client, profiles)
            assert await held.ask()
            yield mask, held


async def test_a_server_that_states_less_is_believed_after_several_answers(rich: tuple[Mask, Agreement]) -> None:
    """A gateway's statement of one hour must not keep Tasks and Flags from the chart."""
    mask, held = rich
    mask.says(statement("epic"))
    answers = [await held.ask() for _ in range(agreement.CONFIRMATIONS - 1)]
    assert [False] * (agreement.CONFIRMATIONS - 1) == answers
    assert Way.SERVER_ID is (await held.terms()).plan
    assert await held.ask()
    assert Way.DOCUMENT is (await held.terms()).plan


async def test_a_server_that_states_less_once_changes_nothing(rich: tuple[Mask, Agreement]) -> None:
    """Each full answer in between begins the count anew."""
    mask, held = rich
    for each in ("epic", "epic", "medplum", "epic", "epic", "medplum"):
        mask.says(statement(each))
        assert not await held.ask()
    assert Way.SERVER_ID is (await held.terms()).plan


async def test_a_destination_tells_which_plans_stand_when_its_terms_change(
    mask: Mask, client: FhirClient, profiles: dict[str, VendorProfile]
) -> None:
    """At the start those of the same kind; none once it takes something else."""
    place = EhrDestination("ehr", client, agreement=Agreement("ehr", client, profiles, every_s=0.01))
    stop, told = asyncio.Event(), list[frozenset[Route]]()
    digests = set[str]()

    def on_change(alike: frozenset[Route], terms: str, shrunk: bool) -> None:  # noqa: FBT001 - as it is called
        assert not shrunk
        told.append(alike)
        digests.add(terms)
        mask.says(statement("medplum"))
        if len(told) == 2:
            stop.set()

    await place.follow(stop, on_change)
    assert [{Route.DOCUMENT}, frozenset()] == told
    assert 2 == len(digests)


async def test_a_profile_that_is_named_wins_over_the_one_that_fits(
    client: FhirClient, profiles: dict[str, VendorProfile]
) -> None:
    """Where a vendor's server gives itself another name."""
    held = Agreement("ehr", client, profiles, Wishes(profile="generic-r4"))
    await held.ask()
    assert frozenset() == (await held.terms()).never_retried


@pytest.mark.parametrize("said", [b'{"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}', b"<html>", b"{}"])
async def test_what_was_agreed_holds_while_the_server_states_nothing_of_use(
    said: bytes, mask: Mask, client: FhirClient, profiles: dict[str, VendorProfile]
) -> None:
    """A server in trouble does not change how plans are written."""
    held = Agreement("ehr", client, profiles)
    await held.ask()
    before = await held.terms()
    mask.stated = said
    assert not await held.ask()
    assert before is await held.terms()


async def test_deliveries_wait_for_the_first_statement(
    profiles: dict[str, VendorProfile], mappings: Mappings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is away, or that speaks another FHIR, is sent nothing."""
    monkeypatch.setattr(agreement, "PATIENCE_S", 0.01)
    async with FhirClient(NOBODY) as client:
        held = Agreement("ehr", client, profiles)
        assert not await held.ask()
        destination = EhrDestination("ehr", client, agreement=held)
        with pytest.raises(Transient) as caught:
            await destination.deliver(delivery(render(courses.course(), mappings)))
    assert "not-negotiated" == caught.value.code


async def test_a_delivery_goes_on_once_the_server_has_stated_what_it_takes(
    client: FhirClient, profiles: dict[str, VendorProfile]
) -> None:
    """The one that came a moment too early is not put off."""
    held = Agreement("ehr", client, profiles)
    waiting = asyncio.create_task(held.terms())
    await asyncio.sleep(0)
    await held.ask()
    assert Way.DOCUMENT is (await waiting).plan
