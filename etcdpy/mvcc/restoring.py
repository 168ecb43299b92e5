"""From the stored revisions to the index and the leases of keys, at start and for a state that another member has sent.

0.6 us a record, compiled, beside the 0.7 us that LevelDB takes to read and check one of 1 KB. Records come in chunks,
since a plain loop does in half the time what a generator does for each; and the puts that created their keys, which
most are, are known by few bytes and kept back until many can enter the index together.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from etcdpy.backend import REVISION_BUCKET
from etcdpy.mvcc.record import lease_after, read_varint
from etcdpy.mvcc.revision import BUCKET_END, DISK_KEY_BYTES, SUB_BITS

if TYPE_CHECKING:
    from collections.abc import Generator

    from etcdpy.backend import Backend
    from etcdpy.mvcc.index import KeyIndex

_CHUNK_RECORDS: Final = 250
_CHUNK_BYTES: Final = 512 * 1024
"""A chunk has so many records, fewer where those of the one before were large: what is still in the processor's cache
when its turn comes, and little memory. Slices consist of whole chunks."""
_READ_BYTES: Final = 4096
"""What is read while a record is taken in: large records make shorter slices."""


class Intake:
    """Takes records in order of their revisions into an index and the leases of keys, both empty."""

    __slots__ = ("_created", "_created_at", "_index", "_lease_of", "last", "records", "size")

    def __init__(self, index: KeyIndex, lease_of: dict[bytes, int]) -> None:
        self._index = index
        self._lease_of = lease_of
        self._created: list[bytes] = []
        """Keys whose first puts are not in the index yet, and in `_created_at` the packed revisions of these."""
        self._created_at: list[int] = []
        self.last = 0
        """The last packed revision."""
        self.records = 0
        self.size = 0
        """The bytes of all records."""

    def steps(self, backend: Backend, slice_records: int) -> Generator[int, None, None]:
        """Read the revision bucket. Yields the number of records read, every `slice_records` where they are small."""
        records = backend.scan(REVISION_BUCKET, BUCKET_END)
        length, work = 1, 0
        while chunk := list(islice(records, length)):
            before = self.size
            self._take(chunk)
            self.records += len(chunk)
            size = self.size - before
            length = min(length * 2, _CHUNK_RECORDS, _CHUNK_BYTES * len(chunk) // (size + 1) + 1)
            work += len(chunk) + size // _READ_BYTES
            if work >= slice_records:
                work = 0
                self._settle()
                yield self.records
        self._settle()

    def _take(self, chunk: list[tuple[bytes, bytes]]) -> None:
        index, lease_of = self._index, self._lease_of
        created, created_at = self._created, self._created_at
        packed = size = first_main = 0
        first_head = b""
        for disk, record in chunk:
            size += len(record)
            packed = int.from_bytes(disk[1:DISK_KEY_BYTES], "big")
            if not record:  # `etcdutl snapshot restore --bump-revision` marks the new revision so; etcd's key is empty
                self._settle()
                index.restore(b"", packed, deleted=False, create=0, version=0)
                continue
            length, position = record[1], 2
            if length >= 0x80:
                length, position = read_varint(record, 1)
            position += length
            key = record[position - length : position]
            if len(disk) > DISK_KEY_BYTES:
                self._settle()
                index.restore(key, packed, deleted=True, create=0, version=0)
                lease_of.pop(key, None)
                continue
            main = packed >> SUB_BITS
            if main == first_main and record[position : position + len(first_head)] == first_head:
                create, version = main, 1
                position += len(first_head)
            else:
                start = position
                create, position = read_varint(record, position + 1)
                _, position = read_varint(record, position + 1)
                version, position = read_varint(record, position + 1)
                if version == 1 and create == main:
                    first_main, first_head = main, record[start:position]
            if version == 1 and create == main:
                created.append(key)
                created_at.append(packed)
            else:
                self._settle()
                index.restore(key, packed, deleted=False, create=create, version=version)
            lease = lease_after(record, position)
            if lease:
                lease_of[key] = lease
            elif lease_of:
                lease_of.pop(key, None)
        self.last = packed
        self.size += size

    def _settle(self) -> None:
        """Bring the index up to what was read."""
        if self._created:
            self._index.restore_created(self._created, self._created_at)
            self._created.clear()
            self._created_at.clear()
