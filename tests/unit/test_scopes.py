"""SMART scopes: what is granted, held against what is needed."""

from __future__ import annotations

import pytest

from service.rest.scopes import missing

NEEDED = {"CarePlan": "crus", "Provenance": "c"}


@pytest.mark.parametrize(
    ("granted", "lacking"),
    [
        ("system/CarePlan.cruds system/Provenance.c", []),
        ("system/CarePlan.crus system/*.c", []),
        ("system/*.cruds", []),
        ("system/*.*", []),
        ("user/CarePlan.read user/CarePlan.write user/Provenance.write", []),
        ("system/CarePlan.* system/Provenance.read", ["system/Provenance.c"]),
        ("system/CarePlan.rs", ["system/CarePlan.cu", "system/Provenance.c"]),
        ("system/CarePlan.read", ["system/CarePlan.cu", "system/Provenance.c"]),
        ("system/Goal.cruds", ["system/CarePlan.crus", "system/Provenance.c"]),
        ("system/CarePlan.cruds?category=assess-plan system/Provenance.c", ["system/CarePlan.crus"]),
        ("openid system/CarePlan.cru system/Provenance.c", ["system/CarePlan.s"]),
    ],
)
def test_what_is_not_granted_is_named(granted: str, lacking: list[str]) -> None:
    """In the second version's letters, whichever version was granted."""
    assert lacking == missing(granted.split(), NEEDED)


@pytest.mark.parametrize("granted", ["", "openid", "https://fhir.example/.default", "patient/CarePlan.cruds"])
def test_scopes_that_are_not_smarts_are_not_judged(granted: str) -> None:
    """What they allow only their server knows; a patient's are no service's."""
    assert None is missing(granted.split(), NEEDED)
