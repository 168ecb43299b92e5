"""Compaction: forget revisions that nobody may read any more, in slices, and take up again what a crash cut short.

`Store.compact` moves the compact revision and writes it down as scheduled. From then on older reads are refused; the
work that follows changes no answer:

    wait       until no reader is pinned below the revision
    index      dirty keys forget superseded revisions; what goes is the garbage
    records    one scan up to the revision: hash what is there, remove the garbage
    finished   the revision is written down as finished, in one batch with the last removals

A crash before the end leaves scheduled > finished; restore brings back an index with the same garbage in it, and the
walk runs again. The hash on the way is etcd's: it covers the revisions that are about to go, so that members can still
compare what they had at the compaction.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from etcdpy.backend import META_BUCKET, REVISION_BUCKET
from etcdpy.limits import READ_SLICE_BYTES_MAX
from etcdpy.mvcc.fetch import close_scan
from etcdpy.mvcc.hashing import HashKv, RevisionHasher
from etcdpy.mvcc.revision import SUB_BITS, disk_key, from_disk_key, pack

if TYPE_CHECKING:
    from collections.abc import Generator

    from etcdpy.mvcc.store import Store

WAITS: Final = -1
"""What a step yields when a pinned reader must finish first: come back later."""

SCHEDULED_COMPACTION: Final[bytes] = META_BUCKET + b"scheduledCompactRev"
FINISHED_COMPACTION: Final[bytes] = META_BUCKET + b"finishedCompactRev"
"""Main revisions, 8 bytes big endian. Equal when no compaction is under way."""


_PARTS: Final = 256


class Garbage:
    """A set of packed revisions in parts. One large set would hold the loop for 7 ms each time it grows past another
    100,000 revisions, and as long when it is dropped."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: tuple[set[int], ...] = tuple(set() for _ in range(_PARTS))

    def __bool__(self) -> bool:
        return any(self._parts)

    def add_all(self, revisions: list[int]) -> None:
        """Take them in. Both numbers choose the part, since one main revision may hold many."""
        parts = self._parts
        for packed in revisions:
            parts[(packed ^ packed >> SUB_BITS) % _PARTS].add(packed)

    def take(self, packed: int) -> bool:
        """Whether a revision is garbage; if so it is let go of."""
        part = self._parts[(packed ^ packed >> SUB_BITS) % _PARTS]
        if packed in part:
            part.remove(packed)
            return True
        return False

    def clear(self) -> None:
        """Forget all."""
        for part in self._parts:
            part.clear()


class Task:
    """One compaction to do. `previous` is the compact revision before it; `hashed`: its hash will be complete."""

    __slots__ = ("hashed", "previous", "revision")

    def __init__(self, revision: int, previous: int, *, hashed: bool) -> None:
        self.revision = revision
        self.previous = previous
        self.hashed = hashed


class Compactions:
    """The compactions that are scheduled and not finished, oldest first."""

    __slots__ = ("garbage", "queue")

    def __init__(self) -> None:
        self.queue: deque[Task] = deque()
        self.garbage = Garbage()
        """What the index has forgotten and the backend still holds."""

    @property
    def pending(self) -> bool:
        """Whether there is work for `steps`."""
        return bool(self.queue)

    def schedule(self, revision: int, previous: int) -> None:
        """Add one. As in etcd its hash counts only if the one before had finished by now."""
        self.queue.append(Task(revision, previous, hashed=not self.queue))

    def resume(self, revision: int, previous: int) -> None:
        """Add one that was cut short: some of what its hash would cover may be gone."""
        self.queue.append(Task(revision, previous, hashed=False))


def steps(store: Store, batch_limit: int) -> Generator[int, None, None]:
    """Do all pending compactions. Yields the number of records that each step removed, or WAITS.

    `batch_limit`: records looked at in a step, at least 1. Run one such walk at a time. Closing it early leaves the
    compaction pending, and the next walk takes it up.
    """
    assert batch_limit > 0
    compactions = store.compactions
    while compactions.queue:
        task = compactions.queue[0]
        while (pinned := store.oldest_pin()) is not None and pinned < task.revision:
            yield WAITS
        removed: list[int] = []
        store.index.begin_compaction()
        more = True
        while more:
            more = store.index.compact_slice(task.revision, removed, batch_limit)
            compactions.garbage.add_all(removed)
            removed.clear()
            if more:
                yield 0
        last = yield from _record_steps(store, task, batch_limit)
        store.backend.put(FINISHED_COMPACTION, task.revision.to_bytes(8, "big"))
        compactions.garbage.clear()
        compactions.queue.popleft()
        if last or compactions.queue:
            yield last


def _record_steps(store: Store, task: Task, batch_limit: int) -> Generator[int, None, int]:
    """Walk the records up to the revision: digest, remove. Returns what was removed after the last yield."""
    garbage = store.compactions.garbage
    hashed, task.hashed = task.hashed, False  # a second walk would find records missing
    if garbage:
        store.keep_size_total()
    hasher = RevisionHasher()
    above_previous = pack(task.previous + 1)
    seen = size = count = 0
    scan = store.backend.scan(REVISION_BUCKET, disk_key(pack(task.revision + 1)))
    try:
        for disk, record in scan:
            packed = from_disk_key(disk)
            gone = garbage.take(packed)
            if gone:
                store.remove_record(disk, record)
                count += 1
            # Of what the last compaction covered, etcd's hash takes in what stays now; of what came since, everything.
            # (Its rules for an empty filter and for old deletions never decide here: the write at the compacted
            # revision always stays, and a deletion before it always goes.)
            if hashed and (packed >= above_previous or not gone):
                hasher.add(disk, record)
            seen += 1
            size += len(record)
            if seen >= batch_limit or size >= READ_SLICE_BYTES_MAX:
                hasher.flush()
                yield count
                seen = size = count = 0
    finally:
        close_scan(scan)
    if hashed:
        store.hashes.add(HashKv(hasher.digest(), task.previous, task.revision))
    return count
