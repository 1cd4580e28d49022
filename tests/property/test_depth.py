"""The cap on nesting holds at its limit exactly, whatever brackets are in strings or side by side."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inbound.documents import parse
from service.inbound.records import Limits, Reason, Unreadable

words = st.text(alphabet='[]{}"\\a:,', max_size=12)
documents = st.recursive(
    st.none() | st.integers(0, 9) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


def depth_of(value: Any) -> int:  # noqa: ANN401 - any JSON
    """Return how many levels of objects and lists a value has."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(documents.filter(depth_of))
def test_depth_is_allowed_up_to_its_limit_and_not_beyond(document: Any) -> None:  # noqa: ANN401 - any JSON
    """Neither the count of brackets, which spares most records more, nor the passes err by one."""
    value = orjson.dumps(document)
    depth = depth_of(document)

    assert document == parse(value, Limits(depth=depth))
    with pytest.raises(Unreadable) as caught:
        parse(value, Limits(depth=depth - 1))
    assert caught.value.reason is Reason.TOO_DEEP
