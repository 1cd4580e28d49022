"""Elements of raw JSON, each held against the JSON type that FHIR gives it when it is read.

An element that nobody asks for can't fail a record. JSON's null stands for absent, as None does here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Element = Mapping[str, Any]
"""A JSON object: a resource, or an element that has elements."""


class WrongType(Exception):  # noqa: N818 - named as the reason that it becomes
    """An element is not of the JSON type that FHIR gives it. Never holds its value."""

    def __init__(self, parent: Element, name: str, index: int | None = None) -> None:
        super().__init__(name, index)
        self._parent = parent
        self._last = f".{name}" if index is None else f".{name}[{index}]"

    def path(self, resource: Element) -> str:
        """Return where in the resource the element stands, as FHIRPath writes it: `.item[3].linkId`.

        It is looked for by identity, so that reading costs no bookkeeping while nothing is wrong.
        """
        waiting: list[tuple[object, str]] = [(resource, "")]
        while waiting:
            value, path = waiting.pop()
            if value is self._parent:
                return path + self._last
            if isinstance(value, dict):
                waiting += [(inner, f"{path}.{name}") for name, inner in value.items()]
            elif isinstance(value, list):
                waiting += [(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
        return self._last


def text(parent: Element, name: str) -> str:
    """Return a string, trimmed; the digits of a number, which some senders write; "" if absent."""
    value = parent.get(name)
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise WrongType(parent, name)


def one(parent: Element, name: str) -> Element | None:
    """Return an element that has elements."""
    value = parent.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise WrongType(parent, name)


def many(parent: Element, name: str) -> Sequence[Element]:
    """Return the elements of a list; none if it is absent. One that stands alone is a list of one.

    So R4's and R5's shapes are read alike, and what converters from XML write, which see no list in one element.
    """
    value = parent.get(name)
    if value is None:
        return ()
    if isinstance(value, dict):
        return (value,)
    if not isinstance(value, list):
        raise WrongType(parent, name)
    for each in value:
        if not isinstance(each, dict):
            raise WrongType(parent, name, value.index(each))
    return value
