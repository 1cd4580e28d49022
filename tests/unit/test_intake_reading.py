"""What the first loop does as it reads: with a reader's own defects, and with what an EHR says of its subscriptions."""

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
    from collections.abc import Mapping

    from service.domain.mappings import Mappings
    from service.store import Store


class Defective(dict[str, bool]):
    """Questionnaires whose look-up fails, as no mapping's does: the defect that nobody has thought of."""

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401, ARG002 - as dict's
        """Fail with a message that holds patient data."""
        raise KeyError("Jane Roe")


def intake(feed: Feed) -> Intake:
    """Return an intake that can read, and nothing more: it has no store."""
    return Intake(cast("Store", None), {"fhir.encounter": feed}, [], Limits(), app.vitals_of(Settings()))


async def test_defect_of_a_reader_parks_its_record_alone(mappings: Mappings) -> None:
    """The feed goes on, the record is kept whole, and the log tells where without telling what."""
    feed = app.feed(Settings().sources[0], mappings)
    broken = Feed(feed.context, replace(feed.relevance, questionnaires=Defective()), mappings)
    response = {"resourceType": "QuestionnaireResponse", "id": "q-1", "questionnaire": "q"}
    session = {
        "resourceType": "Encounter",
        "id": "e-1",
        "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "443730003"}]}],
    }

    with structlog.testing.capture_logs() as logged:
        batch = await intake(broken).read([record(0, response), record(1, session)])

    assert [(0, UNPROCESSABLE), (1, "bad-status")] == [(each.record.offset, each.reason) for each in batch.parked]
    assert {("main", "parked"): 2} == batch.outcomes
    assert ["KeyError"] == [line["error"] for line in logged]
    assert "Roe" not in str(logged)


async def test_subscription_that_stops_is_logged_once_and_again_when_it_goes(mappings: Mappings) -> None:
    """A feed without events looks like a hospital in which nothing happens."""

    def notification(status: str) -> dict[str, Any]:
        told = {"resourceType": "SubscriptionStatus", "type": "heartbeat", "status": status}
        return {"resourceType": "Bundle", "type": "history", "entry": [{"resource": told}]}

    statuses = ["active", "error", "error", "off", "active", "active", "error"]
    with structlog.testing.capture_logs() as logged:
        batch = await intake(app.feed(Settings().sources[0], mappings)).read(
            [record(offset, notification(status)) for offset, status in enumerate(statuses)]
        )

    assert [("warning", "error"), ("info", "active"), ("warning", "error")] == [
        (line["log_level"], line["status"]) for line in logged
    ]
    assert {("main", "irrelevant"): len(statuses)} == batch.outcomes


def record(offset: int, value: Mapping[str, Any]) -> Record:
    """Return a record that holds this."""
    return Record("fhir.encounter", 0, offset, datetime(2026, 3, 2, tzinfo=UTC), None, orjson.dumps(value))
