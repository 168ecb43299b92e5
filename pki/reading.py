"""What a certificate says: its names, its usages, its key, and who signed it."""

from __future__ import annotations

import datetime
import hashlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from pki.errors import PkiError
from pki.profiles import USAGE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def common_name(subject: x509.Name) -> str:
    """The first common name; empty where there is none."""
    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def subject_names(holder: x509.Certificate | x509.CertificateSigningRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(addresses, DNS names) that it stands for. Raises PkiError for a name of another kind, such as a URI."""
    try:
        names = holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    for name in names:
        if not isinstance(name, x509.DNSName | x509.IPAddress):
            raise PkiError(f"it names a {type(name).__name__}; only host names and IP addresses are signed here")
    return tuple(map(str, names.get_values_for_type(x509.IPAddress))), tuple(names.get_values_for_type(x509.DNSName))


def alternative_names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(DNS names, addresses) that it stands for; names of other kinds are passed over."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    return tuple(names.get_values_for_type(x509.DNSName)), tuple(map(str, names.get_values_for_type(x509.IPAddress)))


def names_in_words(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its names as `DNS:m1`, `IP:10.0.0.1`."""
    dns_names, addresses = alternative_names(certificate)
    return tuple([f"DNS:{name}" for name in dns_names] + [f"IP:{address}" for address in addresses])


def usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its extended key usages, as `serverAuth` or dotted numbers."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(USAGE_NAMES.get(usage, usage.dotted_string) for usage in found)


def role(certificate: x509.Certificate) -> str:
    """`peer`, `server`, `client`, `any` (no usage is named), `none` (others are), or which kind of CA it is."""
    if is_ca(certificate):
        return "root ca" if is_self_signed(certificate) else "intermediate ca"
    named = usages(certificate)
    server, client = "serverAuth" in named, "clientAuth" in named
    if server and client:
        return "peer"
    if server:
        return "server"
    if client:
        return "client"
    return "none" if named else "any"


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether its basic constraints say so."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it is a root: its own issuer."""
    return certificate.subject == certificate.issuer


def public_bytes(key: PublicKeyTypes) -> bytes:
    """A public key's DER form: two keys are the same exactly if these are."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_digest(certificate: x509.Certificate) -> str:
    """SHA-256 of its public key, in hex: the same for a CA's certificate that was made anew for its old key."""
    return hashlib.sha256(public_bytes(certificate.public_key())).hexdigest()


def days_left(certificate: x509.Certificate, now: datetime.datetime) -> int:
    """Whole days until it expires; negative once it has."""
    return (certificate.not_valid_after_utc - now) // datetime.timedelta(days=1)


def verifies(certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The issuer among `issuers` that signed it, or None."""
    for issuer in issuers:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return issuer
    return None
