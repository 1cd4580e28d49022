"""How senders spell the linkIds of an instrument's items: its name, perhaps a word, and a number; or a LOINC code.

`phq9-1`, `PHQ-9_Q01`, `phq9.item.1` and `/44249-1/44250-9` name one item. What has another name names none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BETWEEN = str.maketrans("", "", "-_. /:")
_WORDS = ("", "q", "item", "question", "frage", "pregunta")
"""What stands between name and number, if anything does."""
_LOINC_AT_END = re.compile(r"(?:^|[^\d])(\d{1,8}-\d)$")


def squeezed(link_id: str) -> str:
    """Return a linkId without what stands between its parts, in lower case."""
    return link_id.translate(_BETWEEN).lower()


def loinc_at_end(link_id: str) -> str:
    """Return the part of a linkId's end that has the shape of a LOINC code, "" if it ends otherwise."""
    found = _LOINC_AT_END.search(link_id) if link_id[-2:-1] == "-" else None
    return "" if found is None else found[1]


def spellings(link_ids: Iterable[str], number: int) -> Iterator[str]:
    """Yield, squeezed, how else the item of this number is spelled whose linkIds these are."""
    digits = str(number)
    for link_id in link_ids:
        name = squeezed(link_id).removesuffix(digits)
        if name == squeezed(link_id):
            continue  # its name is no number
        for word in _WORDS:
            name = name.removesuffix(word) if word else name
        for word in _WORDS:
            yield f"{name}{word}{digits}"
            yield f"{name}{word}{number:02}"
