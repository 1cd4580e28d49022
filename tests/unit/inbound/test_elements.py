"""Elements are held against FHIR's JSON types where they are read, and named where they are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.inbound.elements import WrongType, many, one, text

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(("written", "read"), [("x", "x"), (" x\t", "x"), ("", ""), (None, ""), (7, "7"), (1.5, "1.5")])
def test_text_is_trimmed_and_numbers_are_their_digits(written: object, read: str) -> None:
    """Senders pad codes, and write some as numbers."""
    assert read == text({"code": written}, "code")


@pytest.mark.parametrize("read", [one, many, text])
def test_null_is_read_as_absent(read: Callable[..., object]) -> None:
    """FHIR has no null but in primitive arrays; some senders write it."""
    assert read({}, "type") == read({"type": None}, "type")


def test_one_of_r4_is_read_like_the_list_of_r5() -> None:
    """A class is one Coding in R4 and a list of concepts in R5."""
    (of_r4,), (of_r5,) = (many({"class": written}, "class") for written in ({"code": "VR"}, [{"code": "VR"}]))

    assert of_r4 == of_r5


@pytest.mark.parametrize(
    ("read", "written", "path"),
    [
        (text, [], ".item[1].answer[0].code"),
        (text, {}, ".item[1].answer[0].code"),
        (text, True, ".item[1].answer[0].code"),
        (one, "x", ".item[1].answer[0].code"),
        (one, [{}], ".item[1].answer[0].code"),
        (many, "x", ".item[1].answer[0].code"),
        (many, [{}, {}, None, 7], ".item[1].answer[0].code[2]"),
        (many, 7, ".item[1].answer[0].code"),
        (many, [{}, 7], ".item[1].answer[0].code[1]"),
    ],
)
def test_wrong_element_is_named_by_where_it_stands(read: Callable[..., object], written: Any, path: str) -> None:  # noqa: ANN401 - any JSON
    """Its parent's likes elsewhere in the resource are not mistaken for it."""
    parent = {"code": written}
    resource = {"contained": [{"code": written}], "item": [{"answer": [{"code": written}]}, {"answer": [parent]}]}

    with pytest.raises(WrongType) as caught:
        read(parent, "code")

    assert path == caught.value.path(resource)
