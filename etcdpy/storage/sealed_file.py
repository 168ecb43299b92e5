"""Whole files under AES-256-GCM, in chunks: the snapshots that lie on disk on their way between members, and backups.

A temporary file's key lives in this process alone: nobody reads the file after a restart, which removes it. Chunks have
fixed places, and a chunk that is written again gets a new nonce:

    <nonce 12> <ciphertext of 64 KiB> <tag 16>    ... the last chunk shorter; the chunk's number is its associated data

A backup carries its key, wrapped by a master key. Its chunks are counted, and the last one says so; so a backup that
was cut, or whose chunks were moved, does not open (the STREAM construction of Hoang, Reyhanitabar, Rogaway, Vizar
2015):

    etcdpy sealed file 1\\n <length of the head, 4> <head: JSON with "wrapped_by" and "wrapped"> <chunks> nonce of a
    chunk: 0 (7), its number (4), 1 for the last one and else 0 (1); the head's SHA-256 is its associated data
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from etcdpy.storage.errors import DamagedError, EncryptionError
from etcdpy.storage.key_file import KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.storage.key_file import MasterKeys

CHUNK_BYTES: Final = 64 * 1024
"""Plaintext of a chunk: 4 us to seal, and what a reader of one record has to open."""
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
STORED_CHUNK_BYTES: Final = NONCE_BYTES + CHUNK_BYTES + TAG_BYTES
MAGIC: Final = b"etcdpy sealed file 1\n"
_HEAD_BYTES_MAX: Final = 4096


class ChunkCipher:
    """A key for one temporary file, never stored. For one thread at a time."""

    def __init__(self) -> None:
        self._cipher = AESGCM(os.urandom(KEY_BYTES))
        self._sealed = 0

    def seal(self, number: int, content: bytes) -> bytes:
        """A chunk as it is stored."""
        self._sealed += 1
        nonce = self._sealed.to_bytes(NONCE_BYTES, "big")
        return nonce + self._cipher.encrypt(nonce, content, number.to_bytes(8, "big"))

    def open(self, number: int, stored: bytes) -> bytes:
        """A chunk's content. Raises DamagedError."""
        try:
            nonce, rest = stored[:NONCE_BYTES], stored[NONCE_BYTES:]
            return self._cipher.decrypt(nonce, rest, number.to_bytes(8, "big"))
        except (InvalidTag, ValueError):
            raise DamagedError(
                f"chunk {number} of a temporary file fails its check: the disk returns what was not written; replace it"
            ) from None


class SealedFile:
    """An open file, read and written at any place, by any thread. Raises OSError, and DamagedError when reading."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._cipher = ChunkCipher()
        self._lock = threading.Lock()
        self.size_bytes = 0
        """Of what was written."""
        self._open_number = -1
        """The chunk that was touched last stays at hand: writes and reads mostly go on where they stopped."""
        self._open = bytearray()
        self._dirty = False

    def write(self, data: bytes, position: int) -> None:
        """Put `data` there. Bytes that were never written are zeros."""
        with self._lock:
            self._write(memoryview(data), position)

    def _write(self, view: memoryview, position: int) -> None:
        while view:
            number, start = divmod(position, CHUNK_BYTES)
            part = view[: CHUNK_BYTES - start]
            self._turn_to(number)
            if len(self._open) < start:
                self._open.extend(bytes(start - len(self._open)))
            self._open[start : start + len(part)] = part
            self._dirty = True
            position += len(part)
            self.size_bytes = max(self.size_bytes, position)
            view = view[len(part) :]

    def read(self, position: int, size: int) -> bytes:
        """What was put there, as far as it goes."""
        with self._lock:
            return self._read(position, size)

    def _read(self, position: int, size: int) -> bytes:
        parts = []
        end = min(position + size, self.size_bytes)
        while position < end:
            number, start = divmod(position, CHUNK_BYTES)
            self._turn_to(number)
            part = bytes(self._open[start : start + end - position])
            if not part:
                break
            parts.append(part)
            position += len(part)
        return b"".join(parts)

    def flush(self) -> None:
        """Nothing waits in memory afterwards."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._dirty:
            stored = self._cipher.seal(self._open_number, bytes(self._open))
            write_all(self._descriptor, stored, self._open_number * STORED_CHUNK_BYTES)
            self._dirty = False

    def _turn_to(self, number: int) -> None:
        if number == self._open_number:
            return
        self._flush()
        stored = os.pread(self._descriptor, STORED_CHUNK_BYTES, number * STORED_CHUNK_BYTES)
        self._open = bytearray(self._cipher.open(number, stored)) if any(stored[:NONCE_BYTES]) else bytearray()
        self._open_number = number


def write_all(descriptor: int, data: bytes, position: int) -> None:
    """All of `data` at that place of a file. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view = view[written:]
        position += written


# --- backups ---


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _chunks(source: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Number, content, and whether it is the last one; an empty source has one empty chunk."""
    number, content = 0, source.read(size)
    while True:
        following = source.read(size) if len(content) == size else b""
        yield number, content, not following
        if not following:
            return
        number, content = number + 1, following


def seal_backup(source: BinaryIO, target: BinaryIO, masters: MasterKeys) -> None:
    """Write `source` encrypted to `target`, under a key of its own that the first master key wraps. Both are buffered.

    Raises OSError, and EncryptionError when the key file says `plaintext`.
    """
    if masters.writing is None:
        raise EncryptionError(f"the key file {masters.path} says `plaintext`, so there is no key to encrypt with")
    key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    master = AESGCM(masters.keys[masters.writing])
    wrapped = nonce + master.encrypt(nonce, key, b"etcdpy backup " + masters.writing.encode())
    fields = {"wrapped_by": masters.writing, "wrapped": base64.b64encode(wrapped).decode()}
    head = json.dumps(fields).encode()
    target.write(MAGIC + len(head).to_bytes(4, "big") + head)
    cipher, associated = AESGCM(key), hashlib.sha256(head).digest()
    for number, content, last in _chunks(source, CHUNK_BYTES):
        target.write(cipher.encrypt(_nonce(number, last=last), content, associated))


def is_sealed_backup(begin: bytes) -> bool:
    """Whether a file that begins so is an encrypted backup."""
    return begin.startswith(MAGIC)


def open_backup(name: str, source: BinaryIO, target: BinaryIO, masters: MasterKeys) -> None:
    """Write what `source`, the file called `name`, holds to `target`.

    Raises OSError, EncryptionError naming the key that is missing or wrong, DamagedError, also after much was written:
    what `target` holds then must not be used.
    """
    head, key = _open_head(name, source, masters)
    cipher, associated = AESGCM(key), hashlib.sha256(head).digest()
    for number, stored, last in _chunks(source, CHUNK_BYTES + TAG_BYTES):
        try:
            target.write(cipher.decrypt(_nonce(number, last=last), stored, associated))
        except (InvalidTag, ValueError):
            raise DamagedError(f"{name}: chunk {number} fails its check: damaged or cut; use another backup") from None


def _open_head(name: str, source: BinaryIO, masters: MasterKeys) -> tuple[bytes, bytes]:
    begin = source.read(len(MAGIC) + 4)
    size = int.from_bytes(begin[len(MAGIC) :], "big")
    if not is_sealed_backup(begin) or size > _HEAD_BYTES_MAX:
        raise DamagedError(f"{name}: not an encrypted backup of etcdpy")
    head = source.read(size)
    try:
        fields = json.loads(head)
        key_id, wrapped = fields["wrapped_by"], base64.b64decode(fields["wrapped"], validate=True)
        master = masters.keys.get(key_id)
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        raise DamagedError(f"{name}: its head cannot be read; use another backup") from None
    if master is None:
        raise EncryptionError(f'{name} needs the key "{key_id}", which {masters.path} does not hold; add its line')
    try:
        associated = b"etcdpy backup " + key_id.encode()
        return head, AESGCM(master).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise EncryptionError(
            f'the key "{key_id}" in {masters.path} is not the one that {name} was made with; put the right line there'
        ) from None
