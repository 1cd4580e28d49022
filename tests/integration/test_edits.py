"""What a clinician changes of ours in a real FHIR server: put back once, left the second time, and told."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace

from service.domain.mapping_files import vendor_profiles
from service.outbound.careplan import render, withheld
from service.outbound.ehr import EhrDestination
from service.rest.client import FhirClient
from service.store.ledgers import doubted
from tests.ehrs import Records, course_of, delivery, destination, masked
from tests.fault_proxy import fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile
    from service.outbound.acts import Act
    from service.outbound.careplan import Plan
    from service.outbound.destination import Delivered
    from service.sandbox.hapi import FhirServer

THEIRS = "Talking therapy"
LAST = date(2026, 5, 4)


@pytest.fixture
def records(fhir_server: FhirServer) -> Iterator[Records]:
    """Return the shared server as a clinician sees it."""
    opened = Records(fhir_server.base)
    yield opened
    opened.close()


@pytest.fixture
def profiles(mapping_files: dict[str, bytes]) -> dict[str, VendorProfile]:
    """Return the vendors' profiles."""
    return vendor_profiles(mapping_files)


@pytest.fixture
async def ehr(fhir_server: FhirServer) -> AsyncIterator[EhrDestination]:
    """Return the shared server as a destination."""
    opened = EhrDestination("ehr", FhirClient(fhir_server.base))
    yield opened
    await opened.close()


class Story:
    """A course whose plan is delivered again and again, each time with a session more, to be over a day later."""

    def __init__(self, course: Course, place: EhrDestination, mappings: Mappings) -> None:
        self.course = course
        self.place = place
        self.mappings = mappings
        self.last: Delivered | None = None
        self.number = 0

    @property
    def plan(self) -> Plan:
        """The plan as it is by now."""
        over = LAST + timedelta(days=self.number)
        return render(replace(self.course, held=9 + self.number, projected_end=over), self.mappings)

    @property
    def careplan(self) -> dict[str, Any]:
        """Our CarePlan as it is by now."""
        return self.plan.resources[0][1]

    async def deliver(self) -> tuple[Act, ...]:
        """Deliver a newer plan; return what the course is told of."""
        self.number += 1
        self.last = await self.place.deliver(delivery(self.plan, self.last, self.number))
        return self.last.acts


def told(acts: tuple[Act, ...]) -> list[tuple[str, tuple[str, ...] | None]]:
    """Return the edited elements that a course is told of, by role."""
    return [(act.role, act.edited) for act in acts]


async def test_a_title_is_put_back_once_then_left_and_told_once(
    records: Records, ehr: EhrDestination, mappings: Mappings
) -> None:
    """The rest stays current, nothing loops, and when the title is as ours again it is ours."""
    patient = records.person()
    story = Story(course_of(patient), ehr, mappings)
    await story.deliver()
    records.edit(story.careplan, title=THEIRS)
    assert () == await story.deliver()
    assert story.careplan["title"] == records.read(f"CarePlan/{story.careplan['id']}")["title"]

    records.edit(story.careplan, title=THEIRS, note=[{"text": "Theirs"}])
    version = records.read(f"CarePlan/{story.careplan['id']}")["meta"]["versionId"]
    (act,) = await story.deliver()
    assert ("careplan", "", version, ("CarePlan.title",)) == (act.role, act.status, act.version, act.edited)
    for _ in range(2):
        held = records.read(f"CarePlan/{story.careplan['id']}")
        assert (THEIRS, [{"text": "Theirs"}]) == (held["title"], held["note"])
        assert [story.careplan[name] for name in ("text", "description")] == [held["text"], held["description"]]
        assert () == await story.deliver()

    records.edit(story.careplan, title=story.careplan["title"])
    assert [("careplan", ())] == told(await story.deliver())
    records.edit(story.careplan, title=THEIRS)
    assert () == await story.deliver()
    assert story.careplan["title"] == records.read(f"CarePlan/{story.careplan['id']}")["title"]


async def test_an_altered_activity_is_left_and_the_others_are_current(
    records: Records, ehr: EhrDestination, mappings: Mappings
) -> None:
    """One session's description is theirs, the list is ours but for that."""
    story = Story(course_of(records.person()), ehr, mappings)
    await story.deliver()
    for expected in ([], [("careplan", ("CarePlan.activity",))], []):
        held = records.read(f"CarePlan/{story.careplan['id']}")
        held["activity"][2]["detail"] |= {"description": THEIRS, "status": "cancelled"}
        records.write(held)
        assert expected == told(await story.deliver())
    held, ours = records.read(f"CarePlan/{story.careplan['id']}")["activity"], story.careplan["activity"]
    ours[2]["detail"]["description"] = THEIRS
    assert ours == held


async def test_a_goals_target_is_left_and_seen_to_be_ours_again_without_a_change_of_it(
    records: Records, ehr: EhrDestination, mappings: Mappings
) -> None:
    """What is left is looked at with each delivery, and nothing is written for that; by when it is due goes on."""
    story = Story(course_of(records.person()), ehr, mappings)
    await story.deliver()
    goal = dict(story.plan.resources)["goal/phq-9"]
    theirs = {"measure": goal["target"][0]["measure"], "detailInteger": 7, "dueDate": "2030-12-24"}
    for expected in ([], [("goal/phq-9", ("Goal.target",))]):
        records.edit(goal, target=[theirs])
        assert expected == told(await story.deliver())
    held = records.read(f"Goal/{goal['id']}")
    due = dict(story.plan.resources)["goal/phq-9"]["target"][0]["dueDate"]
    assert [theirs | {"dueDate": due}] == held["target"]
    again = delivery(story.plan, story.last, story.number + 1)
    assert () == (await ehr.deliver(again)).acts
    assert held == records.read(f"Goal/{goal['id']}")
    records.edit(goal, target=dict(story.plan.resources)["goal/phq-9"]["target"])
    assert [("goal/phq-9", ())] == told((await ehr.deliver(again)).acts)


@pytest.mark.parametrize("vendor", ["generic-r4", "azure", "medplum"])
async def test_it_is_so_at_servers_without_versions_or_without_our_ids(
    vendor: str, fhir_server: FhirServer, records: Records, profiles: dict[str, VendorProfile], mappings: Mappings
) -> None:
    """What is there is read before each update anyway."""
    patient = records.person()
    with masked(fhir_server.base, vendor, profiles) as mask:
        async with destination(mask, profiles) as place:
            story = Story(course_of(patient), place, mappings)
            await story.deliver()
            (plan,) = records.of(patient, "CarePlan")
            for expected, title in (([], story.careplan["title"]), ([("careplan", ("CarePlan.title",))], THEIRS)):
                records.edit(plan, title=THEIRS)
                assert expected == told(await story.deliver())
                held = records.read(f"CarePlan/{plan['id']}")
                assert (title, story.careplan["description"]) == (held["title"], held["description"])
            assert [] == told(await story.deliver())


async def test_what_a_server_makes_of_the_plan_is_never_counted(
    fhir_server: FhirServer, records: Records, mappings: Mappings
) -> None:
    """A title in capitals, a narrative of its own, activities with more in them; a clinician's notes in between."""
    async with fault_proxy(fhir_server.base) as proxy:
        proxy.stores = _reshaped
        place = EhrDestination("ehr", FhirClient(proxy.base))
        story = Story(course_of(records.person()), place, mappings)
        for number in range(5):
            assert () == await story.deliver()
            records.edit(story.careplan, note=[{"text": f"Theirs {number}"}])
        held = records.read(f"CarePlan/{story.careplan['id']}")
        assert (story.careplan["title"].upper(), story.careplan["description"]) == (held["title"], held["description"])
        assert {False} == {each["detail"]["doNotPerform"] for each in held["activity"]}
        for expected in ([], [("careplan", ("CarePlan.description",))]):
            records.edit(story.careplan, description=THEIRS)
            assert expected == told(await story.deliver())
        await place.close()


def _reshaped(body: bytes) -> bytes:
    resource = orjson.loads(body)
    if resource["resourceType"] == "CarePlan":
        resource["title"] = resource["title"].upper()
        resource["text"]["div"] = resource["text"]["div"].replace("<p>", '<p title="x">')
        for activity in resource.get("activity", []):
            activity["detail"]["doNotPerform"] = False
    return orjson.dumps(resource)


async def test_what_an_attempt_wrote_that_was_never_heard_of_is_no_edit(
    records: Records, ehr: EhrDestination, mappings: Mappings
) -> None:
    """The service was killed before it could remember, again and again, and the plan went on."""
    story = Story(course_of(records.person()), ehr, mappings)
    await story.deliver()
    known = story.last
    assert known is not None
    for _ in range(3):
        story.last = known
        await story.deliver()  # what it came to is lost
        story.number += 1
        known = await ehr.deliver(
            dataclasses.replace(delivery(story.plan, known, story.number), ledger=doubted(known.ledger))
        )
        assert () == known.acts
        held = records.read(f"CarePlan/{story.careplan['id']}")
        assert story.careplan["description"] == held["description"]
        assert story.careplan["activity"] == held["activity"]


async def test_a_goal_that_the_plan_no_longer_has_has_no_edit_to_tell(
    records: Records, ehr: EhrDestination, mappings: Mappings
) -> None:
    """What they made of it stays; when the plan has it again, it begins anew."""
    story = Story(course_of(records.person()), ehr, mappings)
    await story.deliver()
    role = "goal/focus/role-dispute"
    goal = dict(story.plan.resources)[role]
    for expected in ([], [(role, ("Goal.description",))]):
        records.edit(goal, description={"text": THEIRS})
        assert expected == told(await story.deliver())
    with_area = story.course
    story.course = replace(story.course, focus_areas=())
    assert [(role, ())] == told(await story.deliver())
    held = records.read(f"Goal/{goal['id']}")
    assert ({"text": THEIRS}, "cancelled") == (held["description"], held["lifecycleStatus"])
    story.course = with_area
    assert () == await story.deliver()
    assert goal["description"] == records.read(f"Goal/{goal['id']}")["description"]


async def test_a_plan_that_is_withheld_takes_back_what_was_left(
    records: Records, ehr: EhrDestination, mappings: Mappings
) -> None:
    """Our words must not stay because somebody changed them."""
    story = Story(course_of(records.person()), ehr, mappings)
    await story.deliver()
    for _ in range(2):
        records.edit(story.careplan, description=THEIRS)
        await story.deliver()
    gone = withheld(story.plan.course, mappings)
    await ehr.deliver(delivery(gone, story.last, 9))
    held = records.read(f"CarePlan/{story.careplan['id']}")
    assert ("entered-in-error", None) == (held["status"], held.get("description"))
