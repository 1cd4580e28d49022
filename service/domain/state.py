"""A course's canonical state: the bytes that are stored, hashed and rendered from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from service.domain.course import Course

if TYPE_CHECKING:
    from service.domain.mappings import Mappings

_ENCODER = msgspec.json.Encoder()
_COURSE = msgspec.json.Decoder(Course)


def dump(course: Course) -> bytes:
    """Return the canonical JSON of a course: equal courses give equal bytes.

    What is as a new course has it is left out, so that a state is no longer than what there is to say, and a
    state from before an element was known still loads.
    """
    return _ENCODER.encode(course)


def load(state: bytes | str) -> Course:
    """Return the course whose canonical JSON this is. Raises ValueError if it is none."""
    try:
        return _COURSE.decode(state)
    except msgspec.DecodeError as error:
        # Of its message the place alone: the rest may quote what stands there.
        msg = f"this is no course's state, at {str(error).rpartition(' - at ')[2]}"
        raise ValueError(msg) from None


def mark(label: str) -> str:
    """Return the text that stands in the state of every course with a label, `system|code` or a code alone."""
    system, named, code = label.rpartition("|")
    quoted = msgspec.json.encode(code).decode()
    return f"[{msgspec.json.encode(system).decode()},{quoted}]" if named else f",{quoted}]"


def revision(state: bytes, mappings: Mappings) -> str:
    """Return the hash that names a course's state together with the mappings it was projected with."""
    return hashlib.blake2b(mappings.digest.encode() + state, digest_size=16).hexdigest()
