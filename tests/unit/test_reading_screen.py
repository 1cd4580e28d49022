"""What is printed of a record says no more than the record does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from service.commands.reading_screen import acted
from service.domain.evidence import PlanAct


@pytest.mark.parametrize(
    ("status", "edited", "said"),
    [
        ("revoked", (), "careplan at ehr: was revoked"),
        ("", ("CarePlan.title",), "careplan at ehr: left as edited: CarePlan.title"),
        ("", (), "careplan at ehr: as the plan has it"),
    ],
)
def test_a_status_is_printed_only_where_a_clinician_set_one(status: str, edited: tuple[str, ...], said: str) -> None:
    """An edit says nothing of whether the plan is active."""
    found = PlanAct(datetime(2026, 3, 2, tzinfo=UTC), "CarePlan/ehr.c", "c", "careplan", status, "ehr", edited)
    assert said == acted(found)
