"""HashKV: a digest of the revisions that members, etcd's included, compare to find corruption.

CRC-32C, begun with etcd's bucket name `key`, over every revision up to the one asked for, in order: etcd's form of the
revision key (8 bytes main, `_`, 8 bytes sub, `t` for a deletion), then the record. Of the revisions up to the last
compaction only those count that are still what a reader at the asked revision sees, so that the digest does not depend
on how far a member's compaction has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import google_crc32c

from etcdpy.backend import META_BUCKET, REVISION_BUCKET
from etcdpy.errors import Compacted, FutureRevision
from etcdpy.limits import COMPACTION_HASHES_MAX, READ_SLICE_BYTES_MAX, READ_SLICE_WORK_MAX
from etcdpy.mvcc import read
from etcdpy.mvcc.fetch import close_scan
from etcdpy.mvcc.record import key_of
from etcdpy.mvcc.revision import BUCKET_END, SUB_BITS, disk_key, from_disk_key, is_tombstone_key, pack

if TYPE_CHECKING:
    from collections.abc import Generator

    from etcdpy.backend import Backend
    from etcdpy.mvcc.store import Store

_SEED: Final = b"key"


class HashKv(NamedTuple):
    """A digest and what it covers: revisions up to `revision`, after a compaction at `compact_revision` (-1: none)."""

    hash: int
    compact_revision: int
    revision: int


class CompactionHashes:
    """The digests taken by the last compactions. As in etcd they answer HashKV at exactly their revision."""

    __slots__ = ("_hashes",)

    def __init__(self) -> None:
        self._hashes: list[HashKv] = []

    def add(self, hash_kv: HashKv) -> None:
        """Keep one; the oldest goes when there are too many."""
        self._hashes.append(hash_kv)
        del self._hashes[:-COMPACTION_HASHES_MAX]

    def at(self, revision: int) -> HashKv | None:
        """The digest taken when that revision was compacted."""
        return next((hash_kv for hash_kv in self._hashes if hash_kv.revision == revision), None)

    def all(self) -> list[HashKv]:
        """All that are kept, by revision."""
        return list(self._hashes)


class RevisionHasher:
    """Digests revisions as they come, by blocks: one CRC call a block costs less than one a record."""

    __slots__ = ("_crc", "_parts", "size")

    def __init__(self) -> None:
        self._crc: int = google_crc32c.value(_SEED)
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, disk: bytes, record: bytes) -> None:
        """Take in a revision: its key on our disk, and its record."""
        self._parts += (disk[1:9], b"_\0\0\0\0", disk[9:], record)
        self.size += len(record)

    def flush(self) -> None:
        """Digest what has gathered."""
        self._crc = google_crc32c.extend(self._crc, b"".join(self._parts))
        self._parts.clear()
        self.size = 0

    def digest(self) -> int:
        """The CRC over everything added."""
        self.flush()
        return self._crc


def kv_steps(store: Store, revision: int) -> Generator[None, None, HashKv]:
    """The digest up to `revision` (0: the current one), in slices.

    Raises Compacted, FutureRevision at the first `next`.
    """
    kept = store.hashes.at(revision)
    if kept is not None:
        return kept
    compacted = store.compact_revision
    if 0 < revision < compacted:
        raise Compacted
    if revision > store.current_revision:
        raise FutureRevision
    main = revision or store.current_revision
    with store.pin(max(main, 0)):
        return HashKv((yield from _crc_steps(store, main, compacted)), compacted, main)


def _crc_steps(store: Store, main: int, compacted: int) -> Generator[None, None, int]:
    hasher = RevisionHasher()
    at = store.index.at
    above_compacted = pack(compacted + 1)
    # etcd filters by the set of what is kept and takes an empty set for "no filter": nothing is left out where no key
    # exists at the revision. Looked up when the first candidate turns up.
    filtered: bool | None = None
    work = 0
    scan = store.backend.scan(REVISION_BUCKET, disk_key(pack(max(main + 1, 0))))
    try:
        for disk, record in scan:
            packed = from_disk_key(disk)
            work += 1
            if packed < above_compacted:
                state = at(key_of(record), main)
                if state is None or state.mod != packed:
                    if filtered is None:
                        filtered = yield from _something_exists(store, main)
                    if filtered:
                        continue
                if packed >> SUB_BITS == compacted and is_tombstone_key(disk):
                    continue
            hasher.add(disk, record)
            if work >= READ_SLICE_WORK_MAX or hasher.size >= READ_SLICE_BYTES_MAX:
                hasher.flush()
                work = 0
                yield
    finally:
        close_scan(scan)
    return hasher.digest()


def _something_exists(store: Store, main: int) -> Generator[None, None, bool]:
    options = read.RangeOptions(limit=1, revision=main, keys_only=True, with_count=False)
    found = yield from read.range_steps(store, b"\0", b"\0", options)
    return bool(found.records)


def backend_steps(backend: Backend, unpublished: int) -> Generator[None, None, int]:
    """A CRC-32C over all applied state but the meta bucket, which holds what differs between members; in slices.

    `unpublished`: the main revision that is being written in slices, of which nothing counts yet; 0 for none.
    """
    hidden = disk_key(pack(unpublished)) if unpublished else BUCKET_END
    crc: int = 0
    parts: list[bytes] = []
    size = 0
    scan = backend.scan(b"", b"\xff")
    try:
        for key, value in scan:
            if key.startswith(META_BUCKET) or hidden <= key < BUCKET_END:
                continue
            parts += (key, value)
            size += len(value)
            if len(parts) >= 2 * READ_SLICE_WORK_MAX or size >= READ_SLICE_BYTES_MAX:
                crc = google_crc32c.extend(crc, b"".join(parts))
                parts.clear()
                size = 0
                yield
    finally:
        close_scan(scan)
    final: int = google_crc32c.extend(crc, b"".join(parts))
    return final
