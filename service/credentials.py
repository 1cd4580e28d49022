"""Settings of how the service proves at an EHR who it is, and how it knows the EHR; `settings.py` has all the others.

A list's tables have no names in the environment, so each secret of theirs may stand in a file that is named beside it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FilePath, SecretStr, model_validator

HTTP_URL = r"^https?://[^\s?#@]+$"


class Group(BaseModel):
    """A table of settings: a value that says nothing of a secret, whatever goes wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


def exactly_one(value: SecretStr | None, file: FilePath | None, name: str) -> None:
    """Raise ValueError unless a secret is given as itself or as a file's, and not as both."""
    if (value is None) == (file is None):
        msg = f"set the secret {name}, or {name}_file, and not both"
        raise ValueError(msg)


class NoAuth(Group):
    """The server asks nobody who they are."""

    kind: Literal["none"] = "none"
    """How to authenticate."""


class BearerAuth(Group):
    """A token that does not change while the service runs."""

    kind: Literal["bearer"]
    """How to authenticate."""
    token: SecretStr | None = None
    """Secret. The token; rather in `token_file`."""
    token_file: FilePath | None = None
    """File with the token alone, read at the start."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        exactly_one(self.token, self.token_file, "token")
        return self


class BasicAuth(Group):
    """User and password with each request."""

    kind: Literal["basic"]
    """How to authenticate."""
    username: str
    """Name of the user."""
    password: SecretStr | None = None
    """Secret. The user's password; rather in `password_file`."""
    password_file: FilePath | None = None
    """File with the password alone, read at the start."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        exactly_one(self.password, self.password_file, "password")
        return self


Auth = Annotated[NoAuth | BearerAuth | BasicAuth, Field(discriminator="kind")]


class Transport(Group):
    """How a connection to an EHR is secured; its certificate and host name are always verified."""

    ca_file: FilePath | None = None
    """PEM file of the authorities that sign the server's certificate; without it, those of the system."""
    certificate_file: FilePath | None = None
    """PEM file of this client's own certificate, for mutual TLS."""
    key_file: FilePath | None = None
    """PEM file of the key to `certificate_file`."""
    key_password_file: FilePath | None = None
    """File with the password of `key_file` alone, where it has one."""
    auth: Auth = NoAuth()
    """How the service proves at the FHIR server who it is."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            msg = "certificate_file and key_file go together"
            raise ValueError(msg)
        return self
