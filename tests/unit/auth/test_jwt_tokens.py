"""JWTs: keys that fit, claims that count, and what is wrong with the rest."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

pytest.importorskip("jwt")
import jwt

from etcdpy.auth.jwt_tokens import BadKey, JwtTokens
from etcdpy.errors import VerifyOnly

SECRET = b"s" * 64


def pem(key: Any) -> tuple[bytes, bytes]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


PRIVATE, PUBLIC = pem(ec.generate_private_key(ec.SECP256R1()))
OTHER_PRIVATE, OTHER_PUBLIC = pem(ec.generate_private_key(ec.SECP384R1()))
RSA_PRIVATE, _ = pem(rsa.generate_private_key(65537, 2048))


def hs256() -> JwtTokens:
    return JwtTokens("HS256", public_key=b"", private_key=SECRET, ttl_seconds=300)


@pytest.mark.parametrize(
    ("method", "private", "public", "reason"),
    [
        ("ES256", b"", b"", "missing key data"),
        ("HS256", b"", b"", "missing key data"),
        ("ES256", PRIVATE, OTHER_PUBLIC, "don't match"),
        ("ES256", OTHER_PRIVATE, b"", "needs a key on secp256r1"),
        ("RS256", PRIVATE, b"", "is none for RS256"),
        ("ES256", RSA_PRIVATE, b"", "is none for ES256"),
        ("EdDSA", PRIVATE, b"", "is none for EdDSA"),
        ("ES256", b"nonsense", b"", "no unencrypted PEM key"),
        ("ES256", b"", b"nonsense", "no PEM key or certificate"),
        ("ES256", PUBLIC, b"", "no unencrypted PEM key"),
        ("HS256", PRIVATE, b"", "cannot be used for HS256"),
    ],
)
def test_keys_that_do_not_fit(method: str, private: bytes, public: bytes, reason: str) -> None:
    with pytest.raises(BadKey, match=reason) as caught:
        JwtTokens(method, public_key=public, private_key=private, ttl_seconds=300)
    assert "BEGIN" not in str(caught.value)


def test_signing_and_checking() -> None:
    provider = JwtTokens("ES256", public_key=PUBLIC, private_key=PRIVATE, ttl_seconds=300)
    token = provider.sign("u", 7, wall=1000.4)
    found = provider.find(token, 0.0, 1001.0)
    assert found is not None
    assert (found.name, found.revision, found.seconds) == ("u", 7, 1.0)
    assert provider.find(token, 0.0, 1299.9) is not None
    assert provider.find(token, 0.0, 1300.0) is None
    checking = JwtTokens("ES256", public_key=PUBLIC, private_key=b"", ttl_seconds=300)
    assert checking.find(token, 0.0, 1001.0) == found
    with pytest.raises(VerifyOnly):
        checking.sign("u", 7, wall=1000.0)


def signed(claims: dict[str, Any], method: str = "HS256", key: Any = SECRET) -> str:
    token: str = jwt.encode(claims, key, algorithm=method)
    return token


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"username": "u"},
        {"revision": 1},
        {"username": 5, "revision": 1},
        {"username": "u", "revision": "1"},
        {"username": "u", "revision": True},
        {"username": "u", "revision": 1, "exp": 99},
        {"username": "u", "revision": 1, "exp": "later"},
        {"username": "u", "revision": 1, "nbf": 101},
        {"username": "u", "revision": float("nan")},
    ],
)
def test_claims_that_do_not_count(claims: dict[str, Any]) -> None:
    assert hs256().find(signed(claims), 0.0, 100.0) is None


def test_claims_that_count() -> None:
    for claims in (
        {"username": "u", "revision": 3},
        {"username": "u", "revision": 3.0, "exp": 101, "nbf": 99, "iat": 5000, "sub": 5, "aud": "x", "iss": "x"},
    ):
        found = hs256().find(signed(claims), 0.0, 100.0)
        assert found is not None
        assert (found.name, found.revision) == ("u", 3)
        assert found.seconds == 1.0


def test_another_method_or_none_is_no_signature() -> None:
    claims = {"username": "root", "revision": 3}
    for token in (
        signed(claims, "HS512"),
        signed(claims, "none", None),
        signed(claims, "HS256", b"x" * 64),
        "a.b.c",
        "",
        "é.é.é",
    ):
        assert hs256().find(token, 0.0, 100.0) is None, token
    # The public key of an asymmetric method is no secret to sign with.
    provider = JwtTokens("ES256", public_key=PUBLIC, private_key=PRIVATE, ttl_seconds=300)
    assert provider.find(signed(claims), 0.0, 100.0) is None
