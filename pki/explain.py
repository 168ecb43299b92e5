"""What a certificate is, in words: its role, whom it names, what it fits, and which trap its user is about to meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from pki import files, keys
from pki.errors import PkiError
from pki.reading import alternative_names, days_left, is_ca, is_self_signed, public_bytes, role, usages, verifies

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

DAYS_LEFT_WARNED = 30


@dataclass(frozen=True, slots=True)
class Explanation:
    """One certificate. Texts are ready to print; an empty one means that there is nothing to say."""

    file: str
    position: int
    subject: str
    issuer: str
    role: str
    usages: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    not_before: str
    not_after: str
    days_left: int
    key_type: str
    signature: str
    serial: str
    sha256: str
    sha1: str
    key_beside: str
    chain: str
    traps: tuple[str, ...]


def explain_file(path: Path, now: datetime.datetime) -> list[Explanation]:
    """Every certificate in the file, with what lies beside it. Raises PkiError if the file holds none."""
    certificates = files.read_certificates(path)
    return [_explain(path, at, certificates, now) for at in range(len(certificates))]


def _explain(path: Path, at: int, certificates: Sequence[x509.Certificate], now: datetime.datetime) -> Explanation:
    certificate = certificates[at]
    dns_names, addresses = alternative_names(certificate)
    kind = role(certificate)
    beside, traps = _key_beside(path, certificate) if at == 0 else ("", [])
    chain, chain_traps = _chain(path, at, certificates)
    traps = [*_validity_traps(certificate, now), *_name_traps(certificate, kind, dns_names, addresses), *traps]
    traps += [*chain_traps, *_strength_traps(certificate)]
    return Explanation(
        file=str(path),
        position=at,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        role=kind,
        usages=usages(certificate),
        dns_names=dns_names,
        ip_addresses=addresses,
        not_before=f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        not_after=f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        days_left=days_left(certificate, now),
        key_type=keys.describe_public_key(certificate.public_key()),
        signature=_signature(certificate),
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":"),
        sha1=certificate.fingerprint(hashes.SHA1()).hex(":"),  # noqa: S303  # only a name that other tools print
        key_beside=beside,
        chain=chain,
        traps=tuple(traps),
    )


def _signature(certificate: x509.Certificate) -> str:
    digest = certificate.signature_hash_algorithm
    return digest.name.upper() if digest is not None else "Ed25519"


# --- what lies beside ---


def _key_candidates(path: Path) -> list[Path]:
    if path.suffix == ".pem":
        names = [f"{path.stem}-key.pem", f"{path.stem}.key"] + (["key.pem"] if path.stem == "cert" else [])
    else:
        names = [f"{path.stem}.key"]
    return [path.with_name(name) for name in names]


def _key_beside(path: Path, certificate: x509.Certificate) -> tuple[str, list[str]]:
    for key_path in _key_candidates(path):
        if not key_path.is_file():
            continue
        traps = []
        if key_path.stat().st_mode & 0o077:
            traps.append(f"{key_path.name} can be read by others: chmod 600")
        try:
            pem = files.read(key_path)
            if keys.is_encrypted(pem):
                if not is_ca(certificate):
                    traps.append(f"{key_path.name} is encrypted: no server can load it")
                return f"{key_path.name} (encrypted, not compared)", traps
            matches = public_bytes(keys.from_pem(pem, None, key_path.name).public_key()) == public_bytes(
                certificate.public_key()
            )
        except PkiError as error:
            return str(error), traps
        if matches:
            return f"{key_path.name} matches", traps
        return f"{key_path.name} DOES NOT MATCH", [f"{key_path.name} belongs to another certificate", *traps]
    return "", []


def _chain(path: Path, at: int, certificates: Sequence[x509.Certificate]) -> tuple[str, list[str]]:
    """Whether the chain that a server would send from this file ends at the ca.pem (kubeadm: ca.crt) beside it."""
    certificate = certificates[at]
    if is_self_signed(certificate):
        return "self-signed", []
    beside = [path.with_name(name) for name in ("ca.pem", "ca.crt")]
    ca_path = next((each for each in beside if each.is_file() and each != path), None)
    if ca_path is None:
        return "", []
    try:
        trusted = files.read_certificates(ca_path)
    except PkiError as error:
        return str(error), []
    used = 0
    current = certificate
    while used <= len(certificates):
        if verifies(current, trusted) is not None:
            return f"chains to {ca_path.name}", []
        above = verifies(current, certificates[at + 1 :])
        if above is None:
            break
        current, used = above, used + 1
    if any(authority.subject == current.issuer for authority in trusted):
        trap = f"{ca_path.name} beside it has the issuer's name but another key: was the CA made anew?"
    else:
        trap = f'{ca_path.name} beside it is not its CA; the missing issuer is "{current.issuer.rfc4514_string()}"'
    return f"DOES NOT CHAIN to {ca_path.name}", [trap]


# --- traps ---


def _validity_traps(certificate: x509.Certificate, now: datetime.datetime) -> list[str]:
    if certificate.not_valid_before_utc > now:
        return ["not valid yet: is a clock wrong?"]
    left = days_left(certificate, now)
    if certificate.not_valid_after_utc <= now:
        return ["expired"]
    return [f"expires in {left} days"] if left < DAYS_LEFT_WARNED else []


def _name_traps(
    certificate: x509.Certificate, role: str, dns_names: Sequence[str], addresses: Sequence[str]
) -> list[str]:
    traps = []
    if role in ("server", "peer"):
        if not dns_names and not addresses:
            common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            also = " (the common name alone does not count)" if common else ""
            traps.append(f"no subject alternative name: every client refuses it{also}")
        elif "localhost" not in dns_names and not {"127.0.0.1", "::1"} & set(addresses):
            traps.append("neither localhost nor 127.0.0.1 is named: tools on the host itself must dial another name")
        if any(name.startswith("*.") for name in dns_names):
            traps.append("a wildcard stands for exactly one label")
    if role == "server":
        traps.append("no clientAuth: real etcd's gateway under client-cert-auth needs --client-cert-file beside it")
    if role == "none":
        traps.append("its extended key usages allow neither server nor client authentication")
    return traps


def _strength_traps(certificate: x509.Certificate) -> list[str]:
    traps = []
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        traps.append(f"RSA with {key.key_size} bits is refused by current TLS libraries")
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        traps.append("signed with a digest that current TLS libraries refuse")
    return traps
