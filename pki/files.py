"""Files of certificates and keys: written whole or not at all, keys for the owner alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import PkiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644
DIRECTORY_MODE = 0o700

FILE_BYTES_MAX = 8 * 1024 * 1024

LOCK_SECONDS_MAX = 30.0
"""How long a run waits for another: scripts that issue side by side take turns, a forgotten prompt is told."""
LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written. The content never shows in a repr."""

    path: Path
    content: bytes = field(repr=False)
    mode: int = CERTIFICATE_MODE
    replaces: bool = False
    """Whether an older one is replaced without a question, as with lists that grow."""


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
        refuse_existing([file.path for file in files if not file.replaces])
    written: list[tuple[Path, NewFile]] = []
    try:
        for file in files:
            _make_directory(file.path.parent)
            beside = file.path.with_name(f".{file.path.name}.{secrets.token_hex(6)}.tmp")
            written.append((beside, file))
            _write(beside, file)
        for beside, file in written:
            if force or file.replaces:
                os.replace(beside, file.path)
            else:
                # Unlike a rename, a link refuses a file that appeared meanwhile.
                os.link(beside, file.path)
                beside.unlink()
        for directory in dict.fromkeys(file.path.parent for _, file in written):
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


def _write(path: Path, new: NewFile) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, KEY_MODE)
    with open(descriptor, "wb") as file:
        file.write(new.content)
        file.flush()
        os.fchmod(descriptor, new.mode)  # after the content, and against the umask
        _keep_owner(descriptor, new.path)
        os.fsync(descriptor)


def _keep_owner(descriptor: int, replaced: Path) -> None:
    """What root puts in the place of a member's file is the member's too: it takes the new one at its next handshake,
    or at a start, and must be able to read it from the first moment."""
    if os.geteuid() != 0:
        return
    try:
        there = replaced.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(there.st_mode):
        os.fchown(descriptor, there.st_uid, there.st_gid)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(directory: Path, *, seconds_max: float = LOCK_SECONDS_MAX) -> Iterator[None]:
    """Hold the directory against other runs; makes it if need be. Raises PkiError when another keeps it too long."""
    try:
        _make_directory(directory)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PkiError(f"{directory}: {(error.strerror or 'cannot be opened').lower()}") from None
    try:
        deadline = time.monotonic() + seconds_max
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise PkiError(f"{directory}: another run of pki works on it; try again when that has ended")
            time.sleep(LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(path: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """The file's bytes, or PkiError."""
    try:
        with open(path, "rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise PkiError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    if len(content) > bytes_max:
        raise PkiError(f"{path}: larger than the {bytes_max} bytes that are read")
    return content


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a PEM file, or the one of a DER file. Raises PkiError if there is none."""
    return parse_certificates(read(path), str(path))


def parse_certificates(content: bytes, origin: str) -> list[x509.Certificate]:
    """As `read_certificates`, of what a file would hold; `origin` is where errors say that it comes from."""
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            return x509.load_pem_x509_certificates(content)
        if content[:1] == b"\x30":
            return [x509.load_der_x509_certificate(content)]
    except ValueError:
        raise PkiError(f"{origin}: holds a certificate that cannot be read") from None
    if b"PRIVATE KEY-----" in content:
        raise PkiError(f"{origin}: holds a private key and no certificate")
    raise PkiError(f"{origin}: holds no certificate")


def to_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """The certificates in PEM, one after the other."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
