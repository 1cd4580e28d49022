"""The way to a server: TLS that is always verified, and in one sentence why nothing came of it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from pathlib import Path


class Unusable(ValueError):  # noqa: N818 - it says what a file is
    """A file of certificates, keys or secrets can't be used; the message names it, and never what it holds."""


@dataclass(frozen=True, slots=True)
class Identity:
    """This client's own certificate, for mutual TLS."""

    certificate_file: Path
    key_file: Path
    key_password: str | None = field(default=None, repr=False)


@cache
def authorities() -> ssl.SSLContext:
    """Return a context that verifies by the authorities that come with httpx: read once, since that takes 50 ms."""
    return httpx.create_ssl_context()


def tls_context(ca_file: Path | None = None, identity: Identity | None = None) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name, by the authorities of a PEM file or the system's.

    Raises Unusable where a PEM file holds nothing that OpenSSL can read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise Unusable(f"{ca_file} holds no certificate of an authority. Give PEM that this user can read.") from None
    if identity is not None:
        # An empty password makes OpenSSL fail on an encrypted key; none at all makes it ask at the terminal.
        password = identity.key_password or ""
        try:
            context.load_cert_chain(identity.certificate_file, identity.key_file, password)
        except OSError:
            raise Unusable(
                f"{identity.certificate_file} and {identity.key_file} are no certificate and its key. Give PEM that "
                "this user can read, and the key's password where it has one."
            ) from None
    return context


def tls_problem(error: BaseException) -> tuple[str, str] | None:
    """Return a code and a sentence where TLS is at fault, whatever the error was wrapped in; None where it is not."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "untrusted", f"its certificate is not trusted: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, ssl.SSLError):
            if isinstance(cause, ssl.SSLEOFError) or "ALERT" in (cause.reason or ""):
                return "tls-refused", "it ends TLS before it begins, as where it asks for another client certificate"
            return "tls", "what answers does not speak TLS"
        cause = cause.__cause__ or cause.__context__
    return None
