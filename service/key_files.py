"""Files of signing keys: made for their owner's eyes only, added to, never written over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from service.rest.keys import jwks, new_key, signing_keys
from service.rest.transport import Unusable

if TYPE_CHECKING:
    from pathlib import Path

    from service.rest.keys import Algorithm, SigningKey

OWNER_ONLY = 0o600


def make(file: Path, algorithm: Algorithm, *, add: bool) -> list[SigningKey]:
    """Write a new key to a file that is not there yet, or with `add` after the keys of one that is; return them all.

    Raises Unusable where the file is there and `add` is not, or the reverse, or it holds no keys; OSError.
    """
    if add:
        keys = [*read(file), new_key(algorithm)]
        # Whole or not at all: a key that is registered must not get lost.
        beside = file.with_name(f"{file.name}.new")
        _write(beside, jwks(keys, private=True))
        beside.replace(file)
        return keys
    keys = [new_key(algorithm)]
    try:
        _write(file, jwks(keys, private=True))
    except FileExistsError:
        raise Unusable(f"{file} is there already. Name another file, or add a key to it with --add.") from None
    return keys


def read(file: Path) -> list[SigningKey]:
    """Return the keys of a file. Raises Unusable, and OSError."""
    try:
        return signing_keys(file.read_bytes())
    except FileNotFoundError:
        raise Unusable(f"{file} is not there. `ipt-bridge keys new {file}` makes it.") from None
    except Unusable as error:
        raise Unusable(f"{file} {error}") from None


def _write(file: Path, content: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
