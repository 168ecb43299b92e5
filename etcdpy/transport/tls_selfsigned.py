"""`--auto-tls`: a certificate that the server makes for itself, in etcd's place and under etcd's names.

It encrypts and proves nothing about who serves. etcd uses it for ever once made; ours is made anew when it has expired
or cannot be used.
"""

from __future__ import annotations

import datetime
import ipaddress
import logging
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from etcdpy.transport.tls_files import parse_key_pair, read_bounded
from etcdpy.transport.tls_options import TlsConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger("etcdpy.transport.tls")


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """Where the pair lies, until when it holds (Unix seconds), and whether this call made it."""

    cert_file: str
    key_file: str
    not_after: float
    created: bool


def self_signed_pair(
    data_dir: str, role: Literal["client", "peer", "proxy"], hosts: Sequence[str], validity_years: int
) -> tuple[str, str]:
    """Where certificate and key of a listener lie that has none given, in etcd's place. Raises TlsConfigError."""
    folder = Path(data_dir) / "fixtures" / role
    made = ensure_self_signed(folder, hosts, validity_years, client_usage=role == "peer")
    return made.cert_file, made.key_file


def ensure_self_signed(
    directory: str | os.PathLike[str],
    hosts: Sequence[str],
    validity_years: int,
    *,
    client_usage: bool = False,
    now: Callable[[], float] = time.time,
) -> SelfSigned:
    """Use the pair in `directory` (etcd: `<data-dir>/fixtures/client`), or make one for `hosts`.

    A host is "host:port" or "host". `validity_years` counts years of 365 days, as --self-signed-cert-validity does.
    `client_usage` adds client authentication, which peers need. Raises TlsConfigError.
    """
    if validity_years <= 0:
        raise TlsConfigError("selfSignedCertValidity is invalid,it should be greater than 0")
    folder = Path(directory).absolute()
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    moment = datetime.datetime.fromtimestamp(now(), datetime.UTC).replace(microsecond=0)
    not_after, trouble = _usable(cert_path, key_path, moment)
    if not_after is not None:
        return SelfSigned(str(cert_path), str(key_path), not_after.timestamp(), created=False)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, hosts, moment, datetime.timedelta(days=365 * validity_years), client_usage)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pkcs8 = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _replace(key_path, pkcs8, 0o600)
        _replace(cert_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise TlsConfigError(f"auto-tls: cannot write to {folder}: {error.strerror}") from error
    until = certificate.not_valid_after_utc
    logger.warning(
        "automatically generate certificates",
        extra={
            "fields": {
                "certificate-validity-bound-not-after": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "path": str(cert_path),
                "reason": trouble,
            }
        },
    )
    return SelfSigned(str(cert_path), str(key_path), until.timestamp(), created=True)


def _usable(cert_path: Path, key_path: Path, moment: datetime.datetime) -> tuple[datetime.datetime | None, str]:
    """(end of validity, "") of a pair that serves, or (None, why not)."""
    if not cert_path.exists() and not key_path.exists():
        return None, "there is none yet"
    try:
        contents = [read_bounded(str(cert_path)), read_bounded(str(key_path))]
        leaf = parse_key_pair(str(cert_path), str(key_path), contents).leaf
    except TlsConfigError as error:
        # A crash between the two renames leaves a pair that does not match; nobody relies on its identity.
        return None, str(error)
    until = leaf.not_valid_after_utc
    if until <= moment:
        return None, f"the old one expired at {until.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return until, ""


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    moment: datetime.datetime,
    validity: datetime.timedelta,
    client_usage: bool,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] + ([ExtendedKeyUsageOID.CLIENT_AUTH] if client_usage else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(158) | 1 << 158)
        .not_valid_before(moment - datetime.timedelta(minutes=5))
        .not_valid_after(moment + validity)
        # A CA, as etcd makes it: OpenSSL's clients take a self-signed certificate as their --cacert only then.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    names = _general_names(hosts)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        bare = _without_port(host)
        if not bare:
            continue
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(bare))
        except ValueError:
            name = x509.DNSName(bare)
        if name not in names:
            names.append(name)
    return names


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.rsplit(":", 1)[0] if host.count(":") == 1 else host


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write beside `path` and rename over it, so that a crash leaves the old file or the new one, whole."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
