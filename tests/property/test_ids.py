"""Ids of courses and of what they give rise to."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from service.domain.course import uuid5


@given(namespace=st.uuids(), name=st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_are_those_of_the_standard_library(namespace: uuid.UUID, name: str) -> None:
    """Whoever recomputes an id with any library for UUIDs gets the same."""
    assert str(uuid.uuid5(namespace, name)) == uuid5(str(namespace), name)
