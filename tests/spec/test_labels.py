"""Labels: what is confidential stays so, on everything that is told of a course.

That `withhold` keeps a plan from a destination stands in `tests/integration/test_reconciler.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from msgspec.structs import replace

from service.domain.facts import Code
from service.domain.projection import project
from service.outbound.careplan import bundle, render
from tests import courses
from tests.history import PATIENT, sessions, week

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


def test_courses_carry_the_labels_of_their_source_besides_those_of_their_records(mappings: Mappings) -> None:
    """Where all of a unit is confidential, whatever its EHR says of each record."""
    restricted = Code("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "R")
    records = [replace(each, labels=(restricted,)) if place == 1 else each for place, each in enumerate(sessions(3))]
    (course,) = project(PATIENT, records, week(5), mappings.labelled([PART_2])).courses
    assert (PART_2, restricted) == course.labels


def test_labels_of_a_source_change_the_revision_of_its_courses(mappings: Mappings) -> None:
    """So that plans are told anew once they are set, and again once they are not."""
    assert mappings.digest == mappings.labelled([]).digest
    other = Code(PART_2.system, "PSY")
    digests = {mappings.labelled(labels).digest for labels in ([], [PART_2], [other], [PART_2, other])}
    assert (4, mappings.labelled([PART_2, other]).digest) == (
        len(digests),
        mappings.labelled([other, PART_2, other]).digest,
    )
