"""etcd's write-ahead log: the entries of its raft log, and what else it must not forget, in one row of files.

    <sequence>-<index>.wal     16 hex digits each; the index of the first entry that the file may hold
    a frame                    length 8 (little-endian), then a walpb.Record, then zeros up to a multiple of 8.
                               When there are such zeros, the length's highest byte is 0x80 + their number
    walpb.Record               type 1, crc 2, data 3 (protobuf). The CRC-32C goes on from record to record over `data`
    types                      1 metadata: member id 1, cluster id 2      2 raftpb.Entry     3 raftpb.HardState
                               4 the CRC so far; begins each file         5 snapshot: index 1, term 2, group 3
    end                        zeros: files are allocated before they are filled

An entry takes the place of an earlier one of its index and of all after that. A record at the very end may be torn: a
sector of it is still zero. Facts from etcd 3.7's server/storage/wal.
"""

from __future__ import annotations

import mmap
import os
import re
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import google_crc32c
from google.protobuf.message import DecodeError

from etcdpy import limits
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import decode_entry, encode_entries
from etcdpy.raft.types import HardState
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from etcdpy.raft.entry import Entry
    from etcdpy.raft.types import ConfState

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5

FIRST_FILE: Final = f"{0:016x}-{0:016x}.wal"

_NAME = re.compile(r"([0-9a-f]{16})-[0-9a-f]{16}\.wal")
_LENGTH: Final = Struct("<Q")
_SECTOR_BYTES: Final = 512
_SIZE_MASK: Final = (1 << 56) - 1
_PADDED: Final = 0x80
_VARINT_BYTES_MAX: Final = 10


class WalError(Exception):
    """A write-ahead log that cannot be read, in one line: file, place, what is wrong, mend."""


class _Torn(Exception):
    """The log's end was being written when the machine stopped."""


class _Malformed(ValueError):
    """Bytes that are no such message."""


class Wal(NamedTuple):
    """What a log says, from after an index on."""

    member_id: int
    cluster_id: int
    hard_state: HardState
    term_at: int | None
    """The term of the entry at that index; None when the log does not hold it."""
    entries: list[Entry]
    """Those after it, without gaps, committed or not."""
    snapshots: list[tuple[int, int]]
    """Index and term of each snapshot that the log speaks of."""


# --- protobuf by hand: three small messages ---


def _fields(data: bytes) -> dict[int, int | bytes]:
    """Field numbers with their varints or bytes. Raises _Malformed."""
    found: dict[int, int | bytes] = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        value, position = _varint(data, position)
        if tag & 7 == 0:
            found[tag >> 3] = value
        elif tag & 7 == 2 and position + value <= len(data):
            found[tag >> 3] = data[position : position + value]
            position += value
        else:
            raise _Malformed
    return found


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for offset, byte in enumerate(data[position : position + _VARINT_BYTES_MAX]):
        number |= (byte & 0x7F) << 7 * offset
        if byte < 0x80:
            return number, position + offset + 1
    raise _Malformed


def _number(fields: dict[int, int | bytes], field: int) -> int:
    value = fields.get(field, 0)
    if not isinstance(value, int):
        raise _Malformed
    return value


def _bytes(fields: dict[int, int | bytes], field: int) -> bytes:
    value = fields.get(field, b"")
    if not isinstance(value, bytes):
        raise _Malformed
    return value


# --- reading ---


def exists(directory: Path) -> bool:
    """Whether there is a log in `directory`."""
    return directory.is_dir() and any(_NAME.fullmatch(name) for name in os.listdir(directory))


def read(directory: Path, after: int) -> Wal:
    """What the log in `directory` says from entry `after` + 1 on. Raises WalError, OSError."""
    reader = _Reader(after)
    for path, place, kind, data in _records(directory):
        try:
            reader.take(kind, data)
        except (_Malformed, DecodeError) as error:
            reason = str(error) or "not the message that it should be"
            raise _damaged(path, place, f"record of type {kind}: {reason}") from None
    if reader.metadata is None:
        raise WalError(f"{directory}: the log does not say whose it is; take this member's data anew from another one")
    member, cluster = (_number(_fields(reader.metadata), field) for field in (1, 2))
    return Wal(member, cluster, reader.hard_state, reader.term_at, reader.entries, reader.snapshots)


class _Reader:
    """What has been read so far."""

    def __init__(self, after: int) -> None:
        self._after = after
        self.metadata: bytes | None = None
        self.hard_state = HardState()
        self.term_at: int | None = None
        self.entries: list[Entry] = []
        self.snapshots: list[tuple[int, int]] = []

    def take(self, kind: int, data: bytes) -> None:
        """One record but a CRC. Raises _Malformed, DecodeError."""
        if kind == ENTRY:
            self._entry(decode_entry(data))
        elif kind == STATE:
            state = raft_pb2.HardState.FromString(data)
            self.hard_state = HardState(state.term, state.vote, state.commit)
        elif kind == METADATA:
            if self.metadata not in (None, data):
                raise _Malformed("it contradicts an earlier one")
            self.metadata = data
        elif kind == SNAPSHOT:
            fields = _fields(data)
            self.snapshots.append((_number(fields, 1), _number(fields, 2)))
        else:
            raise _Malformed("no such type is known")

    def _entry(self, entry: Entry) -> None:
        place = entry.index - self._after - 1
        if place < 0:
            if place == -1:
                self.term_at = entry.term
            return
        if place > len(self.entries):
            raise _Malformed(f"entry {entry.index} follows on entry {self._after + len(self.entries)}")
        del self.entries[place:]
        self.entries.append(entry)


def _records(directory: Path) -> Iterator[tuple[Path, int, int, bytes]]:
    """File, offset, type and data of each record but CRCs, whose chain is checked. Raises WalError."""
    names = sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
    if not names:
        raise WalError(f"{directory}: no write-ahead log of etcd; name its place with --wal-dir")
    numbers = [int(name[:16], 16) for name in names]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise WalError(f"{directory}: a file is missing between {names[0]} and {names[-1]}")
    crc = 0
    for name in names:
        path = directory / name
        if not path.stat().st_size:
            continue
        # Mapped: how large it is the file decides.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                for place, kind, record_crc, data in _frames(path, content, is_last=name == names[-1]):
                    if kind == CRC:
                        if crc and record_crc != crc:
                            raise _damaged(path, place, "its checksum does not follow on the file before")
                        crc = record_crc
                        continue
                    crc = google_crc32c.extend(crc, data)
                    if crc != record_crc:
                        _check_torn(content, place, is_last=name == names[-1])
                        raise _damaged(path, place, "the checksum does not match")
                    yield path, place, kind, data
            except _Torn:
                return


def _frames(path: Path, content: bytes | mmap.mmap, *, is_last: bool) -> Iterator[tuple[int, int, int, bytes]]:
    """Offset, type, CRC and data of each record of a file. Raises WalError, _Torn."""
    place = 0
    while place + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, place)
        if not length:
            return
        size = length & _SIZE_MASK
        padding = length >> 56 & 7 if length >> 56 & _PADDED else 0
        start = place + _LENGTH.size
        if start + size + padding > len(content):
            if is_last:
                raise _Torn
            raise _damaged(path, place, "the file ends inside of a record")
        try:
            fields = _fields(content[start : start + size])
            record = place, _number(fields, 1), _number(fields, 2), _bytes(fields, 3)
        except _Malformed:
            _check_torn(content, place, is_last=is_last)
            raise _damaged(path, place, "not a record") from None
        yield record
        place = start + size + padding


def _check_torn(content: bytes | mmap.mmap, place: int, *, is_last: bool) -> None:
    """Raise _Torn for a record of the last file that has a sector which was never written."""
    (length,) = _LENGTH.unpack_from(content, place)
    start = place + _LENGTH.size
    end = min(start + (length & _SIZE_MASK) + (length >> 56 & 7), len(content))
    while is_last and start < end:
        stop = min(start - start % _SECTOR_BYTES + _SECTOR_BYTES, end)
        if not any(content[start:stop]):
            raise _Torn
        start = stop


def _damaged(path: Path, place: int, wrong: str) -> WalError:
    return WalError(f"{path}: byte {place}: {wrong}; take this member's data anew from another one")


# --- writing ---


class _Writer:
    def __init__(self) -> None:
        self._crc = 0
        self._parts: list[bytes] = []

    def add(self, kind: int, data: bytes) -> None:
        """One record."""
        self._crc = google_crc32c.extend(self._crc, data)
        record = b"".join((b"\x08", varint(kind), b"\x10", varint(self._crc), b"\x1a", varint(len(data)), data))
        if kind == CRC:
            record = b"\x08\x04\x10\x00"
        padding = -len(record) % 8
        length = len(record) | ((_PADDED | padding) << 56 if padding else 0)
        self._parts += (_LENGTH.pack(length), record, bytes(padding))

    def take(self) -> bytes:
        """What was added since the last call."""
        content = b"".join(self._parts)
        self._parts.clear()
        return content


def write(
    directory: Path,
    identity: tuple[int, int],
    snapshot: tuple[int, int, ConfState],
    hard_state: HardState,
    entries: Iterable[Entry],
) -> None:
    """Write a log in one file to a new `directory`: of member and cluster `identity`, whose state as of the snapshot
    (index, term, group) is beside it, and the entries after that. Synced. Raises OSError."""
    index, term, conf_state = snapshot
    group = conf_state.to_proto().SerializeToString()
    writer = _Writer()
    writer.add(CRC, b"")
    writer.add(METADATA, b"".join((b"\x08", varint(identity[0]), b"\x10", varint(identity[1]))))
    writer.add(SNAPSHOT, b"\x08\x00\x10\x00")
    writer.add(SNAPSHOT, b"".join((b"\x08", varint(index), b"\x10", varint(term), b"\x1a", varint(len(group)), group)))
    state = raft_pb2.HardState(term=hard_state.term, vote=hard_state.vote, commit=hard_state.commit)
    directory.mkdir(mode=0o700, parents=True)
    descriptor = os.open(directory / FIRST_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        for count, entry in enumerate(entries):
            writer.add(ENTRY, encode_entries((entry,))[0])
            if count % limits.INTERCHANGE_SLICE_RECORDS == 0:
                file.write(writer.take())
        writer.add(STATE, state.SerializeToString())
        file.write(writer.take())
        file.flush()
        os.fsync(file.fileno())


def write_snapshot_message(directory: Path, snapshot: raft_pb2.Snapshot) -> None:
    """Write the `.snap` file that tells etcd from where on its log counts. Synced. Raises OSError."""
    data = snapshot.SerializeToString()
    content = b"".join((b"\x08", varint(google_crc32c.value(data)), b"\x12", varint(len(data)), data))
    name = f"{snapshot.metadata.term:016x}-{snapshot.metadata.index:016x}.snap"
    descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
