"""Labels: what is confidential stays so, on everything that is told of a course.

That `withhold` keeps a plan from a destination stands in `tests/integration/test_reconciler.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from msgspec.structs import replace

from service.domain.facts import Code
from service.outbound.careplan import bundle, render
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

PART_2 = Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", "42CFRPart2")


def test_every_resource_and_the_bundle_carry_every_label(mappings: Mappings) -> None:
    """The label of one record holds for all that is told of the course."""
    plan = render(replace(courses.course(), labels=(PART_2,)), mappings)
    label = {"system": PART_2.system, "code": PART_2.code}
    whole = orjson.loads(bundle(plan))
    assert [[label]] * (1 + len(plan.resources)) == [
        each["meta"]["security"] for each in (whole, *(entry["resource"] for entry in whole["entry"]))
    ]
