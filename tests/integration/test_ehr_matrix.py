"""Every operation at every kind of EHR, and the document that tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.domain.mapping_files import vendor_profiles
from tests.ehr_matrix import cases, document, told_of
from tests.ehrs import STATEMENTS

if TYPE_CHECKING:
    from service.domain.mappings import Mappings
    from service.sandbox.hapi import FhirServer

DOCUMENT = Path(__file__).parents[2] / "deploy" / "EHR.md"
WRONG = ("edit lost", "duplicate", "still there", "sent again", "tried again", "not noticed", "void", " of it")


async def test_the_document_says_what_comes_of_each_operation_at_each_ehr(
    fhir_server: FhirServer, mapping_files: dict[str, bytes], mappings: Mappings
) -> None:
    """After a change: `python -m tests.ehr_matrix > deploy/EHR.md`. No cell may say that something went wrong."""
    profiles = vendor_profiles(mapping_files)
    all_cases = cases(profiles, list(STATEMENTS.glob("*.json")))
    told = await told_of(all_cases, fhir_server.base, profiles, mappings)
    assert document(all_cases, told) == DOCUMENT.read_text(encoding="utf-8")
    cells = [cell for row in told.values() for cell in row.values() if cell != "one of it"]
    assert [] == [cell for cell in cells if any(wrong in cell for wrong in WRONG)]


def test_every_vendor_that_is_known_is_tried(mapping_files: dict[str, bytes]) -> None:
    """A profile without a statement would be a claim."""
    assert vendor_profiles(mapping_files).keys() <= {path.stem for path in STATEMENTS.glob("*.json")}
