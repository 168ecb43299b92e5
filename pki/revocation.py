"""Revocation: which certificates are no longer to be trusted, and the lists that say so (RFC 5280, section 5)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki import files, keys
from pki.errors import PkiError
from pki.inventory import moment_of, stamp
from pki.profiles import BACKDATED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pki.inventory import Entry
    from pki.store import Signer, Store

CRL_DAYS: Final = 30
RENEWED_PART: Final = 3
"""A list is made anew when less than a third of its time is left, or when it lacks a revocation."""

REASONS: Final = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
)
"""Why a leaf may be revoked, by the names that OpenSSL takes and prints."""


@dataclass(frozen=True, slots=True)
class CrlMade:
    """A list, for the printers."""

    ca: str
    pem: str
    der: str
    number: int
    revoked: int
    next_update: str
    changed: bool


def crl_paths(directory: Path, ca: str) -> tuple[Path, Path]:
    """(PEM, DER) of an authority's list. Real etcd reads DER alone."""
    return directory / f"{ca}-crl.pem", directory / f"{ca}.crl"


def choose(store: Store, name: str, *, serial: str = "", replaced: bool = False) -> list[Entry]:
    """The certificates that are meant: all of a name that still count, only its replaced ones, or the one of a serial.

    Raises PkiError if there is none.
    """
    if serial:
        wanted = serial.lower().replace(":", "").lstrip("0")
        found = [each for each in store.inventory.entries if each.serial == wanted]
        missing = f"no certificate has the serial {serial}"
    else:
        found = [each for each in store.inventory.entries if each.name == name and not each.expired(store.now)]
        if replaced:
            found = [each for each in found if each.replaced_at]
        missing = f'there is no{" replaced" if replaced else ""} certificate "{name}" that is still valid'
    if not found:
        raise PkiError(f"{store.directory}: {missing}")
    if any(each.ca == each.name for each in found):
        raise PkiError(f"{found[0].name}: nobody looks up whether a root is revoked; replace it with `rotate`")
    return found


def revocation_list(
    signer: Signer, entries: Sequence[Entry], number: int, now: datetime.datetime, days: int
) -> x509.CertificateRevocationList:
    """The signed list of those of `entries` that are revoked.

    Members look for the serial alone, whoever signed it, as etcd does. So what an authority of this name signed with
    its former key is on the list too, and stays refused while a rotation lasts.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.authority.certificate.subject)
        .last_update((now - BACKDATED).replace(microsecond=0))
        .next_update((now + datetime.timedelta(days=days)).replace(microsecond=0))
        .add_extension(signer.authority.key_identifier(), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for entry in entries:
        item = x509.RevokedCertificateBuilder().serial_number(int(entry.serial, 16))
        item = item.revocation_date(moment_of(entry.revoked_at))
        if entry.reason not in ("", REASONS[0]):
            item = item.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason)), critical=False)
        builder = builder.add_revoked_certificate(item.build())
    return builder.sign(signer.authority.key, keys.signature_hash(signer.authority.key))


def write_crl(store: Store, signer: Signer, *, days: int = CRL_DAYS, force: bool = False) -> CrlMade:
    """Write an authority's list in both forms, and the inventory, in one go. Raises PkiError.

    A list that is right and has more than a third of its time left stays, unless forced.
    """
    entries = _revoked(store, signer.name)
    pem_path, der_path = crl_paths(store.directory, signer.name)
    present = _present(pem_path, der_path)
    if present is not None and not force and _still_good(present, signer, entries, store.now):
        return _made(signer.name, pem_path, der_path, present, changed=False)
    number = store.inventory.next_crl_number(signer.name)
    crl = revocation_list(signer, entries, number, store.now, days)
    files.write_all(
        [
            store.inventory_file(),
            files.NewFile(der_path, crl.public_bytes(Encoding.DER), replaces=True),
            files.NewFile(pem_path, crl.public_bytes(Encoding.PEM), replaces=True),
        ],
        force=True,
    )
    return _made(signer.name, pem_path, der_path, crl, changed=True)


def _revoked(store: Store, ca: str) -> list[Entry]:
    """A revocation stays listed for a while after its certificate expired: for clocks that lag, and lists not seen."""
    grace = datetime.timedelta(days=CRL_DAYS)
    mine = [each for each in store.inventory.entries if each.ca == ca and each.revoked_at]
    return [each for each in mine if moment_of(each.not_after) + grace > store.now]


def _made(ca: str, pem: Path, der: Path, crl: x509.CertificateRevocationList, *, changed: bool) -> CrlMade:
    end = crl.next_update_utc
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    return CrlMade(ca, str(pem), str(der), number, len(crl), stamp(end) if end else "", changed)


def _present(pem_path: Path, der_path: Path) -> x509.CertificateRevocationList | None:
    """The list that both files hold; None if they do not, or hold none of ours."""
    if not pem_path.exists() or not der_path.exists():
        return None
    try:
        pem, der = x509.load_pem_x509_crl(files.read(pem_path)), x509.load_der_x509_crl(files.read(der_path))
        der.extensions.get_extension_for_class(x509.CRLNumber)
    except (ValueError, x509.ExtensionNotFound):
        return None
    return der if pem == der else None


def _still_good(
    crl: x509.CertificateRevocationList, signer: Signer, entries: Sequence[Entry], now: datetime.datetime
) -> bool:
    end, begin = crl.next_update_utc, crl.last_update_utc
    listed = {f"{each.serial_number:x}" for each in crl}
    return (
        end is not None
        and end - now > (end - begin) / RENEWED_PART
        and listed == {each.serial for each in entries}
        and crl.is_signature_valid(signer.authority.certificate.public_key())  # type: ignore[arg-type]
    )
