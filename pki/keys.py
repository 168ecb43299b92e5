"""Private keys: the kinds that are offered, and how they are written and read."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pki.errors import PkiError

if TYPE_CHECKING:
    from collections.abc import Callable

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

PASSPHRASE_CHARS_MIN = 8
"""The shortest passphrase for a CA key. The key is wrapped with PBKDF2, which slows a guess down and no more."""

_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


class KeyType(Enum):
    """What `--key-type` takes. ECDSA P-256 is the default: every TLS client has it, and its handshakes cost least."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"

    def generate(self) -> PrivateKey:
        """A new key from the system's random source."""
        return _GENERATORS[self]()

    @classmethod
    def of(cls, key: object) -> KeyType:
        """The kind nearest to a public key: its own, or the default for one that is not made here."""
        kind = {"ECDSA P-384": cls.ECDSA_P384, "Ed25519": cls.ED25519}.get(describe_public_key(key))
        if kind is None and isinstance(key, rsa.RSAPublicKey):
            return cls.RSA_2048 if key.key_size < 3072 else cls.RSA_3072 if key.key_size < 4096 else cls.RSA_4096
        return kind or cls.ECDSA_P256


_GENERATORS: dict[KeyType, Callable[[], PrivateKey]] = {
    KeyType.ECDSA_P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyType.ECDSA_P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyType.RSA_2048: lambda: rsa.generate_private_key(65537, 2048),
    KeyType.RSA_3072: lambda: rsa.generate_private_key(65537, 3072),
    KeyType.RSA_4096: lambda: rsa.generate_private_key(65537, 4096),
    KeyType.ED25519: ed25519.Ed25519PrivateKey.generate,
}


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The digest to sign with under this key; Ed25519 brings its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


def describe_public_key(key: object) -> str:
    """`ECDSA P-256`, `RSA 2048`, `Ed25519`, or the library's name for anything else."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}.get(key.curve.name, key.curve.name)
        return f"ECDSA {curve}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    return type(key).__name__.removesuffix("PublicKey")


def to_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """PKCS #8 in PEM, encrypted if a passphrase is given."""
    wrapping: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        wrapping = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, wrapping)


def is_encrypted(pem: bytes) -> bool:
    """Whether the key asks for a passphrase: PKCS #8, or OpenSSL's older form."""
    return b"ENCRYPTED" in pem


def from_pem(pem: bytes, passphrase: bytes | None, file: str) -> PrivateKey:
    """Read a key; `file` is for the error. Raises PkiError for a wrong or missing passphrase, and for anything else."""
    block = _KEY_BLOCK.search(pem)
    if block is None:
        raise PkiError(f"{file}: holds no PEM private key")
    encrypted = is_encrypted(block.group(0))
    if encrypted and passphrase is None:
        raise PkiError(f"{file}: the key is encrypted; give its passphrase with --passphrase-file")
    try:
        key = serialization.load_pem_private_key(block.group(0), passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # not chained: the cause may speak of the key's bytes
        raise PkiError(f"{file}: {'wrong passphrase' if encrypted else 'the key cannot be read'}") from None
    if not isinstance(key, PrivateKey):
        raise PkiError(f"{file}: a key of this kind cannot sign certificates here")
    return key
