"""A certificate authority as a value: it makes certificates, and touches no file.

Time and randomness are arguments: `now` is an aware datetime, `random_bytes(n)` the source of serials.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from pki import keys
from pki.errors import PkiError
from pki.profiles import BACKDATED, Profile
from pki.reading import common_name, is_ca, public_bytes, subject_names

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

RandomBytes = Callable[[int], bytes]

DAYS_MAX = 36_500
"""A hundred years: beyond that it is a typing error."""

_DNS_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate shall say. `common_name` becomes etcd's user name where the server takes it from there."""

    profile: Profile
    common_name: str
    organizations: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    days: int | None = None
    key_type: keys.KeyType = keys.KeyType.ECDSA_P256
    subject: x509.Name | None = None
    """Taken as it stands where given, in place of common name and organizations: for renewing what others made."""

    @classmethod
    def again(cls, certificate: x509.Certificate, profile: Profile, days: int) -> Request:
        """What asks for the same names once more. Raises PkiError for a name of a kind that is not issued here."""
        addresses, dns_names = subject_names(certificate)
        return cls(
            profile,
            common_name(certificate.subject),
            addresses=addresses,
            dns_names=dns_names,
            days=days,
            key_type=keys.KeyType.of(certificate.public_key()),
            subject=certificate.subject,
        )

    def check(self) -> None:
        """Raise PkiError for what must not be signed."""
        if self.subject is None:
            _check_common_name(self.common_name)
        _check_days(self.days)
        for organization in self.organizations:
            if not 1 <= len(organization) <= 64:
                raise PkiError(f'--org "{organization}" must have 1 to 64 characters')
        if self.profile.needs_host and not self.addresses and not self.dns_names:
            raise PkiError(
                f"a {self.profile.name} certificate needs at least one --ip or --dns: "
                "clients look only there, not at the common name"
            )
        self.alternative_names()

    def alternative_names(self) -> list[x509.GeneralName]:
        """The subject alternative names, addresses first. Raises PkiError for one that is malformed."""
        names: list[x509.GeneralName] = []
        for address in self.addresses:
            try:
                name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(address))
            except ValueError:
                raise PkiError(f'--ip "{address}" is not an IP address') from None
            if name not in names:
                names.append(name)
        for dns_name in self.dns_names:
            _check_dns_name(dns_name)
            name = x509.DNSName(dns_name)
            if name not in names:
                names.append(name)
        return names


@dataclass(frozen=True, slots=True)
class Names:
    """Whom a certificate shall stand for, as an operator says it; without `common` the file's name stands for it."""

    addresses: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    common: str | None = None
    organizations: tuple[str, ...] = ()

    def request(
        self, profile: Profile, name: str, days: int | None = None, key_type: keys.KeyType = keys.KeyType.ECDSA_P256
    ) -> Request:
        """What asks for a certificate for them. Raises PkiError for what must not be signed."""
        request = Request(
            profile,
            name if self.common is None else self.common,
            self.organizations,
            self.addresses,
            self.dns_names,
            days,
            key_type,
        )
        request.check()
        return request


@dataclass(frozen=True, slots=True)
class Issued:
    """A fresh certificate and its key."""

    certificate: x509.Certificate
    key: keys.PrivateKey = field(repr=False)

    @property
    def authority(self) -> Authority:
        """The same, for one that is a CA."""
        return Authority(self.certificate, self.key)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate with the key that belongs to it."""

    certificate: x509.Certificate
    key: keys.PrivateKey = field(repr=False)

    def check(self, now: datetime.datetime, file: str) -> None:
        """Raise PkiError if it cannot sign: the key is another's, it is no CA, or its time is over. `file` names it."""
        if public_bytes(self.certificate.public_key()) != public_bytes(self.key.public_key()):
            raise PkiError(f"{file}: the CA key does not belong to this certificate")
        if not is_ca(self.certificate):
            raise PkiError(f"{file}: not a CA certificate, so it cannot sign others")
        if self.certificate.not_valid_after_utc <= now:
            raise PkiError(f"{file}: the CA expired at {self.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")

    def issue(
        self, request: Request, now: datetime.datetime, random_bytes: RandomBytes = secrets.token_bytes
    ) -> Issued:
        """Sign a certificate for a new key. It never outlives this CA. Raises PkiError."""
        request.check()
        key = request.key_type.generate()
        return Issued(self.sign(request, key.public_key(), now, random_bytes), key)

    def sign(
        self,
        request: Request,
        public_key: CertificatePublicKeyTypes,
        now: datetime.datetime,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> x509.Certificate:
        """Sign a certificate for a key that somebody else holds. Otherwise as `issue`."""
        request.check()
        path_length = self._path_length_below() if request.profile.is_ca else None
        days = request.profile.days if request.days is None else request.days
        end = min(now + datetime.timedelta(days=days), self.certificate.not_valid_after_utc)
        start = max(now - BACKDATED, self.certificate.not_valid_before_utc)
        builder = _builder(request, public_key, start, end, random_bytes, path_length)
        builder = builder.issuer_name(self.certificate.subject)
        builder = builder.add_extension(self.key_identifier(), critical=False)
        return builder.sign(self.key, keys.signature_hash(self.key))

    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """How what this CA signs refers to its key."""
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            # A CA made elsewhere may have none; the digest of its key is then what others compute too.
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)

    def _path_length_below(self) -> int:
        limit = self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if limit == 0:
            raise PkiError("this CA may sign no further CA (its path length is 0); use the CA above it")
        return 0


def create_root(request: Request, now: datetime.datetime, random_bytes: RandomBytes = secrets.token_bytes) -> Issued:
    """A self-signed CA, which may have intermediate CAs below it. Raises PkiError."""
    request.check()
    key = request.key_type.generate()
    days = request.profile.days if request.days is None else request.days
    end = now + datetime.timedelta(days=days)
    builder = _builder(request, key.public_key(), now - BACKDATED, end, random_bytes, None)
    builder = builder.issuer_name(_subject(request))
    return Issued(builder.sign(key, keys.signature_hash(key)), key)


def _builder(
    request: Request,
    public_key: CertificatePublicKeyTypes,
    start: datetime.datetime,
    end: datetime.datetime,
    random_bytes: RandomBytes,
    path_length: int | None,
) -> x509.CertificateBuilder:
    profile = request.profile
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(request))
        .public_key(public_key)
        .serial_number(new_serial(random_bytes))
        .not_valid_before(start.replace(microsecond=0))
        .not_valid_after(end.replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=profile.is_ca, path_length=path_length), critical=True)
        .add_extension(profile.key_usage(public_key), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if profile.usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.usages), critical=False)
    names = request.alternative_names()
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder


def new_serial(random_bytes: RandomBytes) -> int:
    """159 random bits, the highest set: positive in 20 octets, as RFC 5280 bounds it, and never short."""
    return (int.from_bytes(random_bytes(20), "big") >> 1) | 1 << 158


def _subject(request: Request) -> x509.Name:
    if request.subject is not None:
        return request.subject
    return subject_of(request.common_name, request.organizations or request.profile.organizations)


def subject_of(common_name: str, organizations: Sequence[str]) -> x509.Name:
    """The subject that has these, organizations first."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _check_common_name(name: str) -> None:
    if not 1 <= len(name) <= 64:
        raise PkiError(f'the common name "{name[:80]}" must have 1 to 64 characters')
    if not name.isprintable():
        raise PkiError("the common name holds characters that cannot be printed")


def _check_days(days: int | None) -> None:
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise PkiError(f"--days must be between 1 and {DAYS_MAX}, not {days}")


def _check_dns_name(name: str) -> None:
    bare = name.removeprefix("*.")
    if is_address(name):
        raise PkiError(f'--dns "{name}" is an IP address; use --ip')
    if len(name) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in bare.split(".")):
        raise PkiError(f'--dns "{name}" is not a host name; a wildcard may stand for the first label (*.example.com)')


def is_address(text: str) -> bool:
    """Whether it is an IP address, of either kind."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
