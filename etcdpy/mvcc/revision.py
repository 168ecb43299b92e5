"""Revisions: how they are packed into an int, and their form as a key on disk.

A revision is a main number, one per transaction that writes, and a sub number that counts the writes inside it. Packed
as `main << 32 | sub` it orders as etcd orders revisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.backend import REVISION_BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterable

SUB_BITS: Final = 32
SUB_MASK: Final = (1 << SUB_BITS) - 1
TOMBSTONE_MARK: Final = b"t"

DISK_KEY_BYTES: Final = 13
"""`r`, main, sub. A tombstone's key is one byte longer."""

_BUCKET_ABOVE: Final = REVISION_BUCKET[0] << 96
"""The bucket's byte, standing above a packed revision, so that one conversion makes the whole key."""

BUCKET_END: Final = bytes((REVISION_BUCKET[0] + 1,))
"""Sorts after every revision key."""


def pack(main: int, sub: int = 0) -> int:
    """The packed form of a revision."""
    return main << SUB_BITS | sub


def disk_key(packed: int) -> bytes:
    """The key under which a put of that revision is stored."""
    return (_BUCKET_ABOVE | packed).to_bytes(DISK_KEY_BYTES, "big")


def disk_keys(packed: Iterable[int]) -> list[bytes]:
    """`disk_key` of many, at a third of the cost."""
    above, size = _BUCKET_ABOVE, DISK_KEY_BYTES
    return [(above | revision).to_bytes(size, "big") for revision in packed]


def tombstone_key(packed: int) -> bytes:
    """The key under which a deletion of that revision is stored."""
    return disk_key(packed) + TOMBSTONE_MARK


def from_disk_key(key: bytes) -> int:
    """The packed revision of a key on disk, with or without the tombstone's mark."""
    return int.from_bytes(key[1:DISK_KEY_BYTES], "big")


def is_tombstone_key(key: bytes) -> bool:
    """Whether a key on disk is that of a deletion."""
    return len(key) > DISK_KEY_BYTES
