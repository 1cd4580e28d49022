"""Codes under one name for each code system."""

from __future__ import annotations

import pytest

from service.domain.codes import SNOMED_CT
from service.domain.facts import Code
from service.inbound.codings import code_of


@pytest.mark.parametrize("code", ["443730003", "4" * 1000])
def test_code_has_its_systems_usual_name(code: str) -> None:
    """Whether or not it is short enough to be kept."""
    assert Code(SNOMED_CT, code) == code_of("urn:oid:2.16.840.1.113883.6.96", code)
