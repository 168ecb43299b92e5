"""What a certificate may be used for: one frozen value a role. More of them, or other days for these, stand as tables
in a directory's `profiles.toml`.

`server` is for serverAuth alone. Real etcd's JSON gateway dials its own port and shows the server's certificate there
as a client, so under --client-cert-auth etcd refuses itself unless that certificate also carries clientAuth. etcdpy's
gateway makes no such connection. For real etcd issue that certificate with `peer`, or give it a `client` one through
--client-cert-file and --client-key-file.
"""

from __future__ import annotations

import dataclasses
import datetime
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.errors import PkiError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    organizations: tuple[str, ...] = ()
    """What the subject gets where none is asked for."""

    @property
    def usage_names(self) -> tuple[str, ...]:
        """The extended key usages as people and OpenSSL write them."""
        return tuple(USAGE_NAMES.get(usage, usage.dotted_string) for usage in self.usages)

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


USAGE_NAMES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}
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


def profile_named(name: str, profiles: Mapping[str, Profile] = PROFILES) -> Profile:
    """The profile, or PkiError with the names there are."""
    if name not in profiles:
        raise PkiError(f'unknown profile "{name}" (there are {", ".join(profiles)})')
    return profiles[name]


def parse_profiles(content: bytes, file: str) -> dict[str, Profile]:
    """The built-in profiles, and over them those of a TOML file: a table each. Raises PkiError that names the place.

    `usages` (serverAuth, clientAuth or dotted numbers), `days`, `needs_host` and `organizations` may be left out where
    a built-in profile of that name has them; else usages are needed, and the rest is as for `client`.
    """
    try:
        tables = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PkiError(f"{file}: not TOML: {error}") from None
    return {**PROFILES, **{name: _profile(name, table, f"{file}: [{name}]") for name, table in tables.items()}}


def _profile(name: str, table: object, place: str) -> Profile:
    if not isinstance(table, dict):
        raise PkiError(f"{place} must be a table")
    unknown = sorted(set(table) - {"usages", "days", "needs_host", "organizations"})
    if unknown:
        raise PkiError(f'{place} has no setting "{unknown[0]}"')
    base = PROFILES.get(name) or Profile(name, (), needs_host=False, days=LEAF_DAYS)
    usages = base.usages
    if "usages" in table:
        usages = tuple(_usage(text, place) for text in _strings(table["usages"], f"{place} usages"))
    if not usages and not base.is_ca:
        raise PkiError(f"{place} needs usages: serverAuth, clientAuth or both")
    days, needs_host = table.get("days", base.days), table.get("needs_host", base.needs_host)
    if type(days) is not int or days < 1:
        raise PkiError(f"{place} days must be a positive number")
    if type(needs_host) is not bool:
        raise PkiError(f"{place} needs_host must be true or false")
    organizations = _strings(table.get("organizations", []), f"{place} organizations")
    return dataclasses.replace(base, usages=usages, days=days, needs_host=needs_host, organizations=organizations)


def _strings(value: object, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise PkiError(f"{place} must be a list of strings")
    return tuple(value)


def _usage(text: str, place: str) -> x509.ObjectIdentifier:
    for usage, name in USAGE_NAMES.items():
        if text == name:
            return usage
    try:
        return x509.ObjectIdentifier(text)
    except ValueError:
        raise PkiError(f'{place} has an unknown usage "{text}" (there are serverAuth and clientAuth)') from None
