"""Check digits, against codes that LOINC and SNOMED International publish."""

from __future__ import annotations

import pytest

from service.domain.codes import LOINC, SNOMED_CT, checked, is_loinc, is_snomed_ct, read_code
from service.domain.facts import Code


@pytest.mark.parametrize("code", ["44249-1", "44261-6", "69737-5", "70274-6", "LA6568-5", "LA33-6", "LL358-3", "1-8"])
def test_published_loinc_codes_have_the_right_check_digit(code: str) -> None:
    """Terms, answers and answer lists alike."""
    assert is_loinc(code)


@pytest.mark.parametrize("code", ["4425-0", "44249-2", "LA6568-4", "44249", "44249-", "XX44249-1", "", "44249-1 "])
def test_other_codes_are_not_loinc(code: str) -> None:
    """A wrong digit, or another shape."""
    assert not is_loinc(code)


@pytest.mark.parametrize("code", ["443730003", "18512000", "76168009", "75516001", "734163000", "900000000000013009"])
def test_published_snomed_ct_codes_have_the_right_check_digit(code: str) -> None:
    """Short and long identifiers alike."""
    assert is_snomed_ct(code)


@pytest.mark.parametrize("code", ["443730004", "443370003", "0443730003", "44373000A", "12345", ""])
def test_other_codes_are_not_snomed_ct(code: str) -> None:
    """A wrong digit, two digits swapped, or another shape."""
    assert not is_snomed_ct(code)


@pytest.mark.parametrize(
    ("system", "code", "message"),
    [
        (LOINC, "4425-0", '"4425-0" is not a LOINC code (check digit)'),
        (SNOMED_CT, "443730004", '"443730004" is not a SNOMED CT code (check digit)'),
    ],
)
def test_a_wrong_check_digit_is_named_with_its_system(system: str, code: str, message: str) -> None:
    """The message says which code of which system."""
    with pytest.raises(ValueError, match="check digit") as raised:
        checked(system, code)
    assert message == str(raised.value)


def test_codes_of_other_systems_have_no_check_digit() -> None:
    """CPT has none: the code is taken as it stands."""
    assert Code("http://www.ama-assn.org/go/cpt", "90834") == checked("http://www.ama-assn.org/go/cpt", "90834")


def test_a_written_code_is_read_up_to_its_last_bar() -> None:
    """A system may hold a bar of its own."""
    assert Code("http://clinic.example/a|b", "c") == read_code("http://clinic.example/a|b|c")


@pytest.mark.parametrize("written", ["LA6568-5", "|LA6568-5", "http://loinc.org|", ""])
def test_a_code_written_without_system_or_code_is_refused(written: str) -> None:
    """Both parts are needed."""
    with pytest.raises(ValueError, match=r'is not a code written as "system\|code"'):
        read_code(written)
