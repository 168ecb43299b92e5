"""What a certificate may be used for: one frozen value a role.

`server` is for serverAuth alone. Real etcd's JSON gateway dials its own port and shows the server's certificate there
as a client, so under --client-cert-auth etcd refuses itself unless that certificate also carries clientAuth. etcdpy's
gateway makes no such connection. For real etcd issue that certificate with `peer`, or give it a `client` one through
--client-cert-file and --client-key-file.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.errors import PkiError

CA_DAYS = 3650
LEAF_DAYS = 365
BACKDATED = datetime.timedelta(minutes=5)
"""How far notBefore lies in the past: hosts whose clocks are a little behind must accept a fresh certificate."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A role: its extended key usages, whether it must name hosts, and how long it holds by default."""

    name: str
    usages: tuple[x509.ObjectIdentifier, ...]
    needs_host: bool
    days: int
    is_ca: bool = False

    def key_usage(self, public_key: object) -> x509.KeyUsage:
        """The key usage for a key of this kind: RSA may also encipher keys, for TLS 1.2 clients of old."""
        return x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=self.is_ca,
            crl_sign=self.is_ca,
            key_encipherment=not self.is_ca and isinstance(public_key, rsa.RSAPublicKey),
            content_commitment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )


_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("ca", (), needs_host=False, days=CA_DAYS, is_ca=True),
        Profile("server", (_SERVER,), needs_host=True, days=LEAF_DAYS),
        Profile("peer", (_SERVER, _CLIENT), needs_host=True, days=LEAF_DAYS),
        Profile("client", (_CLIENT,), needs_host=False, days=LEAF_DAYS),
    )
}


def profile_named(name: str) -> Profile:
    """The profile, or PkiError with the names there are."""
    if name not in PROFILES:
        raise PkiError(f'unknown profile "{name}" (there are {", ".join(PROFILES)})')
    return PROFILES[name]
