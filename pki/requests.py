"""Signing requests: a node makes its key and asks; the key stays there, the request and the certificate travel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki import files, keys
from pki.authority import Request, subject_of
from pki.errors import PkiError
from pki.reading import common_name, is_ca, public_bytes, subject_names, verifies
from pki.renewal import GAIN_MIN, why_ending

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from pki.authority import Names
    from pki.profiles import Profile

RSA_BITS_MIN = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def make_csr(request: Request, key: keys.PrivateKey) -> bytes:
    """A request in PEM, signed by the key that it is for. Raises PkiError for names that nobody would sign."""
    request.check()
    builder = x509.CertificateSigningRequestBuilder(subject_of(request.common_name, request.organizations))
    names = request.alternative_names()
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, keys.signature_hash(key)).public_bytes(Encoding.PEM)


def read_csr(path: Path) -> x509.CertificateSigningRequest:
    """The request in a PEM or DER file, proven to come from who holds its key. Raises PkiError."""
    return parse_csr(files.read(path), str(path))


def parse_csr(content: bytes, origin: str) -> x509.CertificateSigningRequest:
    """As `read_csr`, of what a file would hold; `origin` is where errors say that it comes from."""
    if b"PRIVATE KEY-----" in content:
        raise PkiError(f"{origin}: holds a private key; those stay where they were made")
    try:
        pem = b"-----BEGIN " in content
        csr = x509.load_pem_x509_csr(content) if pem else x509.load_der_x509_csr(content)
        signed = csr.is_signature_valid
    except (ValueError, TypeError):
        raise PkiError(f"{origin}: holds no certificate signing request that can be read") from None
    if not signed:
        raise PkiError(f"{origin}: the request was not signed by the key that it names")
    check_key(csr.public_key(), origin)
    return csr


def check_key(key: CertificatePublicKeyTypes, file: str) -> None:
    """Raise PkiError for a key that TLS libraries refuse, or that is too weak to vouch for."""
    strong = (
        isinstance(key, ed25519.Ed25519PublicKey)
        or (isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN)
        or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES))
    )
    if not strong:
        raise PkiError(f"{file}: a key of this kind ({keys.describe_public_key(key)}) is not signed here")


def request_of(
    csr: x509.CertificateSigningRequest, profile: Profile, names: Names, *, file: str, days: int | None = None
) -> Request:
    """What is signed for a request: the names that it asks for, or those that the operator gives in their place.

    Of the rest of a request nothing counts: usages and validity come from the profile. Raises PkiError.
    """
    _refuse_authority(csr, profile, file)
    if not names.addresses and not names.dns_names:
        addresses, dns_names = _names(csr, file)
        names = dataclasses.replace(names, addresses=addresses, dns_names=dns_names)
    if not names.organizations:
        asked = csr.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        names = dataclasses.replace(names, organizations=tuple(str(each.value) for each in asked))
    return names.request(profile, common_name(csr.subject), days)


def _names(csr: x509.CertificateSigningRequest, file: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return subject_names(csr)
    except (PkiError, ValueError) as error:
        raise PkiError(f"{file}: {error}") from None


def _refuse_authority(csr: x509.CertificateSigningRequest, profile: Profile, file: str) -> None:
    try:
        wants_ca = csr.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return
    except ValueError:
        raise PkiError(f"{file}: holds an extension that cannot be read") from None
    if wants_ca and not profile.is_ca:
        raise PkiError(f"{file}: asks to be a CA; only --profile ca signs that")


# --- on the node ---


def pending_key_path(directory: Path, name: str) -> Path:
    """Where a new key waits for its certificate, so that the pair in use stays whole."""
    return directory / f"{name}-next-key.pem"


def ensure_key(directory: Path, name: str, key_type: keys.KeyType, *, new_key: bool) -> tuple[Path, keys.PrivateKey]:
    """The key that a request is made for: the one that is there, or a new one. Raises PkiError.

    With `new_key` a new one is made beside that in use; it waits for `accept`, and is the same however often one asks.
    """
    own = files.pair_paths(directory, name)[1]
    path = pending_key_path(directory, name) if new_key and own.exists() else own
    if path.exists():
        return path, keys.from_pem(files.read(path), None, str(path))
    key = key_type.generate()
    files.write_all([files.NewFile(path, keys.to_pem(key), files.KEY_MODE)], force=False)
    return path, key


def ask(directory: Path, name: str, request: Request, key_type: keys.KeyType, *, new_key: bool) -> tuple[Path, Path]:
    """The request NAME.csr, made unless it is there already, and the key that it is for. Raises PkiError."""
    path = files.pair_paths(directory, name)[0].with_suffix(".csr")
    key_path, key = ensure_key(directory, name, key_type, new_key=new_key)
    if not asks_the_same(path, request, key):
        files.write_all([files.NewFile(path, make_csr(request, key))], force=True)
    return path, key_path


def asks_the_same(path: Path, request: Request, key: keys.PrivateKey) -> bool:
    """Whether the request in a file is for this key and these names already: ECDSA never signs twice alike."""
    if not path.exists():
        return False
    try:
        there = read_csr(path)
        names = there.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except (PkiError, ValueError):
        return False
    own = public_bytes(there.public_key()) == public_bytes(key.public_key())
    subject = subject_of(request.common_name, request.organizations)
    return own and there.subject == subject and list(names) == request.alternative_names()


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A certificate that a node should ask for, and why."""

    name: str
    why: str


def all_due(
    directory: Path,
    names: Sequence[str],
    trusted: Sequence[x509.Certificate],
    now: datetime.datetime,
    within_days: int | None = None,
) -> list[Due]:
    """Which of these a node should ask for anew, judged by what lies there. Of authorities, one or more in a file, only
    the dates count. Raises PkiError for what cannot be a name."""
    found = ((name, _why_due(directory, name, trusted, now, within_days)) for name in dict.fromkeys(names))
    return [Due(name, why) for name, why in found if why]


def _why_due(
    directory: Path,
    name: str,
    trusted: Sequence[x509.Certificate],
    now: datetime.datetime,
    within_days: int | None,
) -> str:
    cert_path, key_path = files.pair_paths(directory, name)
    if not cert_path.exists():
        return "not there"
    try:
        found = files.read_certificates(cert_path)
        if is_ca(found[0]):
            return next(filter(None, (_why_ending(each, now, within_days) for each in found)), "")
    except PkiError as error:
        return str(error)
    if not _fits(key_path, found[0]):
        return "no key that fits it is there"
    if not _chains(found, trusted):
        return "not signed by the CA that is trusted here"
    above = verifies(found[0], [*found[1:], *trusted])
    assert above is not None
    gain = above.not_valid_after_utc - found[0].not_valid_after_utc
    # What ends with its authority gets no more from it: it would be made again at every run.
    return _why_ending(found[0], now, within_days if gain >= GAIN_MIN else 0)


def _why_ending(certificate: x509.Certificate, now: datetime.datetime, within_days: int | None) -> str:
    return why_ending(certificate.not_valid_before_utc, certificate.not_valid_after_utc, now, within_days)


def accept(
    directory: Path,
    name: str,
    certificates: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    *,
    origin: str,
) -> list[Path]:
    """Put a signed certificate into place, and with it the key that it was signed for; returns what was written.

    Raises PkiError if it belongs to no key of that name, or was not signed by one of `trusted`. A certificate that is
    there already is not written again. `origin` is where errors say that the certificate comes from.
    """
    cert_path, key_path = files.pair_paths(directory, name)
    if not _chains(certificates, trusted):
        raise PkiError(f"{origin}: not signed by the CA that is trusted here")
    pending = pending_key_path(directory, name)
    owner = next((path for path in (key_path, pending) if _fits(path, certificates[0])), None)
    if owner is None:
        raise PkiError(f"{origin}: belongs to no key of {name} in {directory}; make a request with `csr`")
    chain = files.to_pem(certificates)
    written = []
    if owner is pending:
        written.append(files.NewFile(key_path, files.read(pending), files.KEY_MODE))
    if not cert_path.exists() or files.read(cert_path) != chain:
        written.append(files.NewFile(cert_path, chain))
    files.write_all(written, force=True)
    if _fits(pending, certificates[0]):  # also what a run left behind that was cut off after its renames
        pending.unlink()
    return [each.path for each in written]


def _fits(path: Path, certificate: x509.Certificate) -> bool:
    """False too for a key that cannot be read: another takes its place."""
    try:
        own = keys.from_pem(files.read(path), None, str(path)).public_key()
    except PkiError:
        return False
    return public_bytes(own) == public_bytes(certificate.public_key())


def _chains(certificates: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> bool:
    """Whether the first one leads to a trusted one through those behind it."""
    current = certificates[0]
    for _ in certificates:
        if verifies(current, trusted) is not None:
            return True
        above = verifies(current, certificates[1:])
        if above is None:
            return False
        current = above
    return False
