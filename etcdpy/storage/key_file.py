"""The file of master keys that an operator keeps: `--encryption-key-file`.

    # comments and empty lines do not count
    2026-11: 4sOTkyQ2m8PoXg1WAvvTW4DHe2Uv1wbUYvTOWZ9mHnk=
    2025-11: h0F0s+T1o9tO0i3y2oGm0j1M8q0m0Jd0dF0Zy4sP5hc=

An id, a colon, 32 random bytes in base64. The first line writes, all lines read. The word `plaintext` alone as the
first line means: write without encryption, so that what is encrypted becomes plaintext again. docs/encryption.md is
for people.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.storage.errors import EncryptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 32
"""AES-256."""
PLAINTEXT: Final = "plaintext"
"""In place of the first key: write without encryption."""
CREDENTIAL: Final = "etcdpy.encryption-keys"
"""The systemd credential that is used when no file is named: LoadCredential=etcdpy.encryption-keys:PATH."""

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The content of a key file. No key shows in a repr."""

    path: Path
    writing: str | None
    """The id of the key that wraps new data keys; None: write without encryption."""
    keys: Mapping[str, bytes] = field(repr=False)
    """By id."""


def new_line(key_id: str) -> str:
    """A line with a new key. Raises EncryptionError for an id that cannot be one."""
    if not _ID.fullmatch(key_id) or key_id == PLAINTEXT:
        raise EncryptionError(
            f"{key_id!r} cannot be a key's id: use 1 to 64 letters, digits, dots, dashes, underscores, and not "
            f"`{PLAINTEXT}`"
        )
    return f"{key_id}: {base64.b64encode(os.urandom(KEY_BYTES)).decode()}\n"


def key_file_path(named: str, environ: Mapping[str, str]) -> Path | None:
    """The file that the flag names; without the flag the systemd credential, if there is one; else None."""
    if named:
        return Path(named)
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if directory:
        path = Path(directory) / CREDENTIAL
        if path.exists():
            return path
    return None


def load(path: Path) -> MasterKeys:
    """Read a key file. Raises EncryptionError with one line that names the file, the line and the mend."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_private(path, os.fstat(descriptor))
            content = os.read(descriptor, limits.KEY_FILE_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise EncryptionError(
            f"cannot read the key file {path}: {error.strerror}; mend --encryption-key-file"
        ) from error
    if len(content) > limits.KEY_FILE_BYTES_MAX:
        raise EncryptionError(
            f"the key file {path} is larger than {limits.KEY_FILE_BYTES_MAX} bytes; is it the right one?"
        )
    return parse(path, content)


def _check_private(path: Path, found: os.stat_result) -> None:
    """Nobody else may read it. systemd gives its credentials by an access list, whose mask shows as the group's
    bits."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    from_systemd = credentials is not None and path.parent == Path(credentials)
    forbidden = 0o027 if from_systemd else 0o077
    if not stat.S_ISREG(found.st_mode):
        raise EncryptionError(f"the key file {path} is not a regular file; mend --encryption-key-file")
    if found.st_mode & forbidden:
        raise EncryptionError(
            f"the key file {path} is open to others (mode {found.st_mode & 0o777:04o}); chmod 0600 it"
        )


def parse(path: Path, content: bytes) -> MasterKeys:
    """The keys in a file's content. Raises EncryptionError, which never shows what a line holds."""
    keys: dict[str, bytes] = {}
    writing: str | None = None
    plaintext = False
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text == PLAINTEXT:
            if keys or plaintext:
                raise _wrong(path, number, f"`{PLAINTEXT}` may only be the first")
            plaintext = True
            continue
        key_id, colon, encoded = text.partition(":")
        if not colon or not _ID.fullmatch(key_id) or key_id == PLAINTEXT:
            raise _wrong(path, number, "not an id of letters, digits, dots, dashes and underscores before a colon")
        if key_id in keys:
            raise _wrong(path, number, f'the id "{key_id}" is there twice')
        keys[key_id] = _key(path, number, encoded.strip())
        writing = writing or key_id
    if not keys and not plaintext:
        raise EncryptionError(f"the key file {path} holds no key; make one with `etcdpyutl encryption new-key`")
    return MasterKeys(path, None if plaintext else writing, keys)


def _key(path: Path, number: int, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise _wrong(path, number, "the key is not base64") from None
    if len(key) != KEY_BYTES:
        raise _wrong(path, number, f"the key has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def _wrong(path: Path, number: int, what: str) -> EncryptionError:
    return EncryptionError(f"the key file {path}, line {number}: {what}; `etcdpyutl encryption new-key` makes a line")
