"""Dicts and lists that refuse to be changed, for the elements that many plans share."""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn


def _refuse(self: object, *_: object, **__: object) -> NoReturn:  # noqa: ARG001 - stands for methods
    msg = "An element that plans share can't be changed. Make another of it."
    raise TypeError(msg)


class UnchangeableDict(dict[str, Any]):
    """A JSON object that stays as it is. Copies of it (`|`, `{**…}`, `copy.deepcopy`) are plain dicts."""

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class UnchangeableList(list[Any]):
    """A JSON array that stays as it is. Copies of it (`+`, `[*…]`, `copy.deepcopy`) are plain lists."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = clear = extend = insert = _refuse
    pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)


@cache
def proven(name: str) -> type[UnchangeableDict]:
    """Return the class of the shared elements of a FHIR type that were found valid when they were made."""
    return type(f"Proven{name}", (UnchangeableDict,), {})


def unchangeable(value: Any, made: type[UnchangeableDict] = UnchangeableDict) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value that can't be changed, nor anything in it; an object is of the class `made`."""
    if isinstance(value, dict):
        return made({name: unchangeable(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return UnchangeableList(map(unchangeable, value))
    return value
