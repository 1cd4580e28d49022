"""What SMART scopes allow, in the letters of the second version: c(reate), r(ead), u(pdate), d(elete), s(earch).

Source: https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html, with the first version's `.read`,
`.write` and `.*`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SCOPE = re.compile(r"(?:system|user)/(?P<kind>\*|[A-Za-z]+)\.(?P<rights>\*|read|write|c?r?u?d?s?)(?P<part>\?.*)?")
_FIRST_VERSION = {"*": "cruds", "read": "rs", "write": "cud"}
_EVERY_KIND = "*"


def missing(granted: Iterable[str], needed: Mapping[str, str]) -> list[str] | None:
    """Return the scopes that would have to be granted too; None where what is granted are no SMART scopes.

    `needed` are letters by resource type. What is granted for a part of a type's resources counts as not granted:
    which part a plan will be in nobody knows.
    """
    matches = [match for match in map(_SCOPE.fullmatch, granted) if match is not None]
    if not matches:
        return None
    allowed: dict[str, set[str]] = {}
    for match in matches:
        if match["part"] is None:
            letters = _FIRST_VERSION.get(match["rights"], match["rights"])
            allowed.setdefault(match["kind"], set()).update(letters)
    found = []
    for kind, letters in needed.items():
        rights = allowed.get(kind, set()) | allowed.get(_EVERY_KIND, set())
        lacking = "".join(letter for letter in letters if letter not in rights)
        if lacking:
            found.append(f"system/{kind}.{lacking}")
    return found
