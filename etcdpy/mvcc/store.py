"""The store: what the revisions are, over a backend that keeps bytes.

    put / begin          change the index, the backend's open batch and the sizes together, at the next main revision
    begin_in_slices      the same for what is too much for one turn: nobody sees that revision before `publish`
    range, range_steps   read at any revision from the compaction on (read.py)
    compact              sets the revision below which nothing can be read; compaction_steps does the work
    hash_kv_steps        the digest that members compare (hashing.py)
    restore_steps        builds the index from the backend at start

It is pure: no clock, no socket, no disk but the backend. All methods are called from one thread; a generator that they
return may be interleaved with writes.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final, Protocol

from etcdpy.backend import META_BUCKET
from etcdpy.errors import Compacted, FutureRevision
from etcdpy.limits import (
    COMPACTION_BATCH_DEFAULT,
    RESTORE_ASIDE_SLICE_RECORDS,
    RESTORE_SLICE_RECORDS,
    WRITE_SLICE_KEYS,
)
from etcdpy.mvcc import compaction, fetch, hashing, read
from etcdpy.mvcc.compaction import FINISHED_COMPACTION, SCHEDULED_COMPACTION
from etcdpy.mvcc.index import KeyIndex
from etcdpy.mvcc.record import first_record, put_record, put_records, tombstone_record
from etcdpy.mvcc.record_cache import RecordCache
from etcdpy.mvcc.restoring import Intake
from etcdpy.mvcc.revision import SUB_BITS, TOMBSTONE_MARK, disk_key, disk_keys, tombstone_key
from etcdpy.mvcc.write import WriteTransaction

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType
    from typing import TypeAlias

    from etcdpy.backend import Backend

    Change: TypeAlias = tuple[int, bytes, bool, bytes]
    """Packed revision, key, whether it is a deletion, record. A plain tuple: one is made per write."""

SIZE_TOTAL: Final = META_BUCKET + b"sizeTotal"
"""The high-water mark of the size in bytes, 8 bytes big endian, as of the last compaction or defragmentation."""

# Sizes are reported as etcd's would be, since quotas and dashboards are set for those. Measured on etcd 3.7.3 with
# records of 10 bytes to 5 KB: within a tenth.
_EMPTY_STORE_BYTES: Final = 12_288
_FREE_BYTES: Final = 8_192
"""An empty etcd's file has five pages, three of them in use. Sizes are never 0 (clients divide by them)."""

_RECORD_OVERHEAD_BYTES: Final = 40
"""What a record takes beside its own bytes: in bbolt 17 of revision key, 16 of page element, its part of a branch."""

_LEASE_BYTES: Final = 64
"""What a lease takes; etcd's estimate."""

_CONTENT: Final = (
    "_lease_of",
    "_record_bytes",
    "_size_floor",
    "compact_revision",
    "compactions",
    "current_revision",
    "index",
    "record_count",
)
"""What depends on the state, beside what can be read from it."""


class LeaseBook(Protocol):
    """What the store needs of leases, which sit above it. An id is never 0. Its length is how many there are."""

    def __len__(self) -> int: ...

    def exists(self, lease: int) -> bool:
        """Whether the lease can take keys."""
        ...

    def attach(self, lease: int, key: bytes) -> None:
        """The key now hangs on the lease."""
        ...

    def detach(self, lease: int, key: bytes) -> None:
        """The key no longer hangs on the lease, which may be gone already."""
        ...


class NoLeases:
    """A lease book without leases, for stores that stand alone."""

    def __len__(self) -> int:
        return 0

    def exists(self, lease: int) -> bool:
        """No."""
        return False

    def attach(self, lease: int, key: bytes) -> None:
        """Nothing to do."""

    def detach(self, lease: int, key: bytes) -> None:
        """Nothing to do."""


class Pin:
    """Holds what a reader at `main` needs against compaction, from `with` to its end."""

    __slots__ = ("_main", "_pins")

    def __init__(self, pins: dict[int, int], main: int) -> None:
        self._pins = pins
        self._main = main

    def __enter__(self) -> None:
        self._pins[self._main] = self._pins.get(self._main, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        count = self._pins[self._main] - 1
        if count:
            self._pins[self._main] = count
        else:
            del self._pins[self._main]


class Store:
    """The keyspace. Call `restore_steps` once before use where the backend may hold data (`Store.open` does).

    `leases` may be set after the store is made, since leases are built above it.
    """

    __slots__ = (
        "_lease_of",
        "_pins",
        "_record_bytes",
        "_size_floor",
        "backend",
        "cache",
        "changes",
        "compact_revision",
        "compactions",
        "current_revision",
        "deletes",
        "hashes",
        "index",
        "leases",
        "put_bytes",
        "puts",
        "ranges",
        "record_count",
        "slice_keys",
        "times_replaced",
        "txns",
        "unnoted",
        "unpublished",
    )

    def __init__(self, backend: Backend, leases: LeaseBook | None = None) -> None:
        self.backend = backend
        self.leases: LeaseBook = leases if leases is not None else NoLeases()
        self.changes: list[Change] | None = None
        """Where writes are noted while someone listens; whoever listens sets a list and takes out what is in it."""
        self.puts = self.deletes = self.ranges = self.txns = self.put_bytes = 0
        """What was done since the start, for the metrics; those inside transactions count too."""
        self.times_replaced = 0
        """Walks that find it changed between two of their slices must be given up; see take_over."""
        self.slice_keys = WRITE_SLICE_KEYS
        """A write that concerns more keys than this is done in slices of so many."""
        self.unnoted: tuple[int, bytes, bytes] | None = None
        """Whoever listens to `changes` finds here a revision that was published and is not among them, with the first
        and the last of its keys, and sets it to None. It is too much to be handed over in one piece."""
        self._reset()

    def _reset(self) -> None:
        self.index = KeyIndex()
        self.current_revision = 1
        """The main revision of the last write; an empty store is at 1, as in etcd."""
        self.unpublished = 0
        """The main revision that is being written in slices; 0 when none is. Index and backend hold a part of it, and
        whoever reads must see the state at `current_revision`."""
        self.compact_revision = -1
        """Reads below it are refused. -1: never compacted, as etcd's HashKV shows it."""
        self.compactions = compaction.Compactions()
        self.hashes = hashing.CompactionHashes()
        self.cache = RecordCache()
        self.record_count = 0
        self._record_bytes = 0
        self._size_floor = 0
        self._lease_of: dict[bytes, int] = {}
        self._pins: dict[int, int] = {}

    @classmethod
    def open(cls, backend: Backend, leases: LeaseBook | None = None) -> Store:
        """A store over a backend's data, restored in one go."""
        store = cls(backend, leases)
        fetch.finish(store.restore_steps())
        return store

    # --- writing ---

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Set a key in a transaction of its own. Returns the packed revision that it replaces, 0 for a new key.

        The lease must exist; whoever checks requests checks that. Hot road: see bench/mvcc_put.py.
        """
        main = self.current_revision + 1
        self.current_revision = main
        return self.put_at(main << SUB_BITS, key, value, lease)

    def put_run(self, keys: list[bytes], values: list[bytes]) -> int:
        """Set keys, each in a transaction of its own. Returns the first one's main revision; the others' follow.

        The same as `put` for each, without a lease, in two thirds of the time: what they have in common is done once.
        """
        first, count = self.current_revision + 1, len(keys)
        self.current_revision += count
        revisions = range(first << SUB_BITS, (first + count) << SUB_BITS, 1 << SUB_BITS)
        packed = list(revisions)
        creates, versions = self.index.put_run(keys, packed)
        records, put_bytes = put_records(keys, values, creates, first, versions)
        self.backend.put_many(disk_keys(packed), records)
        size = sum(map(len, records))
        self.cache.add_run(revisions, records, size)
        self.record_count += count
        self._record_bytes += size
        self.puts += count
        self.put_bytes += put_bytes
        if self.changes is not None:
            self.changes += zip(packed, keys, repeat(False), records, strict=False)
        if self._lease_of:
            for key in keys:
                self._move_lease(key, 0)
        return first

    def put_at(self, packed: int, key: bytes, value: bytes, lease: int) -> int:
        """Set a key at a revision that the caller has opened: `put`, or a WriteTransaction."""
        history = self.index.put(key, packed)
        if history is None:
            previous = 0
            record = first_record(key, packed >> SUB_BITS, value, lease)
        else:
            revisions = history.revisions
            previous = revisions[-2] if len(revisions) > 1 else 0
            record = put_record(key, history.create, packed >> SUB_BITS, history.version, value, lease)
        self.backend.put(disk_key(packed), record)
        self.cache.add(packed, record)
        self.record_count += 1
        self._record_bytes += len(record)
        self.puts += 1
        self.put_bytes += len(key) + len(value)
        if self.changes is not None and not self.unpublished:
            self.changes.append((packed, key, False, record))
        if lease or self._lease_of:
            self._move_lease(key, lease)
        return previous

    def _move_lease(self, key: bytes, lease: int) -> None:
        """Hang a key on another lease (0: on none), if it is another."""
        old = self._lease_of.get(key, 0)
        if old == lease:
            return
        if old:
            del self._lease_of[key]
            self.leases.detach(old, key)
        if lease:
            self._lease_of[key] = lease
            self.leases.attach(lease, key)

    def delete_range(self, key: bytes, end: bytes = b"") -> list[int]:
        """Delete a key or a range in a transaction of its own. Returns the packed revisions that it ends.

        Nothing deleted means no new revision.
        """
        return self.begin().delete_range(key, end)

    def begin(self) -> WriteTransaction:
        """Several writes under one main revision. Finish one before the next begins."""
        return WriteTransaction(self, hidden=False)

    def begin_in_slices(self) -> WriteTransaction:
        """The same, between whose writes others read: they see nothing of it before `publish`. No other write may
        happen meanwhile, and the backend must not make a part of it durable."""
        assert not self.unpublished, "one at a time"
        return WriteTransaction(self, hidden=True)

    def publish(self, transaction: WriteTransaction) -> None:
        """A transaction in slices is complete; from now on everybody sees it. One that wrote nothing leaves nothing."""
        if self.unpublished:
            if self.changes is not None:
                self.unnoted = (self.unpublished, transaction.first_key, transaction.last_key)
            self.current_revision, self.unpublished = self.unpublished, 0

    @property
    def head_revision(self) -> int:
        """The main revision that the index shows: what a transaction in slices sees of itself."""
        return self.unpublished or self.current_revision

    def tombstone_at(self, packed: int, key: bytes) -> None:
        """Store the deletion of a key whose index entry is ended already."""
        record = tombstone_record(key)
        self.backend.put(tombstone_key(packed), record)
        self.record_count += 1
        self._record_bytes += len(record)
        if self.changes is not None and not self.unpublished:
            self.changes.append((packed, key, True, record))
        if self._lease_of:
            self._move_lease(key, 0)

    def tombstones_at(self, packed: int, keys: list[bytes]) -> None:
        """The same for many, at `packed` and the following sub revisions, in three quarters of the time."""
        revisions = range(packed, packed + len(keys))
        records = list(map(tombstone_record, keys))
        put = self.backend.put
        for disk, record in zip(disk_keys(revisions), records, strict=True):
            put(disk + TOMBSTONE_MARK, record)
        self.record_count += len(keys)
        self._record_bytes += sum(map(len, records))
        if self.changes is not None and not self.unpublished:
            self.changes += zip(revisions, keys, repeat(True), records, strict=False)
        if self._lease_of:
            for key in keys:
                self._move_lease(key, 0)

    def lease_of(self, key: bytes) -> int:
        """The lease of a live key, 0 for none."""
        return self._lease_of.get(key, 0)

    def leased_keys(self) -> Iterator[tuple[bytes, int]]:
        """Live keys that hang on a lease, and the lease, in an order that is the same on every member's restart."""
        return iter(self._lease_of.items())

    # --- reading ---

    def read_revision(self, revision: int) -> int:
        """The main revision that a request means (0 or less: the current one). Raises FutureRevision, Compacted."""
        if revision <= 0:
            return self.current_revision
        if revision > self.current_revision:
            raise FutureRevision
        if revision < self.compact_revision:
            raise Compacted
        return revision

    def get(self, key: bytes) -> bytes | None:
        """The record of a key now; None if it does not exist."""
        if self.unpublished:
            return self.record_at(key, self.current_revision)
        mod = self.index.mod(key)
        return self.record(mod) if mod else None

    def record(self, packed: int) -> bytes:
        """The record of a put by its packed revision, which the index must know."""
        record = self.cache.get(packed)
        if record is None:
            record = fetch.read_record(self.backend, packed)
            self.cache.add(packed, record)
        return record

    def records(self, packed: list[int]) -> list[bytes]:
        """The records of puts by their packed revisions, in one go."""
        return fetch.finish(fetch.record_steps(self.backend, self.cache, packed, self.record_count))

    def record_at(self, key: bytes, main_revision: int) -> bytes | None:
        """The record of a key as of a main revision; None if it did not exist then, or is forgotten by compaction."""
        state = self.index.at(key, main_revision)
        return self.record(state.mod) if state is not None else None

    def range(self, key: bytes, end: bytes = b"", options: read.RangeOptions = read.PLAIN) -> read.RangeResult:
        """A range in one go. Raises FutureRevision, Compacted. For what may be large use `range_steps`.

        A plain read of one key, the most common request, takes the short way: 1.5 us.
        """
        if options is read.PLAIN and not end:
            record = self.get(key)
            found = [] if record is None else [record]
            return read.RangeResult(found, len(found), False, self.current_revision)
        return fetch.finish(read.range_steps(self, key, end, options))

    def range_steps(
        self, key: bytes, end: bytes = b"", options: read.RangeOptions = read.PLAIN
    ) -> Generator[None, None, read.RangeResult]:
        """A range in bounded slices; see read.range_steps."""
        return read.range_steps(self, key, end, options)

    def pin(self, main: int) -> Pin:
        """A context manager: while it is open no compaction removes what a reader at `main` can see."""
        return Pin(self._pins, main)

    @property
    def open_reads(self) -> int:
        """Readers that hold a revision."""
        return sum(self._pins.values())

    def oldest_pin(self) -> int | None:
        """The lowest pinned main revision."""
        return min(self._pins, default=None)

    # --- compaction and hashes ---

    def compact(self, revision: int) -> None:
        """Refuse reads below `revision` from now on, and note that for restarts. `compaction_steps` does the rest.

        Raises Compacted (at or below the last one), FutureRevision.
        """
        if revision <= self.compact_revision:
            raise Compacted
        if revision > self.current_revision:
            raise FutureRevision
        self.compactions.schedule(revision, self.compact_revision)
        self.compact_revision = revision
        self.backend.put(SCHEDULED_COMPACTION, revision.to_bytes(8, "big"))

    def compaction_steps(self, batch_limit: int = COMPACTION_BATCH_DEFAULT) -> Generator[int, None, None]:
        """Remove what the scheduled compactions made unreadable, in slices; see compaction.steps."""
        return compaction.steps(self, batch_limit)

    def hash_kv_steps(self, revision: int = 0) -> Generator[None, None, hashing.HashKv]:
        """The digest of the revisions up to `revision` (0: all), in slices; see hashing.kv_steps."""
        return hashing.kv_steps(self, revision)

    def hash_steps(self) -> Generator[None, None, int]:
        """A CRC-32C over all applied state, in slices; see hashing.backend_steps."""
        return hashing.backend_steps(self.backend, self.unpublished)

    # --- sizes ---

    @property
    def bytes_in_use(self) -> int:
        """What records and leases take, with a fifth for the slack of bbolt's pages: Status.dbSizeInUse."""
        records = self._record_bytes * 6 // 5 + self.record_count * _RECORD_OVERHEAD_BYTES
        return _EMPTY_STORE_BYTES + records + len(self.leases) * _LEASE_BYTES

    @property
    def mean_record_bytes(self) -> int:
        """How long a record is on average."""
        return self._record_bytes // (self.record_count or 1)

    @property
    def size_total(self) -> int:
        """Status.dbSize, which the quota is held against.

        The most that was in use since the last defragmentation, as a bbolt file never shrinks.
        """
        return max(self._size_floor, self.bytes_in_use + _FREE_BYTES)

    def remove_record(self, disk: bytes, record: bytes) -> None:
        """Drop a record that compaction made unreadable."""
        self.backend.delete(disk)
        self.record_count -= 1
        self._record_bytes -= len(record)

    def keep_size_total(self) -> None:
        """Before the first removal: remember the high-water mark, over a restart too."""
        self._set_size_floor(self.size_total)

    def defragment(self) -> None:
        """Bring size_total down to what is in use. The backend's own compaction is the engine's affair."""
        self._set_size_floor(self.bytes_in_use + _FREE_BYTES)

    def _set_size_floor(self, size: int) -> None:
        self._size_floor = size
        self.backend.put(SIZE_TOTAL, size.to_bytes(8, "big"))

    # --- start ---

    def restore_steps(self) -> Generator[int, None, None]:
        """Build everything from the backend. Yields the number of records read, every RESTORE_SLICE_RECORDS.

        Afterwards `leased_keys` tells what hangs on leases, and `compactions.pending` whether a compaction that a crash
        cut short waits for `compaction_steps`.
        """
        yield from self._restore_content_steps(RESTORE_SLICE_RECORDS)
        self.index.finish_restore(self.current_revision)

    def restore_aside_steps(self) -> Generator[int, None, None]:
        """The same for a store that is built while another one serves: slices of 2 ms, and twice the work."""
        yield from self._restore_content_steps(RESTORE_ASIDE_SLICE_RECORDS)
        for _ in self.index.finish_restore_steps(self.current_revision):
            yield self.record_count

    def _restore_content_steps(self, slice_records: int) -> Generator[int, None, None]:
        self._reset()
        scheduled = self._meta(SCHEDULED_COMPACTION, -1)
        finished = self._meta(FINISHED_COMPACTION, -1)
        intake = Intake(self.index, self._lease_of)
        yield from intake.steps(self.backend, slice_records)
        self.record_count, self._record_bytes = intake.records, intake.size
        # A compaction may have removed the last records, deletions included: the revision must not go back.
        self.current_revision = max(1, intake.last >> SUB_BITS, scheduled, finished)
        self.compact_revision = finished
        self._size_floor = self._meta(SIZE_TOTAL, 0)
        if scheduled > finished:
            self.compactions.resume(scheduled, self.compact_revision)
            self.compact_revision = scheduled

    def take_over(self, other: Store) -> KeyIndex:
        """Become what `other` is: a later state of the same history, which has taken this one's place in the backend.

        Records and hashes that are kept stay right, since revisions never change. Walks under way must have ended or
        be given up, `changes` be taken out. Returns the index that is not needed any more; see KeyIndex.dispose_steps.
        """
        assert not self.changes
        assert other.current_revision >= self.current_revision, "a later state of the same history"
        index = self.index
        self.unpublished = 0
        self.unnoted = None
        for name in _CONTENT:
            setattr(self, name, getattr(other, name))
        self.times_replaced += 1
        return index

    def _meta(self, name: bytes, absent: int) -> int:
        value = self.backend.get(name)
        return absent if value is None else int.from_bytes(value, "big")
