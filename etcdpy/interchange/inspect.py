"""Looks into a backend file without taking it in: what `snapshot status` tells, and the file as a readable backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import google_crc32c
from google.protobuf.message import DecodeError

from etcdpy.backend import REVISION_BUCKET
from etcdpy.interchange import schema
from etcdpy.interchange.bolt_format import DamagedFileError
from etcdpy.interchange.bolt_reader import BoltFile
from etcdpy.interchange.ingest import ingest_open_file_steps, revision_items
from etcdpy.mvcc.revision import TOMBSTONE_MARK
from etcdpy.proto import kv_pb2

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from etcdpy.interchange.bolt_reader import Item
    from etcdpy.interchange.ingest import SnapshotContent

_REVISION_BYTES = 17


class FileStatus(NamedTuple):
    """What `etcdutl snapshot status` tells of a file."""

    hash: int
    """CRC-32C over the buckets' names, keys and values."""
    revision: int
    total_keys: int
    total_size: int
    version: str


def status_steps(path: Path) -> Generator[int, None, FileStatus]:
    """Read all of the file. Yields the bytes read so far; raises DamagedFileError, OSError."""
    keys: set[bytes] = set()
    crc = revision = done = 0
    version = b""
    with BoltFile(path) as file:
        for bucket in file.buckets():
            crc = google_crc32c.extend(crc, bucket)
            for items in file.leaves(bucket):
                content = b"".join(part for item in items for part in item)
                crc = google_crc32c.extend(crc, content)
                done += len(content)
                if bucket == schema.KEY and items:
                    _note_keys(file, items, keys)
                    revision = int.from_bytes(items[-1][0][:8], "big")
                elif bucket == schema.META:
                    version = dict(items).get(schema.STORAGE_VERSION, version)
                yield done
        size = file.meta.pages * file.meta.page_bytes
    return FileStatus(crc, revision, len(keys), size, version.decode("ascii", "replace"))


def _note_keys(file: BoltFile, items: list[Item], keys: set[bytes]) -> None:
    for revision, record in items:
        if len(revision) < _REVISION_BYTES:
            raise DamagedFileError(file.path, f"bucket key, key {revision[:64]!r}", "not a revision")
        try:
            key = kv_pb2.KeyValue.FromString(record).key
        except DecodeError:
            place = f"bucket key, key {revision[:64]!r}"
            raise DamagedFileError(file.path, place, "the record is not a KeyValue") from None
        if revision[_REVISION_BYTES:] == TOMBSTONE_MARK:
            keys.discard(key)
        else:
            keys.add(key)


class FileBackend:
    """The readable half of etcdpy.backend.Backend over a file: revisions stay there, all else is held in memory.

    For whoever reads from one end to the other, such as a store that is opened to be hashed. Raises DamagedFileError.
    """

    def __init__(self, file: BoltFile) -> None:
        self._file = file
        self._held: dict[bytes, bytes] = {}
        self.content = self._hold()

    def _hold(self) -> SnapshotContent:
        def hold(keys: Sequence[bytes], values: Sequence[bytes]) -> None:
            self._held.update(zip(keys, values, strict=True))

        steps = ingest_open_file_steps(self._file, hold, without=(schema.KEY,))
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                content: SnapshotContent = stop.value
                return content

    def get(self, key: bytes) -> bytes | None:
        """See Backend.get. One revision costs a walk through the file."""
        if not key.startswith(REVISION_BUCKET):
            return self._held.get(key)
        return next((record for _, record in self.scan(key, key + b"\0")), None)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """See Backend.scan."""
        if REVISION_BUCKET <= start < REVISION_BUCKET[:-1] + bytes((REVISION_BUCKET[-1] + 1,)):
            found = (item for item in revision_items(self._file) if start <= item[0] < end)
            return iter(list(found)[::-1]) if reverse else found
        keys = sorted((key for key in self._held if start <= key < end), reverse=reverse)
        return ((key, self._held[key]) for key in keys)

    def put(self, key: bytes, value: bytes) -> None:
        """Nobody writes to a file that is looked at."""
        raise AssertionError(key)

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See `put`."""
        raise AssertionError(keys)

    def delete(self, key: bytes) -> None:
        """See `put`."""
        raise AssertionError(key)
