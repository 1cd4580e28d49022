"""What a worker wrote that was never heard of: the store says of which resources it may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.store.delivery_rows import DeliveryRow, handed_over
from service.store.ledgers import doubted
from service.store.rows import ledger, ledger_text

PLAN: dict[str, Any] = {"id": "c", "version": "3", "digest": "d", "hashes": ["title=1f0c"], "marks": {"title": "left"}}
NOTE: dict[str, Any] = {"id": "n", "version": "1", "digest": "d", "hashes": []}
KNOWN: dict[str, Any] = {"remotes": {"careplan": PLAN, "note": NOTE}, "unresolved": ["Encounter/e"]}
IN_DOUBT: dict[str, Any] = {**KNOWN, "remotes": {"careplan": PLAN | {"digest": "", "hashes": []}, "note": NOTE}}


def test_what_may_be_edited_is_in_doubt_and_nothing_else_is_forgotten() -> None:
    """A note is never updated: sent once more, it would stand there twice."""
    assert IN_DOUBT == doubted(KNOWN)
    assert {} == doubted({})


@pytest.mark.parametrize(("leased_until", "known"), [(None, KNOWN), (70, IN_DOUBT)])
def test_what_a_course_hands_over_while_it_is_written_is_in_doubt(
    leased_until: int | None, known: dict[str, Any]
) -> None:
    """The one who writes may never be heard of again."""
    new = DeliveryRow("new", "ehr", "r", 1, 0, None, None, None, 0, 0, 0, None, None, None, None, None)
    old = replace(new, course_id="old", attempts=1, leased_until=leased_until, remote=ledger_text(KNOWN))
    giver, taker = handed_over(old, new, "r2", 2, 5)
    assert (None, known) == (giver.remote, ledger(taker.remote))
