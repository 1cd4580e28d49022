"""Codes as the mappings write them, and the check digits of the code systems that have one."""

from __future__ import annotations

import re

from service.domain.facts import Code

LOINC = "http://loinc.org"
SNOMED_CT = "http://snomed.info/sct"

_LOINC_SHAPE = re.compile(r"((?:LA|LP|LL)?\d{1,8})-(\d)")
_SCTID_SHAPE = re.compile(r"[1-9]\d{5,17}")

# The dihedral group D5, as in the SNOMED CT release file specification, section on check digits.
_D5 = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_PERMUTATION = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def is_loinc(code: str) -> bool:
    """Return whether the code has LOINC's shape and its mod-10 check digit is right.

    The letters of parts (`LP`), answers (`LA`) and answer lists (`LL`) count as their character
    code less that of "0". Source: LOINC Users' Guide, appendix on mod 10 check digits.
    """
    match = _LOINC_SHAPE.fullmatch(code)
    if match is None:
        return False
    body, check = match.groups()
    total = 0
    for place, character in enumerate(reversed(body)):
        value = ord(character) - ord("0")
        total += value if place % 2 else 2 * value - value // 5 * 9
    return (10 - total % 10) % 10 == int(check)


def is_snomed_ct(code: str) -> bool:
    """Return whether the code has an SCTID's shape and its Verhoeff check digit is right.

    Source: SNOMED CT release file specification, section on check digits.
    """
    if _SCTID_SHAPE.fullmatch(code) is None:
        return False
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = int(_D5[check][int(_PERMUTATION[place % 8][int(digit)])])
    return check == 0


def checked(system: str, code: str) -> Code:
    """Return the code, its check digit proven where its system has one.

    Raises ValueError if the check digit is wrong.
    """
    if system == LOINC and not is_loinc(code):
        msg = f'"{code}" is not a LOINC code (check digit)'
        raise ValueError(msg)
    if system == SNOMED_CT and not is_snomed_ct(code):
        msg = f'"{code}" is not a SNOMED CT code (check digit)'
        raise ValueError(msg)
    return Code(system, code)


def as_written(text: str) -> str:
    """Return the words of an answer as they are compared: neither case nor spaces make a difference."""
    return " ".join(text.split()).casefold()


def read_code(written: str) -> Code:
    """Return the code that a mapping file writes as `system|code`.

    Raises ValueError if it is not written so, or its check digit is wrong.
    """
    system, bar, code = written.rpartition("|")
    if not (system and bar and code):
        msg = f'"{written}" is not a code written as "system|code"'
        raise ValueError(msg)
    return checked(system, code)
