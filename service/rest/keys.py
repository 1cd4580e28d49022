"""Keys that sign client assertions: from PEM, JWK or JWKS to the one in use, and to what an EHR registers.

Source: https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html (RS384 and ES384).

Whoever needs a key imports this then, and not before: the cryptography takes 11 MB of each worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from service.rest.transport import Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence

Algorithm = Literal["RS384", "ES384"]
_RSA_BITS = 3072  # of keys made here; NIST SP 800-57: 128 bits of strength, as P-384 has at least
_LEAST_RSA_BITS = 2048  # RFC 7518, 3.3
_CURVE = "P-384"  # RFC 7518, 3.4: the one of ES384


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, what it is known by, and what it signs with."""

    key_id: str
    """`kid` of the key; where the file names none, its thumbprint (RFC 7638)."""
    algorithm: Algorithm
    key: RSAKey | ECKey = field(repr=False)

    def signed(self, claims: dict[str, Any]) -> str:
        """Return a JSON Web Token of these claims."""
        return jwt.encode({"alg": self.algorithm, "kid": self.key_id, "typ": "JWT"}, claims, self.key, [self.algorithm])

    def private(self) -> dict[str, Any]:
        """Return the whole key as JWK: a secret."""
        return {**self.key.as_dict(private=True), **self._described()}

    def public(self) -> dict[str, Any]:
        """Return the JWK that an EHR registers."""
        return {**self.key.as_dict(private=False), **self._described()} | {"key_ops": ["verify"]}

    def _described(self) -> dict[str, str]:
        return {"kid": self.key_id, "alg": self.algorithm, "use": "sig"}


def new_key(algorithm: Algorithm) -> SigningKey:
    """Return a new private key, known by its thumbprint."""
    key = RSAKey.generate_key(_RSA_BITS) if algorithm == "RS384" else ECKey.generate_key(_CURVE)
    return SigningKey(key.thumbprint(), algorithm, key)


def signing_keys(content: bytes) -> list[SigningKey]:
    """Return the private keys of a PEM, JWK or JWKS file that can sign RS384 or ES384, in their order.

    Raises Unusable, without the file's name and content, where one is damaged or there is none.
    """
    text = content.strip()
    if text.startswith(b"-----BEGIN"):
        found = [_from_pem(text)]
    else:
        found = [_from_jwk(each) for each in _jwks(text) if "d" in each and each.get("use") != "enc"]
    keys = [key for key in found if key is not None]
    if not keys:
        raise Unusable("holds no private key for RS384 (RSA) or ES384 (P-384). `ipt-bridge keys new` makes one.")
    return keys


def chosen(keys: Sequence[SigningKey], key_id: str | None) -> SigningKey:
    """Return the key of that id; without an id, the first. Raises Unusable, which names the ids there are."""
    found = next((key for key in keys if key_id in {None, key.key_id}), None)
    if found is None:
        raise Unusable(
            f"holds no key {key_id}, but {', '.join(key.key_id for key in keys)}. Set key_id to one of them."
        )
    return found


def jwks(keys: Sequence[SigningKey], *, private: bool = False) -> bytes:
    """Return a JWKS document of keys; with their private parts only where asked for."""
    document = {"keys": [key.private() if private else key.public() for key in keys]}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _jwks(text: bytes) -> list[dict[str, Any]]:
    try:
        document = orjson.loads(text)
    except ValueError:
        raise Unusable("is neither PEM nor JSON. Give a private key as PEM, JWK or JWKS.") from None
    listed = document.get("keys", [document]) if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise Unusable("is no JWK and no JWKS. Give a private key as PEM, JWK or JWKS.")
    return listed


def _from_pem(text: bytes) -> SigningKey | None:
    key: RSAKey | ECKey
    try:
        key = RSAKey.import_key(text)
    except (ValueError, TypeError, JoseError):
        try:
            key = ECKey.import_key(text)
        except (ValueError, TypeError, JoseError):
            raise Unusable("is PEM that can't be read. Give an RSA or P-384 private key without a password.") from None
    return _signing(key, None, None) if key.is_private else None


def _from_jwk(jwk: dict[str, Any]) -> SigningKey | None:
    kinds: dict[str, type[RSAKey | ECKey]] = {"RSA": RSAKey, "EC": ECKey}
    kind = kinds.get(str(jwk.get("kty")))
    if kind is None or (kind is ECKey and jwk.get("crv") != _CURVE):
        return None
    # What a key may be used for differs from maker to maker; what it is made of does not.
    parts = {name: value for name, value in jwk.items() if name not in {"alg", "use", "key_ops", "kid"}}
    try:
        key = kind.import_key(parts)
    except (ValueError, TypeError, KeyError, JoseError):
        raise Unusable("holds a damaged key. Take it out, or make another with `ipt-bridge keys new`.") from None
    stated, key_id = jwk.get("alg"), jwk.get("kid")
    return _signing(key, stated if isinstance(stated, str) else None, key_id if isinstance(key_id, str) else None)


def _signing(key: RSAKey | ECKey, stated: str | None, key_id: str | None) -> SigningKey | None:
    algorithm: Algorithm = "RS384" if isinstance(key, RSAKey) else "ES384"
    if stated not in {None, algorithm}:
        return None
    if isinstance(key, ECKey) and key.curve_name != _CURVE:
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size < _LEAST_RSA_BITS:
        raise Unusable(f"holds an RSA key of less than {_LEAST_RSA_BITS} bits. `ipt-bridge keys new` makes another.")
    return SigningKey(key_id or key.thumbprint(), algorithm, key)
