"""Signing keys: which files hold one, what is said of those that don't, and `ipt-bridge keys`."""

from __future__ import annotations

import base64
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key
from joserfc.jwk import ECKey, OctKey, RSAKey
from typer.testing import CliRunner, Result

from service.cli import cli
from service.rest.keys import chosen, jwks, new_key, signing_keys
from service.rest.token_endpoint import Assertion
from service.rest.transport import Unusable

if TYPE_CHECKING:
    from service.rest.keys import Algorithm

SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
LOCKED = RSAKey.generate_key(2048).as_pem(private=True, password="x")  # noqa: S106 - made up
DEPLOYING = Path(__file__).parents[2] / "deploy" / "README.md"
PRIVATE_PARTS = {"d", "p", "q", "dp", "dq", "qi", "k", "oth"}


def run(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["keys", *map(str, arguments)])


def refusal(content: bytes) -> str:
    """Return what is said of a file's content."""
    with pytest.raises(Unusable) as caught:
        signing_keys(content)
    return str(caught.value)


def private(key: RSAKey | ECKey, **described: str) -> dict[str, Any]:
    """Return a private key as JWK."""
    return {**key.as_dict(private=True), **described}


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
@pytest.mark.parametrize("layout", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_pem_key_is_known_by_its_thumbprint(algorithm: Algorithm, layout: PrivateFormat) -> None:
    """As `openssl genpkey` and `openssl ecparam` write it, line ends and all."""
    made = rsa.generate_private_key(65537, 2048) if algorithm == "RS384" else ec.generate_private_key(ec.SECP384R1())
    pem = made.private_bytes(Encoding.PEM, layout, NoEncryption())

    parameters = b"-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"
    before = parameters if pem.startswith(b"-----BEGIN EC ") else b"\n"
    (key,) = signing_keys(before + pem.replace(b"\n", b"\r\n"))

    assert (algorithm, key.key.thumbprint()) == (key.algorithm, key.key_id)


def test_of_a_jwks_the_private_signing_keys_count() -> None:
    """Public ones, those for encryption, other kinds and other algorithms stand there for others."""
    rs, es = RSAKey.generate_key(2048), ECKey.generate_key("P-384")
    document = {
        "keys": [
            rs.as_dict(private=False) | {"kid": "public"},
            private(rs, kid="encrypts", use="enc"),
            private(rs, kid="other", alg="RS256"),
            private(ECKey.generate_key("P-256"), kid="short", alg="ES256"),
            OctKey.generate_key(256).as_dict(private=True) | {"kid": "shared", "d": "x"},
            private(es, kid="ours", use="sig", alg="ES384") | {"key_ops": ["sign"]},
            private(rs, kid="second"),
        ]
    }

    keys = signing_keys(orjson.dumps(document))

    assert [("ours", "ES384"), ("second", "RS384")] == [(key.key_id, key.algorithm) for key in keys]
    assert ("ours", "second") == (chosen(keys, None).key_id, chosen(keys, "second").key_id)


def test_a_single_jwk_is_a_key_too() -> None:
    """Without a set around it."""
    key = ECKey.generate_key("P-384")

    assert ["one"] == [each.key_id for each in signing_keys(orjson.dumps(private(key, kid="one")))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is neither PEM nor JSON."),
        (b"ssh-rsa AAAA", "is neither PEM nor JSON."),
        (b"[]", "is no JWK and no JWKS."),
        (b'{"keys": "none"}', "is no JWK and no JWKS."),
        (b'{"keys": []}', "holds no private key for RS384 (RSA) or ES384 (P-384)."),
        (b'{"kty": "RSA", "d": "x", "n": "y", "e": "AQAB"}', "holds a damaged key."),
        (b'{"kty": "EC", "crv": "P-384", "d": 1}', "holds a damaged key."),
        (b'{"kty": ["RSA"], "d": "x"}', "holds no private key for RS384 (RSA) or ES384 (P-384)."),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "is PEM that can't be read."),
        (LOCKED, "is PEM that can't be read."),
        (RSAKey.generate_key(2048).as_pem(private=False), "holds no private key for RS384 (RSA) or ES384 (P-384)."),
        (ECKey.generate_key("P-256").as_pem(private=True), "holds no private key for RS384 (RSA) or ES384 (P-384)."),
        (
            SHORT.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "holds an RSA key of less than 2048 bits.",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_file_without_a_key_to_sign_with_is_refused(content: bytes, said: str) -> None:
    """One sentence says what it is, one what to do, and neither what it holds."""
    assert refusal(content).startswith(said)
    assert refusal(content).endswith(".")


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_an_assertion_is_signed_as_its_algorithm_has_it(algorithm: Algorithm) -> None:
    """Verified without the library that signs: RFC 7518, 3.3 and 3.4."""
    key = new_key(algorithm)
    signed = Assertion("ipt", key).form("https://ehr.example/token", 0.0)["client_assertion"]
    message, _, encoded = signed.rpartition(".")
    signature = base64.urlsafe_b64decode(encoded + "==")

    public = load_pem_public_key(key.key.as_pem(private=False))
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, message.encode(), padding.PKCS1v15(), hashes.SHA384())
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert 96 == len(signature)
        r, s = int.from_bytes(signature[:48]), int.from_bytes(signature[48:])
        public.verify(encode_dss_signature(r, s), message.encode(), ec.ECDSA(hashes.SHA384()))


def test_a_key_is_not_shown() -> None:
    """In no representation, and not in what is registered."""
    key = new_key("ES384")

    assert key.private()["d"] not in repr(key)
    assert key.private()["d"].encode() not in jwks([key])


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_keys_new_writes_the_private_key_and_prints_what_to_register(algorithm: str, tmp_path: Path) -> None:
    """The file is its owner's alone; what is printed is a JWKS without a private part."""
    file = tmp_path / "ehr-keys.json"

    answer = run("new", file, "--algorithm", algorithm)

    assert 0 == answer.exit_code
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    (printed,) = orjson.loads(answer.stdout)["keys"]
    (key,) = signing_keys(file.read_bytes())
    assert (algorithm, key.key_id, "sig", ["verify"]) == tuple(
        printed[name] for name in ("alg", "kid", "use", "key_ops")
    )
    assert set() == PRIVATE_PARTS & set(printed)
    assert f"set it as keys_file, and {key.key_id} as key_id." in answer.stderr
    assert answer.stdout == run("show", file).stdout


def test_keys_new_never_writes_over_a_file(tmp_path: Path) -> None:
    """A key that is registered would be lost."""
    file = tmp_path / "ehr-keys.json"
    file.write_bytes(b"kept")

    answer = run("new", file)

    assert (2, b"kept") == (answer.exit_code, file.read_bytes())
    assert "is there already" in answer.stderr


def test_keys_are_rotated_by_adding_one(tmp_path: Path) -> None:
    """The first goes on signing until key_id names the other; both are printed, to be registered meanwhile."""
    file = tmp_path / "ehr-keys.json"
    run("new", file, "--algorithm", "ES384")
    (old,) = signing_keys(file.read_bytes())

    answer = run("new", file, "--algorithm", "ES384", "--add")

    both = signing_keys(file.read_bytes())
    assert [old.key_id, both[1].key_id] == [key["kid"] for key in orjson.loads(answer.stdout)["keys"]]
    assert (old.key_id, 0o600) == (chosen(both, None).key_id, stat.S_IMODE(file.stat().st_mode))
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("new", "--add"), ("show",)])
def test_a_file_that_is_not_there_is_named(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """With the command that makes it."""
    answer = run(*arguments, tmp_path / "none.json")

    assert 2 == answer.exit_code
    assert "is not there" in answer.stderr


def test_a_folder_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    """In a sentence, without a traceback."""
    file = tmp_path / "none" / "keys.json"

    answer = run("new", file)

    expected = f"ipt-bridge: {file}: No such file or directory. Name a file in a folder that this user may use.\n"
    assert (2, expected) == (answer.exit_code, answer.stderr)


def test_the_rotation_that_the_document_shows_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, in its order, end with two keys that can be registered."""
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"ipt-bridge keys ([^`>\n]+)", DEPLOYING.read_text(encoding="utf-8"))

    answers = [run(*command.split()) for command in commands]

    assert [0, 0, 0, 0] == [answer.exit_code for answer in answers]
    assert [1, 1, 2, 2] == [len(orjson.loads(answer.stdout)["keys"]) for answer in answers]
