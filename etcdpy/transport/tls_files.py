"""The files of a TLS listener: noticed when they change, read whole or not at all.

A set of files that belong together (certificate and key; the CA bundle; the CRL) is one `FileSet`. It is asked at each
handshake and costs one stat a file. A changed set that cannot be used is reported once, and the last good one stays.
The three sets stand apart on purpose: a new CRL takes effect even while somebody is halfway through replacing a key.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from etcdpy import limits
from etcdpy.transport.tls_options import TlsConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger("etcdpy.transport.tls")

T = TypeVar("T")

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_KEY_LABEL = b"PRIVATE KEY"
"""As Go does: the first block whose type ends so is the key; blocks such as EC PARAMETERS before it are passed over."""
_CRL_LABEL = b"X509 CRL"

_PUBLIC_FORM = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate, leaf first and then its chain, and the key that belongs to it. The key never shows in a repr."""

    certificates: tuple[x509.Certificate, ...]
    key_pem: bytes = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that the key belongs to."""
        return self.certificates[0]


@dataclass(frozen=True, slots=True)
class RevocationList:
    """The serials of a CRL file, whoever issued it: etcd matches by serial alone."""

    serials: frozenset[int]


class FileSet(Generic[T]):
    """Files that are parsed together; `value` is the last good result.

    `parse` gets the contents in the order of `paths` and raises TlsConfigError for what it cannot use. The first load
    raises; later ones log. `wall_ns` is the clock of the file system's time stamps.
    """

    def __init__(
        self, paths: Sequence[str], parse: Callable[[list[bytes]], T], wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.paths = tuple(paths)
        self._parse = parse
        self._wall_ns = wall_ns
        self._signature: tuple[object, ...] | None = None
        self._signature = self._settled_signature()
        contents = [read_bounded(path) for path in self.paths]
        self._digest: object = _digest(contents)
        self.value = parse(contents)

    def is_stale(self) -> bool:
        """Whether `refresh` would read the files. One stat each."""
        return tuple(_signature(path) for path in self.paths) != self._signature

    def size_bytes(self) -> int:
        """Of all files as they are now."""
        return sum(signature[2] for path in self.paths if len(signature := _signature(path)) > 2)

    def refresh(self) -> bool:
        """Take changed files in. Returns whether `value` is new; a changed set that cannot be used is logged once."""
        if not self.is_stale():
            return False
        # The signature is taken before the content: a write in between shows at the next call.
        self._signature = self._settled_signature()
        try:
            contents = [read_bounded(path) for path in self.paths]
        except TlsConfigError as error:
            self._keep_last_good(str(error), error)
            return False
        digest = _digest(contents)
        if digest == self._digest:
            return False
        try:
            value = self._parse(contents)
        except TlsConfigError as error:
            self._keep_last_good(digest, error)
            return False
        self._digest = digest
        self.value = value
        logger.info("reloaded TLS files", extra={"fields": {"files": list(self.paths)}})
        return True

    def _keep_last_good(self, seen: object, error: TlsConfigError) -> None:
        if seen == self._digest:
            return
        self._digest = seen
        logger.error(
            "failed to reload TLS files; the last good ones stay in use",
            extra={"fields": {"files": list(self.paths), "error": str(error)}},
        )

    def _settled_signature(self) -> tuple[object, ...] | None:
        """The signature, or None (read again next time) while a file is so fresh that a second write may not show."""
        signatures = tuple(_signature(path) for path in self.paths)
        newest_ns = max((signature[1] for signature in signatures if len(signature) > 1), default=0)
        return None if self._wall_ns() - newest_ns < limits.TLS_UNSETTLED_NS else signatures


def _signature(path: str) -> tuple[int, ...]:
    """What a rename over the file or a write into it changes; (errno,) for a file that is not there."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


def _digest(contents: Sequence[bytes]) -> bytes:
    return b"".join(hashlib.sha256(content).digest() for content in contents)


def read_bounded(path: str) -> bytes:
    """The file's bytes. Raises TlsConfigError if it cannot be read or is larger than any certificate file should be."""
    try:
        with open(path, "rb") as file:
            content = file.read(limits.TLS_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise TlsConfigError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    if len(content) > limits.TLS_FILE_BYTES_MAX:
        raise TlsConfigError(f"{path}: larger than {limits.TLS_FILE_BYTES_MAX} bytes")
    return content


def pem_blocks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The type and text of each PEM block, up to the first that has no end. Each byte is looked at a few times at most:
    a pattern takes seconds for thousands of blocks without an end."""
    start = content.find(_BEGIN)
    while start >= 0:
        name_end = content.find(_DASHES, start + len(_BEGIN))
        label = content[start + len(_BEGIN) : name_end]
        ending = _END + label + _DASHES
        end = content.find(ending, name_end)
        if name_end < 0 or end < 0:
            return
        yield label, content[start : end + len(ending)]
        start = content.find(_BEGIN, end)


def parse_authorities(path: str, content: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a CA bundle, which OpenSSL can use. Raises TlsConfigError."""
    certificates = parse_certificates(path, content)
    try:
        trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificates)
    except ssl.SSLError as error:
        raise TlsConfigError(f"{path}: OpenSSL refuses it: {error.reason or error}") from None
    return certificates


def trust(context: ssl.SSLContext, certificates: Sequence[x509.Certificate]) -> None:
    """Let a context trust whatever these have signed. Raises ssl.SSLError. One by one, so that a thread that does it
    for many, 0.4 ms each, lets the loop in between."""
    for certificate in certificates:
        context.load_verify_locations(cadata=certificate.public_bytes(serialization.Encoding.DER))


def parse_certificates(path: str, content: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file. Raises TlsConfigError for none, for a broken one, and for a file cut short."""
    begun = content.count(b"-----BEGIN ")
    if begun != content.count(b"-----END "):
        raise TlsConfigError(f"{path}: cut short (a PEM block has no end)")
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise TlsConfigError(f"{path}: holds no PEM certificate")
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except (ValueError, x509.InvalidVersion) as error:
        raise TlsConfigError(f"{path}: holds a certificate that cannot be read") from error


def parse_key_pair(cert_path: str, key_path: str, contents: Sequence[bytes]) -> KeyPair:
    """Certificate and key, proven to belong together and to load into OpenSSL."""
    certificates = parse_certificates(cert_path, contents[0])
    block = next((each for label, each in pem_blocks(contents[1]) if label.endswith(_KEY_LABEL)), None)
    if block is None:
        raise TlsConfigError(f"{key_path}: holds no PEM private key, or is cut short")
    if b"ENCRYPTED" in block:
        raise TlsConfigError(f"{key_path}: the key is encrypted; a server cannot ask for the passphrase")
    try:
        # Validating an RSA key's primes takes up to 0.1 s; that it fits the certificate is all that is needed here.
        key = serialization.load_pem_private_key(block, None, unsafe_skip_rsa_key_validation=True)
        own = key.public_key().public_bytes(*_PUBLIC_FORM)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # not chained: the cause may speak of the key's bytes
        raise TlsConfigError(f"{key_path}: the private key cannot be read") from None
    try:
        certified = certificates[0].public_key().public_bytes(*_PUBLIC_FORM)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsConfigError(f"{cert_path}: the certificate's public key cannot be read") from error
    if own != certified:
        raise TlsConfigError(f"{key_path}: the key does not belong to the certificate in {cert_path}")
    pair = KeyPair(certificates, block + b"\n")
    try:
        load_key_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    except ssl.SSLError as error:
        raise TlsConfigError(f"{cert_path}: OpenSSL refuses it: {error.reason}") from None
    return pair


def load_key_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Give the pair to OpenSSL, which reads only files: through memory, so that what was checked is what loads."""
    chain = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in pair.certificates)
    memory = os.memfd_create("etcdpy-tls", os.MFD_CLOEXEC)
    with open(memory, "wb") as file:
        file.write(chain + pair.key_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{memory}", password=lambda: b"")


def parse_revocation_list(path: str, content: bytes) -> RevocationList:
    """A CRL in DER, as etcd reads it, or PEM, which etcd does not."""
    try:
        if b"-----BEGIN X509 CRL-----" in content:
            blocks = [block for label, block in pem_blocks(content) if label == _CRL_LABEL]
            if len(blocks) != content.count(_BEGIN):
                raise TlsConfigError(f"{path}: cut short (a PEM block has no end), or holds more than CRLs")
            lists = [x509.load_pem_x509_crl(block) for block in blocks]
        else:
            lists = [x509.load_der_x509_crl(content)]
        return RevocationList(frozenset(entry.serial_number for crl in lists for entry in crl))
    except TlsConfigError:
        raise
    except (ValueError, x509.InvalidVersion) as error:
        raise TlsConfigError(f"{path}: not a certificate revocation list in DER or PEM") from error
