"""Check digits of the code systems whose codes the mappings name."""

from __future__ import annotations

import re

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
