"""`--auth-token jwt`: tokens that any member can check by a key, and that nobody has to remember.

A token says whose it is, as of which auth revision, and until when: claims `username`, `revision`, `exp`. The member
that is asked to log in signs it; one that has only the public key checks tokens and makes none.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from etcdpy.auth.tokens import Found
from etcdpy.errors import VerifyOnly
from etcdpy.limits import JWT_TOKENS_KEPT

if TYPE_CHECKING:
    from random import Random

    Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_ASKED_AGAIN_SECONDS: Final = 1.0
"""A clock that is set back or forth is noticed no later."""
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_MISSING: Final = "auth: missing key data"
_MISMATCH: Final = "auth: public and private keys don't match"


class BadKey(ValueError):
    """Keys that cannot be used with the method; the text says why and holds nothing of them."""


class JwtTokens:
    """Tokens of one signing method. `verify_only` tells that this member makes none."""

    def __init__(self, method: str, *, public_key: bytes, private_key: bytes, ttl_seconds: float) -> None:
        """Keys as their files have them: PEM, or for HS the secret itself in `private_key`. Raises BadKey."""
        # Here: it is no part of a start without JWT. Its own clock and checks of claims are not used.
        import jwt

        self._jwt: Any = jwt
        self._method = method
        self._ttl_seconds = ttl_seconds
        self._checking_key: Any
        self._signing_key: Any
        if method.startswith("HS"):
            self._signing_key = self._checking_key = _secret(private_key)
        else:
            self._signing_key, self._checking_key = _key_pair(method, public_key, private_key)
        self._check_usable()
        self._checked: OrderedDict[str, tuple[str, int, float, float]] = OrderedDict()
        """Tokens with a good signature -> user, revision, first and last second of their time."""

    @property
    def verify_only(self) -> bool:
        """Whether only a public key was given."""
        return self._signing_key is None

    def _check_usable(self) -> None:
        """Use the keys once, so that a start tells what a login would. Raises BadKey."""
        try:
            if self._signing_key is not None:
                self._payload(self._jwt.encode({}, self._signing_key, algorithm=self._method))
        except (self._jwt.PyJWTError, ValueError, TypeError) as error:
            raise BadKey(f"the key cannot be used for {self._method}: {type(error).__name__}") from None

    # --- TokenProvider ---

    def enable(self) -> None:
        """See TokenProvider."""

    def disable(self) -> None:
        """See TokenProvider."""

    def forget_user(self, name: str) -> None:
        """See TokenProvider. The auth revision tells: it is higher than the tokens' from now on."""

    def new_prefix(self, random: Random) -> str:
        """See TokenProvider."""
        return ""

    def assign(self, name: str, prefix: str, index: int, now: float) -> str:
        """See TokenProvider: applying a login costs nothing on the members that were not asked."""
        return ""

    def sign(self, name: str, revision: int, wall: float) -> str:
        """See TokenProvider. 1 ms with RSA. Raises VerifyOnly."""
        if self.verify_only:
            raise VerifyOnly
        claims = {"username": name, "revision": revision, "exp": int(wall + self._ttl_seconds)}
        token: str = self._jwt.encode(claims, self._signing_key, algorithm=self._method)
        return token

    def find(self, token: str, now: float, wall: float) -> Found | None:
        """See TokenProvider. The signature is checked once, 0.1 ms; the time each time."""
        found = self._checked.get(token)
        if found is None:
            found = self._check(token)
            if found is None:
                return None
            if len(self._checked) >= JWT_TOKENS_KEPT:
                self._checked.popitem(last=False)
            self._checked[token] = found
        name, revision, begin, end = found
        return Found(name, revision, min(end - wall, _ASKED_AGAIN_SECONDS)) if begin <= wall < end else None

    def known_from(self, token: str) -> int:
        """See TokenProvider."""
        return 0

    def _check(self, token: str) -> tuple[str, int, float, float] | None:
        try:
            claims = self._payload(token)
        except (self._jwt.PyJWTError, ValueError):
            return None
        name, revision = claims.get("username"), claims.get("revision", "")
        begin, end = claims.get("nbf", 0), claims.get("exp", float("inf"))
        if not isinstance(name, str) or not all(_is_number(each) for each in (revision, begin, end)):
            return None
        try:
            return name, min(max(int(revision), 0), (1 << 64) - 1), float(begin), float(end)
        except (OverflowError, ValueError):
            return None

    def _payload(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature is good. Raises PyJWTError, ValueError."""
        options: Any = {"verify_signature": True, **dict.fromkeys(_OWN_CHECKS, False)}
        claims: dict[str, Any] = self._jwt.decode(token, self._checking_key, algorithms=[self._method], options=options)
        return claims


_OWN_CHECKS: Final = ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti")
"""What the library would check by its own clock, or more strictly than etcd."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _secret(private_key: bytes) -> bytes:
    if not private_key:
        raise BadKey(_MISSING)
    return private_key


def _key_pair(method: str, public_key: bytes, private_key: bytes) -> tuple[Private | None, Public]:
    """The signing key, None where there is none, and the one to check with. Raises BadKey."""
    private = _parse_private(private_key) if private_key else None
    public = _parse_public(public_key) if public_key else None
    if private is None and public is None:
        raise BadKey(_MISSING)
    if private is not None and public is not None and _der(private.public_key()) != _der(public):
        raise BadKey(_MISMATCH)
    checking = private.public_key() if private is not None else public
    assert checking is not None
    _check_kind(method, checking)
    return private, checking


def _check_kind(method: str, key: Public) -> None:
    wanted = {"RS": rsa.RSAPublicKey, "PS": rsa.RSAPublicKey, "ES": ec.EllipticCurvePublicKey}
    if not isinstance(key, wanted.get(method[:2], ed25519.Ed25519PublicKey)):
        raise BadKey(f"the key is none for {method}")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name != _CURVES[method]:
        raise BadKey(f"{method} needs a key on {_CURVES[method]}, this one is on {key.curve.name}")


def _parse_private(data: bytes) -> Private:
    try:
        return serialization.load_pem_private_key(data, None)  # type: ignore[return-value]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("the private key is no unencrypted PEM key") from None


def _parse_public(data: bytes) -> Public:
    """A public key in PEM; a certificate will do."""
    try:
        if b"CERTIFICATE" in data:
            return x509.load_pem_x509_certificate(data).public_key()  # type: ignore[return-value]
        return serialization.load_pem_public_key(data)  # type: ignore[return-value]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("the public key is no PEM key or certificate") from None


def _der(key: Public) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
