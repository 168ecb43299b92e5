"""Single records under AES-256-GCM: what stands in LevelDB in place of a value when encryption is on.

    0xE7 | number of the data key (2) | session (12) | counter (4) | ciphertext | tag (16)        all big endian

- A data key never encrypts by itself. Each process draws a random session and derives a key from both of them and the
  database's name (HKDF-SHA256); under that key it counts from 0, and draws a new session long before the counter
  ends. So no nonce is used twice after a crash, nor when a copy of the directory is started, and nothing has to be
  stored first.
- The record's key is the associated data, and the database's name is in the derived key: a record is refused in any
  other place than its own.
- No value that etcdpy stores begins with 0xE7: messages cannot (no field has wire type 7), numbers of 8 bytes are not
  that large, texts are ASCII, and an identity is shorter than a sealed record.

docs/design/encryption.md has the reasons.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Decrypt = Callable[[bytes, bytes, bytes], bytes]

MARK: Final = 0xE7
"""The first byte of a sealed record."""
NUMBER_END: Final = 3
"""Where the data key's number ends: the bytes up to here say whether a record is sealed as new ones are."""
HEAD_BYTES: Final = 15
COUNTER_BYTES: Final = 4
TAG_BYTES: Final = 16
BODY: Final = HEAD_BYTES + COUNTER_BYTES
OVERHEAD_BYTES: Final = BODY + TAG_BYTES
"""What a sealed record takes beside its value."""
SEALED_RECORDS_PER_SESSION: Final = 1 << 32
"""Records under one derived key: what 4 bytes of counter tell apart. At 300 bytes a record that is 2^37 blocks, which
tells them from noise with a chance of 2^-55."""
SEALING_SESSIONS_KEPT: Final = 256
"""Derived keys at hand for reading; each start of the member made one, and deriving takes 10 us."""
_SESSION_BYTES: Final = HEAD_BYTES - NUMBER_END
_NONCE_START: Final = bytes(12 - COUNTER_BYTES)
_MARK_AND_NUMBER: Final = Struct(">BH").pack
_COUNTER: Final = Struct(">I").pack


def is_sealed(record: bytes) -> bool:
    """Whether a stored record is an encrypted one. An identity, which is random, may begin as one, and is shorter."""
    return len(record) >= OVERHEAD_BYTES and record[0] == MARK


class Refused(Exception):
    """A record that does not open; the caller knows where it stands."""


def derive(data_key: bytes, purpose: bytes) -> bytes:
    """A key of 32 bytes for one purpose."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"etcdpy " + purpose).derive(data_key)


def head_of(number: int) -> bytes:
    """What every record under a data key begins with."""
    return _MARK_AND_NUMBER(MARK, number)


class Sealer:
    """Seals records of one database under one data key. For one thread at a time."""

    __slots__ = ("_counter", "_data_key", "_encrypt", "_head", "_purpose", "number")

    def __init__(self, number: int, data_key: bytes, purpose: bytes) -> None:
        self.number = number
        self._data_key = data_key
        self._purpose = purpose
        self._begin_session()

    def _begin_session(self) -> None:
        session = os.urandom(_SESSION_BYTES)
        self._head = head_of(self.number) + session
        self._encrypt = AESGCM(derive(self._data_key, self._purpose + session)).encrypt
        self._counter = 0

    def seal(self, key: bytes, value: bytes) -> bytes:
        """The record for `value` under `key`. Hot road: 1 us for 300 bytes."""
        counter = self._counter
        if counter >= SEALED_RECORDS_PER_SESSION:
            self._begin_session()
            counter = 0
        self._counter = counter + 1
        number = _COUNTER(counter)
        return self._head + number + self._encrypt(_NONCE_START + number, value, key)


class Opener:
    """Opens the records of one database, under whichever of its data keys they are."""

    __slots__ = ("_data_keys", "_purpose", "_sessions")

    def __init__(self, data_keys: Mapping[int, bytes], purpose: bytes) -> None:
        self._data_keys = data_keys
        self._purpose = purpose
        self._sessions: dict[bytes, Decrypt] = {}
        """By the head of a record; deriving takes 10 us."""

    def open(self, key: bytes, record: bytes) -> bytes:
        """The value in a sealed record. Raises Refused."""
        head = record[:HEAD_BYTES]
        decrypt = self._sessions.get(head) or self._session(head, len(record))
        try:
            return decrypt(_NONCE_START + record[HEAD_BYTES:BODY], record[BODY:], key)
        except InvalidTag:
            number = int.from_bytes(record[1:NUMBER_END], "big")
            raise Refused(f"it fails its check under data key {number}: damaged, or not from here") from None

    def _session(self, head: bytes, size: int) -> Decrypt:
        if size < OVERHEAD_BYTES or head[0] != MARK:
            raise Refused("it is not an encrypted record")
        number = int.from_bytes(head[1:NUMBER_END], "big")
        data_key = self._data_keys.get(number)
        if data_key is None:
            raise Refused(f"it is under data key {number}, which member/KEYS does not hold")
        decrypt = AESGCM(derive(data_key, self._purpose + head[NUMBER_END:])).decrypt
        if len(self._sessions) >= SEALING_SESSIONS_KEPT:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[head] = decrypt
        return decrypt


def hidden_name(data_key: bytes, name: bytes) -> bytes:
    """What stands for a name that must not be read in LevelDB's keys: the same for the same name, and telling
    nothing."""
    code = HMAC(derive(data_key, b"names"), hashes.SHA256())
    code.update(name)
    return code.finalize()[:16]
