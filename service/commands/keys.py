"""`ipt-bridge keys`: make signing keys for SMART Backend Services, and show what an EHR registers of them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.rest.transport import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.rest.keys import SigningKey

WRONG_USAGE = 2

keys = typer.Typer(no_args_is_help=True, help="Keys to authenticate with at EHRs: make them, show what to register.")

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="JWKS file of private keys, for its owner alone.")]


@keys.command("new")
def new(
    file: KeyFile,
    algorithm: Annotated[
        Literal["RS384", "ES384"], typer.Option("--algorithm", help="What the key signs with; every EHR takes RS384.")
    ] = "RS384",
    add: Annotated[bool, typer.Option("--add", help="Add the key to a file, after those that it has.")] = False,  # noqa: FBT002 - typer reads options from the defaults
) -> None:
    """Write a new private key to a file and print the JWKS to register at the EHR.

    A file that is there is left alone, unless the key is to be added. Example: `ipt-bridge keys new ehr-keys.json`
    """
    from service import key_files  # noqa: PLC0415 - no other command needs the cryptography

    with _told(file):
        made = key_files.make(file, algorithm, add=add)
    _print(made)
    typer.echo("Register this at the EHR; it holds no secret.", err=True)
    typer.echo(f"{file} does: set it as keys_file, and {made[-1].key_id} as key_id.", err=True)


@keys.command("show")
def show(file: KeyFile) -> None:
    """Print the JWKS to register at the EHR, of the keys in a PEM, JWK or JWKS file. Never prints a private part.

    Example: `ipt-bridge keys show ehr-keys.json`
    """
    from service import key_files  # noqa: PLC0415 - no other command needs the cryptography

    with _told(file):
        found = key_files.read(file)
    _print(found)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Print what is wrong with a file and what to do, and end with the code for wrong usage."""
    try:
        yield
    except Unusable as error:
        text = str(error)
    except OSError as error:
        text = f"{file}: {error.strerror}. Name a file in a folder that this user may use."
    else:
        return
    typer.echo(f"ipt-bridge: {text}", err=True)
    raise typer.Exit(WRONG_USAGE)


def _print(found: Sequence[SigningKey]) -> None:
    from service.rest.keys import jwks  # noqa: PLC0415 - as above

    sys.stdout.buffer.write(jwks(found))
