"""A directory with authorities, their inventory and what they issue, held under its lock while anything changes.

NAME.pem  NAME-key.pem   certificate (with the chain above it) and key; a key that was made elsewhere is not there
CA.crl    CA-crl.pem     the authority's revocation list
inventory.json           what was issued
profiles.toml            profiles of the operator's own, if any
CA-rotation.json         a change of authority that is under way
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pki import files, inventory, keys
from pki.authority import Authority
from pki.errors import PkiError
from pki.inventory import Entry, Inventory, days_asked_for
from pki.profiles import PROFILES, Profile, parse_profiles
from pki.reading import is_ca, is_self_signed, role, verifies

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from pki.authority import Request

PROFILES_FILE: Final = "profiles.toml"


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """How to come by the key of an authority: its passphrase is asked for only if it is encrypted."""

    passphrase: Callable[[], bytes] = field(repr=False)
    path: Path | None = None
    """Where the key lies, if not beside its certificate: on a medium that is put in for signing alone."""


NO_KEY: Final = KeyAccess(lambda: b"")
"""For those who sign nothing."""


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority that can sign, and what a certificate of it carries along: itself and those above, but no root."""

    name: str
    authority: Authority
    chain: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate that was written, for the printers."""

    name: str
    profile: str
    certificate: str
    key: str
    serial: str
    not_after: str
    names: tuple[str, ...]


class Store:
    """An open directory. `now` is the moment of this run."""

    def __init__(self, directory: Path, now: datetime.datetime) -> None:
        self.directory = directory
        self.now = now
        self.profiles = read_profiles(directory)
        self.inventory = read_inventory(directory)

    @classmethod
    @contextlib.contextmanager
    def locked(cls, directory: Path, now: datetime.datetime) -> Iterator[Store]:
        """Open a directory and hold it against other runs; it is made if it is not there."""
        with files.locked(directory):
            yield cls(directory, now)

    # --- what is there ---

    def has(self, name: str) -> bool:
        """Whether there is a certificate of that name."""
        return files.pair_paths(self.directory, name)[0].exists()

    def certificates(self, name: str) -> list[x509.Certificate]:
        """The certificates in NAME.pem, its own first. Raises PkiError."""
        return files.read_certificates(files.pair_paths(self.directory, name)[0])

    def key(self, name: str, access: KeyAccess) -> tuple[keys.PrivateKey, bytes | None]:
        """An authority's key and the passphrase that it took. Raises PkiError."""
        key_path = access.path or files.pair_paths(self.directory, name)[1]
        pem = files.read(key_path)
        passphrase = access.passphrase() if keys.is_encrypted(pem) else None
        return keys.from_pem(pem, passphrase, str(key_path)), passphrase

    def signer(self, name: str, access: KeyAccess) -> Signer:
        """The authority of that name, ready to sign. Raises PkiError."""
        cert_path, key_path = files.pair_paths(self.directory, name)
        if not cert_path.exists() and not key_path.exists():
            raise PkiError(f"{cert_path}: there is no CA; make one with `etcdpy pki init --dir {self.directory}`")
        found = files.read_certificates(cert_path)
        key, _ = self.key(name, access)
        authority = Authority(found[0], key)
        authority.check(self.now, str(cert_path))
        return Signer(name, authority, tuple(each for each in found if not is_self_signed(each)))

    def signer_name(self, given: str | None, profile: str, name: str) -> str:
        """The authority that signs `name`: the given one, or the profile's. Raises PkiError if that is itself."""
        chosen = given or self.inventory.signer_of(profile)
        if chosen == name:
            raise PkiError(f'"{name}" is the CA that signs; choose another name')
        return chosen

    # --- what changes ---

    def sign(
        self,
        name: str,
        request: Request,
        signer: Signer,
        public_key: CertificatePublicKeyTypes,
        *,
        days: int | None = None,
        force: bool = False,
    ) -> tuple[Made, x509.Certificate]:
        """Write a certificate for a key that is elsewhere, and its entry. Raises PkiError."""
        signed = signer.authority.sign(request, public_key, self.now)
        wanted = request.profile.days if days is None else days
        return self.put(name, request.profile, signer, signed, None, days=wanted, force=force), signed

    def put(
        self,
        name: str,
        profile: Profile,
        signer: Signer | None,
        certificate: x509.Certificate,
        key: keys.PrivateKey | None,
        *,
        days: int,
        passphrase: bytes | None = None,
        force: bool = False,
    ) -> Made:
        """Write a certificate with its chain, its key if it was made here, and the entry for both. Raises PkiError.

        `signer` is None for a root.
        """
        cert_path, key_path = files.pair_paths(self.directory, name)
        ca, above = (name, certificate) if signer is None else (signer.name, signer.authority.certificate)
        entry = Entry.of(certificate, name, profile.name, ca, above, days)
        self.inventory.add(entry, self.now)
        written = [self.inventory_file()]
        if key is not None:
            written.append(files.NewFile(key_path, keys.to_pem(key, passphrase), files.KEY_MODE))
        chain = () if signer is None else signer.chain
        written.append(files.NewFile(cert_path, files.to_pem([certificate, *chain])))
        files.write_all(written, force=force)
        key_text = str(key_path) if key is not None else ""
        return Made(name, profile.name, str(cert_path), key_text, entry.serial, entry.not_after, entry.names)

    def save(self) -> None:
        """Write the inventory alone."""
        files.write_all([self.inventory_file()], force=True)

    def inventory_file(self) -> files.NewFile:
        """The inventory, to be written beside other files."""
        return files.NewFile(self.directory / inventory.FILE_NAME, self.inventory.to_json(), replaces=True)


def read_profiles(directory: Path) -> dict[str, Profile]:
    """The profiles of a directory: the built-in ones, and those of its profiles.toml. Raises PkiError."""
    path = directory / PROFILES_FILE
    return parse_profiles(files.read(path), str(path)) if path.exists() else dict(PROFILES)


def read_inventory(directory: Path) -> Inventory:
    """The inventory of a directory. Where there is none, what lies there is taken in: it may be older, or cfssl's."""
    path = directory / inventory.FILE_NAME
    if path.exists():
        return inventory.parse_inventory(files.read(path, inventory.FILE_BYTES_MAX), path)
    return Inventory([entry for _, entry in sorted(_found(directory))])


def _found(directory: Path) -> Iterator[tuple[tuple[bool, str], Entry]]:
    """Entries for the certificates that lie in a directory and were signed there, authorities first."""
    if not directory.is_dir():
        return
    first = {path.stem: found[0] for path in sorted(directory.glob("*.pem")) if (found := _certificates(path))}
    authorities = {name: each for name, each in first.items() if is_ca(each)}
    for name, certificate in first.items():
        signer = verifies(certificate, list(authorities.values()))
        if signer is not None:
            ca = next(each for each, authority in authorities.items() if authority is signer)
            profile = "ca" if is_ca(certificate) else role(certificate)
            known = profile if profile in PROFILES else "peer"
            days = days_asked_for(certificate)
            yield (known != "ca", name), Entry.of(certificate, name, known, ca, signer, days)


def _certificates(path: Path) -> Sequence[x509.Certificate]:
    try:
        return files.read_certificates(path)
    except PkiError:
        return ()  # a key, or nothing of ours
