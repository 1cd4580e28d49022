"""How a server wants to be authenticated at, from its smart-configuration and, without one, its CapabilityStatement.

Source: https://hl7.org/fhir/smart-app-launch/conformance.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from service.rest.capabilities import NotNegotiable, read_json, said

if TYPE_CHECKING:
    from service.rest.capabilities import Statement

Method = Literal["backend-services", "client-secret", "oauth", "basic", "none-stated"]

_ASYMMETRIC = "client-confidential-asymmetric"
_PRIVATE_KEY = "private_key_jwt"
_CLIENT_CREDENTIALS = "client_credentials"
_OURS = ("RS384", "ES384")


@dataclass(frozen=True, slots=True)
class Authentication:
    """How to authenticate at a server."""

    method: Method
    token_endpoint: str | None
    algorithms: tuple[str, ...]
    """Of RS384 and ES384 those that the server names; empty where it names none."""
    reason: str


def authentication(statement: Statement, smart: bytes | None) -> Authentication:
    """Return how to authenticate; `smart` are the bytes of the smart-configuration, None where there is none."""
    if smart is not None:
        try:
            document = read_json(smart)
        except NotNegotiable:
            document = None
        if isinstance(document, dict):
            found = _configured(document)
            if found is not None:
                return found
    return _stated(statement, "No smart-configuration" if smart is None else "The smart-configuration can't be used")


def _configured(document: dict[str, object]) -> Authentication | None:
    endpoint = said(document.get("token_endpoint"))
    if endpoint is None:
        return None
    capabilities = _texts(document.get("capabilities"))
    # Some servers name their methods without `_supported`.
    methods = _texts(document.get("token_endpoint_auth_methods_supported", document.get("token_endpoint_auth_methods")))
    grants = _texts(document.get("grant_types_supported"))
    named = _texts(document.get("token_endpoint_auth_signing_alg_values_supported"))
    algorithms = tuple(each for each in _OURS if each in named)
    if _PRIVATE_KEY not in methods and _ASYMMETRIC not in capabilities:
        how: Method = "client-secret" if any(each.startswith("client_secret") for each in methods) else "oauth"
        return Authentication(how, endpoint, algorithms, f"neither {_PRIVATE_KEY} nor {_ASYMMETRIC} is listed")
    notes = [f"{_PRIVATE_KEY} is listed" if _PRIVATE_KEY in methods else f"{_ASYMMETRIC} is listed"]
    if methods and _PRIVATE_KEY not in methods:
        notes.append(f"though {_PRIVATE_KEY} is not among the methods: ask the vendor")
    if grants and _CLIENT_CREDENTIALS not in grants:
        return Authentication("oauth", endpoint, algorithms, f"the grant {_CLIENT_CREDENTIALS} is not listed")
    if not any(scope.startswith("system/") for scope in _texts(document.get("scopes_supported"))):
        notes.append("no system/ scope is listed: ask for them when registering")
    if named and not algorithms:
        notes.append("neither RS384 nor ES384 is among the signing algorithms")
    return Authentication("backend-services", endpoint, algorithms, "; ".join(notes))


def _stated(statement: Statement, why: str) -> Authentication:
    services = {each.lower() for each in statement.services}
    endpoint = statement.token_endpoint
    if endpoint is not None or services & {"oauth", "smart-on-fhir"}:
        return Authentication("oauth", endpoint, (), f"{why}; the CapabilityStatement names OAuth")
    if "basic" in services:
        return Authentication("basic", None, (), f"{why}; the CapabilityStatement names Basic")
    return Authentication("none-stated", None, (), f"{why}, and the CapabilityStatement names no security service")


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
