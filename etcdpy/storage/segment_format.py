"""What a segment of the raft log holds: batches one after the other, over zeros that were written before.

    header    64 bytes: mark (16), number of the segment (8), size (8), salt (4), zeros, checksum of the rest (4)
    a batch   32 bytes: mark (4), size (4), number (8), newest durable batch (8), checksum of the content (4) and of
              these (4); then the content, up to a multiple of 32
    zeros     never written

All numbers are little endian, checksums CRC-32C that begin with the segment's salt, which only the disk knows: no value
that a client sent can pass for a batch.

A batch that the power's loss cut shows it: the disk writes whole sectors, so a sector of it is still zero (etcd goes by
the same, server/storage/wal). A head never lies across two sectors, and no content ends in zeros.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES: Final = 64
ALIGNMENT: Final = 32
HEAD_BYTES: Final = 32
_SECTOR_BYTES: Final = 512

_MARK: Final = b"etcdpy raft log\n"
_HEADER: Final = Struct("<16sQQI24x")
_BATCH_MARK: Final = b"\xb5RLb"
_HEAD: Final = Struct("<4sIQQI")
_WHOLE_HEAD: Final = Struct("<4sIQQII")
_CHECKSUM: Final = Struct("<I")

CONTENT_END: Final = b"\xff"
"""Behind each content, so that its last sector is never zero."""


class Header(NamedTuple):
    """What a segment says of itself."""

    number: int
    size: int
    """Bytes that hold zeros or batches. One batch that is larger may go beyond."""
    salt: int


class Found(NamedTuple):
    """A whole batch in a segment."""

    number: int
    durable: int
    """The newest batch that was known to be durable when this one was written."""
    position: int
    """Of its head."""
    content: bytes
    """Ends with CONTENT_END."""
    end: int
    """Where the next one begins."""


def pack_header(header: Header) -> bytes:
    """The first bytes of a segment."""
    packed = _HEADER.pack(_MARK, header.number, header.size, header.salt)
    return packed + _CHECKSUM.pack(google_crc32c.value(packed))


def unpack_header(content: bytes) -> Header | None:
    """What `pack_header` made, at the beginning of a segment; None when it is damaged."""
    packed = content[: _HEADER.size]
    if content[_HEADER.size : HEADER_BYTES] != _CHECKSUM.pack(google_crc32c.value(packed)):
        return None
    mark, number, size, salt = _HEADER.unpack(packed)
    return Header(number, size, salt) if mark == _MARK else None


def pack_batch(salt: int, number: int, durable: int, content: bytes) -> bytes:
    """A batch as it stands in a segment. `content` ends with CONTENT_END."""
    size = len(content)
    head = _HEAD.pack(_BATCH_MARK, size, number, durable, google_crc32c.extend(salt, content))
    checksum = _CHECKSUM.pack(google_crc32c.extend(salt, head))
    return b"".join((head, checksum, content, bytes(-size % ALIGNMENT)))


def batch_size(head: bytes) -> int:
    """Bytes of the batch that begins with `head`, up to its content's end; whatever a damaged one says."""
    return HEAD_BYTES + int(_HEAD.unpack_from(head)[1])


def batch_at(salt: int, content: bytes, position: int) -> Found | None:
    """The whole batch at a place of what a segment holds; None when there is none, or not all of it."""
    start = position + HEAD_BYTES
    if start > len(content):
        return None
    mark, size, number, durable, checksum, head_checksum = _WHOLE_HEAD.unpack_from(content, position)
    if mark != _BATCH_MARK or google_crc32c.extend(salt, content[position : start - 4]) != head_checksum:
        return None
    payload = content[start : start + size]
    if google_crc32c.extend(salt, payload) != checksum:
        return None
    return Found(number, durable, position, payload, start + size + -size % ALIGNMENT)


def batches(salt: int, content: bytes) -> Iterator[Found]:
    """The whole batches of a segment up to the first place where none is."""
    found = batch_at(salt, content, HEADER_BYTES)
    while found is not None:
        yield found
        found = batch_at(salt, content, found.end)


def is_blank(content: bytes, end: int) -> bool:
    """Whether nothing was ever written from there on."""
    return content.endswith(bytes(len(content) - end))


def is_torn(salt: int, content: bytes, end: int, number: int) -> bool:
    """Whether what stands behind the last batch is the end of a write that the power's loss cut, so that batch `number`
    never counted. False where it did, or where no such loss leaves it as it is."""
    if not _could_be_torn(salt, content, end):
        return False
    position = content.find(_BATCH_MARK, end + ALIGNMENT)
    while position >= 0:
        later = batch_at(salt, content, position)
        if later is not None and later.durable >= number:
            return False
        position = content.find(_BATCH_MARK, position + 1)
    return True


def _could_be_torn(salt: int, content: bytes, end: int) -> bool:
    """Whether a sector of what should be at the end was never written, or lies behind the end of the file."""
    head = content[end : end + _HEAD.size]
    if not head.strip(b"\0"):
        return True
    if content[end + _HEAD.size : end + HEAD_BYTES] != _CHECKSUM.pack(google_crc32c.extend(salt, head)):
        return False
    start, stop = end + HEAD_BYTES, end + batch_size(head)
    first = start + -start % _SECTOR_BYTES
    return any(
        not content[place : min(place + _SECTOR_BYTES, stop)].strip(b"\0")
        for place in range(first, stop, _SECTOR_BYTES)
    )
