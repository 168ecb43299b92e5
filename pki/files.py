"""Files of certificates and keys: written whole or not at all, keys for the owner alone."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509

from pki.errors import PkiError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644
DIRECTORY_MODE = 0o700

FILE_BYTES_MAX = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written. The content never shows in a repr."""

    path: Path
    content: bytes = field(repr=False)
    mode: int = CERTIFICATE_MODE


def pair_paths(directory: Path, name: str) -> tuple[Path, Path]:
    """(certificate, key) in the classic layout of cfssl: `NAME.pem`, `NAME-key.pem`."""
    if not name or name in (".", "..") or "/" in name or "\0" in name or name.startswith("-"):
        raise PkiError(f'"{name}" cannot be a file name')
    return directory / f"{name}.pem", directory / f"{name}-key.pem"


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raise PkiError if any of the files is there already. Asked before a key is made and a passphrase typed."""
    for path in paths:
        if os.path.lexists(path):
            raise PkiError(f"{path} already exists; --force replaces it")


def write_all(files: Sequence[NewFile], *, force: bool) -> None:
    """Write the files, each through a temporary one beside it, in the order given.

    All contents are on disk before the first name appears, so a full disk changes nothing. A crash between two renames
    leaves whole files, an old one beside a new one at worst; put the key first, so that a server sees a pair that
    does not match, keeps its last good one, and takes the new pair when the certificate follows.
    """
    if not force:
        refuse_existing([file.path for file in files])
    written: list[tuple[Path, Path]] = []
    try:
        for file in files:
            _make_directory(file.path.parent)
            beside = file.path.with_name(f".{file.path.name}.{secrets.token_hex(6)}.tmp")
            written.append((beside, file.path))
            _write(beside, file.content, file.mode)
        for beside, path in written:
            if force:
                os.replace(beside, path)
            else:
                # Unlike a rename, a link refuses a file that appeared meanwhile.
                os.link(beside, path)
                beside.unlink()
        for directory in dict.fromkeys(path.parent for _, path in written):
            _sync_directory(directory)
    except FileExistsError as error:
        raise PkiError(f"{error.filename2 or error.filename} already exists; --force replaces it") from None
    except OSError as error:
        raise PkiError(f"{error.filename2 or error.filename}: {error.strerror}") from None
    finally:
        for beside, _ in written:
            beside.unlink(missing_ok=True)


def _make_directory(directory: Path) -> None:
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, KEY_MODE)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(descriptor, mode)  # after the content, and against the umask
        os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> bytes:
    """The file's bytes, or PkiError."""
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise PkiError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    if len(content) > FILE_BYTES_MAX:
        raise PkiError(f"{path}: too large for a certificate or key")
    return content


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a PEM file, or the one of a DER file. Raises PkiError if there is none."""
    content = read(path)
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            return x509.load_pem_x509_certificates(content)
        if content[:1] == b"\x30":
            return [x509.load_der_x509_certificate(content)]
    except ValueError:
        raise PkiError(f"{path}: holds a certificate that cannot be read") from None
    if b"PRIVATE KEY-----" in content:
        raise PkiError(f"{path}: holds a private key and no certificate")
    raise PkiError(f"{path}: holds no certificate")
