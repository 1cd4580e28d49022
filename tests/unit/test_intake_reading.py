"""What the first loop does with a record on which a reader fails for a defect of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog

from service import app
from service.inbound.records import Limits, Record
from service.intake import UNPROCESSABLE, Feed, Intake
from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.domain.mappings import Mappings
    from service.store import Store


class Defective(dict[str, bool]):
    """Questionnaires whose look-up fails, as no mapping's does: the defect that nobody has thought of."""

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401, ARG002 - as dict's
        """Fail with a message that holds patient data."""
        raise KeyError("Jane Roe")


async def test_defect_of_a_reader_parks_its_record_alone(mappings: Mappings) -> None:
    """The feed goes on, the record is kept whole, and the log tells where without telling what."""
    settings = Settings()
    feed = app.feed(settings.sources[0], mappings)
    broken = Feed(feed.context, replace(feed.relevance, questionnaires=Defective()), mappings)
    vitals = app.vitals_of(settings)
    intake = Intake(cast("Store", None), {"fhir.encounter": broken}, [], Limits(), vitals)

    with structlog.testing.capture_logs() as logged:
        batch = await intake.read(list(_records()))

    assert [(0, UNPROCESSABLE), (1, "bad-status")] == [(each.record.offset, each.reason) for each in batch.parked]
    assert {("main", "parked"): 2} == batch.outcomes
    assert ["KeyError"] == [line["error"] for line in logged]
    assert "Roe" not in str(logged)


def _records() -> Iterator[Record]:
    response = {"resourceType": "QuestionnaireResponse", "id": "q-1", "questionnaire": "q"}
    session = {
        "resourceType": "Encounter",
        "id": "e-1",
        "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "443730003"}]}],
    }
    values: list[Mapping[str, Any]] = [response, session]
    for offset, value in enumerate(values):
        yield Record("fhir.encounter", 0, offset, datetime(2026, 3, 2, tzinfo=UTC), None, orjson.dumps(value))
