"""A reference is read the same whether or not it has the form that most have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.inbound.references import named, target

PIECES = ("Patient", "p-1", "Encounter", "e_1", "X", "/", "//", "_history", "3", " ", "\n", "http://ehr/", "?", "é")


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text(max_size=12))
def test_reference_names_what_its_url_names(text: str) -> None:
    """Where it names nothing as a URL, it names nothing."""
    assert named(text) == target({"reference": text}, {})
