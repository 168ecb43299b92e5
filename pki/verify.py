"""Whether certificates will do what they are there for. Each fault names the file, what about it, and the mend."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography import x509

from pki import files, keys
from pki.errors import PkiError
from pki.inventory import stamp
from pki.reading import alternative_names, is_ca, public_bytes, usages, verifies
from pki.requests import check_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pki.store import Store

DAYS_LEFT_MIN: Final = 14
_OTHERS: Final = 0o077
_WRITERS: Final = 0o022


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    file: str
    about: str
    """The name, URL, usage or date in question."""
    problem: str
    mend: str


@dataclass(frozen=True, slots=True)
class Use:
    """A certificate in its place: what it must be good for. What is None or empty is not looked at."""

    certificate: Path
    key: Path | None = None
    ca: Path | None = None
    crl: Path | None = None
    usages: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    """Each https URL's host must be among the names; 0.0.0.0 and :: stand for any address and are passed over."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """The moment to judge by, and how many days a certificate must have left."""

    now: datetime.datetime
    days_left_min: int = DAYS_LEFT_MIN

    def faults(self, uses: Sequence[Use]) -> list[Fault]:
        """All faults of all uses, each once, in their order."""
        return list(dict.fromkeys(fault for use in uses for fault in self._faults(use)))

    def _faults(self, use: Use) -> Iterator[Fault]:
        yield from _writable(use.certificate)
        try:
            found = files.read_certificates(use.certificate)
        except PkiError as error:
            yield _unreadable(use.certificate, error)
            return
        leaf = found[0]
        yield from self._dates(use.certificate, leaf)
        yield from _usage_faults(use, leaf)
        yield from _name_faults(use, leaf)
        yield from _strength(use.certificate, leaf)
        if use.key is not None:
            yield from _key_faults(use.certificate, use.key, leaf)
        trusted: list[x509.Certificate] = []
        if use.ca is not None:
            try:
                trusted = files.read_certificates(use.ca)
            except PkiError as error:
                yield _unreadable(use.ca, error)
            else:
                yield from self._bundle(use.ca, trusted)
                yield from self._chain(use, found, trusted)
        if use.crl is not None:
            yield from self._revocation(use.crl, found, trusted)

    def _dates(self, path: Path, certificate: x509.Certificate, mend: str = "") -> Iterator[Fault]:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        mend = mend or f"etcdpy pki renew {path.stem}"
        if begin > self.now:
            yield Fault(str(path), stamp(begin), "not valid yet", "set the clock right, or issue it anew")
        elif end <= self.now:
            yield Fault(str(path), stamp(end), "expired", mend)
        elif end - self.now < datetime.timedelta(days=self.days_left_min):
            left = (end - self.now) // datetime.timedelta(days=1)
            yield Fault(str(path), stamp(end), f"expires in {left} days", mend)

    def _bundle(self, path: Path, authorities: Sequence[x509.Certificate]) -> Iterator[Fault]:
        yield from _writable(path)
        for authority in authorities:
            subject = authority.subject.rfc4514_string()
            if not is_ca(authority):
                yield Fault(str(path), subject, "not a CA, and trusted as one", "take it out of the file")
            yield from self._dates(path, authority, "etcdpy pki rotate, or take it out of the file")

    def _chain(
        self, use: Use, found: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]
    ) -> Iterator[Fault]:
        """Walk from the leaf through what its file carries to a trusted one."""
        current = found[0]
        for _ in found:
            if verifies(current, trusted) is not None:
                return
            above = verifies(current, found[1:])
            if above is None:
                break
            yield from self._dates(use.certificate, above, "renew the intermediate, then what it signed")
            current = above
        issuer = current.issuer.rfc4514_string()
        if any(each.subject == current.issuer for each in trusted):
            problem = f"{use.ca} has its issuer's name, but another key"
            mend = "copy the present ca.pem there, or issue the certificate anew"
        else:
            problem = f"not signed by a CA in {use.ca}"
            mend = f"add that CA to {use.ca}, or issue the certificate anew"
        yield Fault(str(use.certificate), issuer, problem, mend)

    def _revocation(
        self, path: Path, found: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]
    ) -> Iterator[Fault]:
        yield from _writable(path)
        try:
            lists = read_crls(path)
        except PkiError as error:
            yield _unreadable(path, error)
            return
        for crl in lists:
            issuer, end = crl.issuer.rfc4514_string(), crl.next_update_utc
            if end is not None and end <= self.now:
                yield Fault(str(path), stamp(end), "the list is out of date", "etcdpy pki crl")
            signers = [each for each in (*found, *trusted) if each.subject == crl.issuer]
            if trusted and not any(_signed(crl, each) for each in signers):
                yield Fault(str(path), issuer, "signed by none of the CAs that are trusted", "etcdpy pki crl")
            for certificate in found:
                if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                    serial = f"{certificate.serial_number:x}"
                    yield Fault(str(path), serial, "the certificate is revoked", "issue it anew, with a new key")


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except TypeError:
        return False  # a key of a kind that signs nothing


def _unreadable(path: Path, error: PkiError) -> Fault:
    text = str(error).removeprefix(f"{path}: ")
    return Fault(str(path), "", text, "put the file there, readable for who starts the member")


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return 0  # what cannot be read is told where it is read


def _writable(path: Path) -> Iterator[Fault]:
    mode = _mode(path)
    if mode & _WRITERS:
        yield Fault(str(path), f"{mode:04o}", "others may change it", f"chmod go-w {path}")


def _open_key(path: Path) -> Iterator[Fault]:
    mode = _mode(path)
    if mode & _OTHERS:
        yield Fault(str(path), f"{mode:04o}", "others may read or change the private key", f"chmod 600 {path}")


def _key_faults(cert_path: Path, path: Path, leaf: x509.Certificate) -> Iterator[Fault]:
    yield from _open_key(path)
    try:
        pem = files.read(path)
        if keys.is_encrypted(pem):
            mend = f"openssl pkey -in {path} -out NEW, and put NEW in its place"
            yield Fault(str(path), "", "encrypted: a member cannot ask for the passphrase", mend)
            return
        own = keys.from_pem(pem, None, str(path)).public_key()
    except PkiError as error:
        yield _unreadable(path, error)
        return
    if public_bytes(own) != public_bytes(leaf.public_key()):
        mend = f"put the key there that {cert_path} was made for, or issue both anew"
        yield Fault(str(path), "", f"the key does not belong to {cert_path}", mend)


def _usage_faults(use: Use, leaf: x509.Certificate) -> Iterator[Fault]:
    if is_ca(leaf):
        yield Fault(str(use.certificate), "", "a CA certificate where one for TLS is needed", "issue one from it")
        return
    named = usages(leaf)
    for usage in use.usages:
        if named and usage not in named:
            profile = "peer" if len(use.usages) > 1 else "server" if usage == "serverAuth" else "client"
            mend = f"issue it with --profile {profile}"
            yield Fault(str(use.certificate), usage, f"only for {', '.join(named)}", mend)


def _name_faults(use: Use, leaf: x509.Certificate) -> Iterator[Fault]:
    dns_names, addresses = alternative_names(leaf)
    for url in use.urls:
        host = urlsplit(url).hostname or ""
        if not names_host(host, dns_names, addresses):
            has = ", ".join((*dns_names, *addresses)) or "no names at all"
            option = "--ip" if _address(host) else "--dns"
            mend = f"issue it anew with {option} {host} beside the names that it has"
            yield Fault(str(use.certificate), url, f"{host} is not among its names ({has})", mend)


def _strength(path: Path, leaf: x509.Certificate) -> Iterator[Fault]:
    try:
        check_key(leaf.public_key(), str(path))
    except PkiError:
        kind = keys.describe_public_key(leaf.public_key())
        yield Fault(str(path), kind, "a key that TLS libraries refuse", "issue it anew with --key-type ecdsa-p256")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def names_host(host: str, dns_names: Sequence[str], addresses: Sequence[str]) -> bool:
    """Whether a client that dials this host accepts these names; true for 0.0.0.0 and ::, which nobody dials."""
    address = _address(host)
    if address is not None:
        return address.is_unspecified or str(address) in addresses
    below = host.partition(".")[2].lower()
    wanted = {host.lower().rstrip("."), f"*.{below}"} if below else {host.lower()}
    return not wanted.isdisjoint(name.lower() for name in dns_names)


def read_crls(path: Path) -> list[x509.CertificateRevocationList]:
    """The lists of a file, one in DER or any number in PEM. Raises PkiError."""
    content = files.read(path)
    ending = b"-----END X509 CRL-----"
    try:
        if b"-----BEGIN X509 CRL-----" in content:
            return [x509.load_pem_x509_crl(block + ending) for block in content.split(ending)[:-1]]
        return [x509.load_der_x509_crl(content)]
    except ValueError:
        raise PkiError(f"{path}: holds no certificate revocation list that can be read") from None


def uses_of_directory(store: Store) -> list[Use]:
    """Everything that is in force in a directory: authorities by what they signed, keys where they lie here."""
    uses = []
    for entry in store.inventory.entries:
        in_force = not entry.replaced_at and not entry.revoked_at and entry.profile != "ca"
        if not in_force or not store.has(entry.name):
            continue
        cert_path, key_path = files.pair_paths(store.directory, entry.name)
        crl = store.directory / f"{entry.ca}.crl"
        profile = store.profiles.get(entry.profile)
        uses.append(
            Use(
                cert_path,
                key_path if key_path.exists() else None,
                files.pair_paths(store.directory, _root_of(store, entry.ca))[0],
                crl if crl.exists() else None,
                profile.usage_names if profile else (),
            )
        )
    return uses


def open_keys(directory: Path) -> list[Fault]:
    """Keys of a directory that others than their owner can get at, those of authorities among them."""
    return [fault for path in sorted(directory.glob("*-key.pem")) for fault in _open_key(path)]


def _root_of(store: Store, ca: str) -> str:
    """The authority at the top of the chain; each name is passed once, whatever an inventory says."""
    for _ in store.inventory.entries:
        above = store.inventory.current(ca)
        if above is None or above.ca == ca:
            break
        ca = above.ca
    return ca
