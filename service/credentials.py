"""Settings of how the service proves at an EHR who it is, and how it knows the EHR; `settings.py` has all the others.

A list's tables have no names in the environment, so each secret of theirs may stand in a file that is named beside it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FilePath, SecretStr, model_validator

HTTP_URL = r"^https?://[^\s?#@]+$"
TokenEndpoint = Annotated[str | None, Field(pattern=HTTP_URL)]


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


class ClientSecretAuth(Group):
    """Tokens by OAuth's client credentials, with a secret that both sides know."""

    kind: Literal["client-secret"]
    """How to authenticate."""
    client_id: str
    """Id under which the service is registered."""
    client_secret: SecretStr | None = None
    """Secret. The client's secret; rather in `client_secret_file`."""
    client_secret_file: FilePath | None = None
    """File with the client's secret alone, read at the start."""
    token_endpoint: TokenEndpoint = None
    """URL of the token endpoint; without it, the one that the FHIR server names, at its own host and by https only."""
    scopes: tuple[str, ...] = ()
    """Scopes to ask for; none where what is registered decides."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        exactly_one(self.client_secret, self.client_secret_file, "client_secret")
        return self


class BackendServicesAuth(Group):
    """Tokens by SMART Backend Services: each asked for with an assertion that the service signs."""

    kind: Literal["backend-services"]
    """How to authenticate."""
    client_id: str
    """Id under which the service is registered."""
    keys_file: FilePath
    """PEM, JWK or JWKS file with the private key, RSA for RS384 or P-384 for ES384; `ipt-bridge keys new` makes it."""
    key_id: str | None = None
    """`kid` of the key to sign with, where the file has several; without it, the first."""
    token_endpoint: TokenEndpoint = None
    """URL of the token endpoint; without it, the one that the FHIR server names."""
    scopes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Scopes to ask for, such as `system/CarePlan.cruds`."""


Auth = Annotated[NoAuth | BearerAuth | BasicAuth | ClientSecretAuth | BackendServicesAuth, Field(discriminator="kind")]


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
