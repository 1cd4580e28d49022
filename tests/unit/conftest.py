"""The standard mappings, as the unit tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.domain.mapping_files import parse

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

MAPPINGS = Path(__file__).parents[2] / "mappings"


@pytest.fixture(scope="session")
def mapping_files() -> dict[str, bytes]:
    """Return every file of `mappings/` by its path within the folder."""
    return {path.relative_to(MAPPINGS).as_posix(): path.read_bytes() for path in MAPPINGS.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def mappings(mapping_files: dict[str, bytes]) -> Mappings:
    """Return the standard mappings, with no site's own."""
    return parse(mapping_files)
