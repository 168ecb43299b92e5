"""The replicated log as raft sees it: a durable part in LogStorage and a tail in memory.

    storage        first_index ............................ last_index
    tail                                     |offset ............................ last|
    pointers           applied <= committed            stable

Entries stay in the tail until they are both stable (durable here) and applied, so that a committed entry that was
proposed here is handed out as the very object that was proposed, and the hot road never reads storage.

Invariants: applied <= committed <= last; offset - 1 <= stable <= last; the tail holds every entry above
min(stable, applied) that is newer than the start of the process.

While a snapshot waits to be installed, it is what precedes the tail: storage is not asked, and nothing is applied.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from etcdpy.raft.errors import LogCompacted, LogUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.proto import raft_pb2
    from etcdpy.raft.entry import Entry
    from etcdpy.raft.types import LogStorage


class Log:
    """See the module's drawing. Indexes count from 1; sizes are bytes of entry data."""

    __slots__ = (
        "_before",
        "_ends",
        "_offset",
        "_tail",
        "applied",
        "committed",
        "last_index",
        "snapshot",
        "stable",
        "storage",
    )

    def __init__(self, storage: LogStorage, applied: int) -> None:
        self.storage = storage
        self.snapshot: raft_pb2.Snapshot | None = None
        """A snapshot that waits to be installed."""
        self.last_index = storage.last_index()
        self.stable = self.last_index
        self.committed = self.applied = max(applied, storage.first_index() - 1)
        self._offset = self.last_index + 1
        self._tail: list[Entry] = []
        # Bytes of data that ever entered the tail: _ends[i] counts up to and including _tail[i], _before up to but
        # without _tail[0]. Differences give the size of any slice without touching its entries.
        self._ends: list[int] = []
        self._before = 0

    # --- reading ---

    def first_index(self) -> int:
        """The first entry that can be had."""
        if self.snapshot is not None:
            return self.snapshot.metadata.index + 1
        return self.storage.first_index()

    def term(self, index: int) -> int:
        """The term at `index`; raises LogCompacted or LogUnavailable."""
        position = index - self._offset
        if position >= 0:
            if index > self.last_index:
                raise LogUnavailable(f"no entry {index}: the log ends at {self.last_index}")
            return self._tail[position].term
        if self.snapshot is None:
            return self.storage.term(index)
        metadata = self.snapshot.metadata
        if index != metadata.index:
            raise LogCompacted(f"entry {index} is covered by the snapshot at {metadata.index}")
        return metadata.term

    def last_term(self) -> int:
        """The term of the last entry."""
        return self._tail[-1].term if self._tail else self.term(self.last_index)

    def matches(self, index: int, term: int) -> bool:
        """Whether the log has an entry `index` of `term`: Raft's log matching, paper 5.3."""
        try:
            return self.term(index) == term
        except (LogCompacted, LogUnavailable):
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends with (index, term) is at least as good as ours: paper 5.4.1."""
        ours = self.last_term()
        return term > ours or (term == ours and index >= self.last_index)

    def slice(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        """Entries lo <= index < hi, at least one, otherwise no more than `max_bytes`; may stop where storage ends."""
        if lo < self._offset:
            if self.snapshot is not None:
                raise LogCompacted(f"entry {lo} is covered by the snapshot at {self.snapshot.metadata.index}")
            return self.storage.entries(lo, min(hi, self._offset), max_bytes)
        start, stop = lo - self._offset, hi - self._offset
        before = self._ends[start - 1] if start else self._before
        if self._ends[stop - 1] - before > max_bytes:
            stop = max(bisect_right(self._ends, before + max_bytes, start, stop), start + 1)
        return self._tail[start:stop]

    def payload_bytes(self, entries: Sequence[Entry]) -> int:
        """How many bytes of data a slice holds, without touching its entries while they are in the tail."""
        if not entries:
            return 0
        start = entries[0].index - self._offset
        if start < 0:
            return sum(len(entry.data) for entry in entries)
        return self._ends[start + len(entries) - 1] - (self._ends[start - 1] if start else self._before)

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The best guess where a log that has `term` at `index` may agree with ours.

        The highest index not above `index` whose term here is not above `term`; (i, 0) when ours is not known at i.
        """
        while index > 0:
            try:
                ours = self.term(index)
            except (LogCompacted, LogUnavailable):
                return index, 0
            if ours <= term:
                return index, ours
            index -= 1
        return 0, 0

    def uncommitted_bytes(self) -> int:
        """Data of the entries above the commit index. Entries from before the start of the process are not counted."""
        if not self._ends:
            return 0
        position = self.committed - self._offset
        return self._ends[-1] - (self._ends[position] if position >= 0 else self._before)

    def unstable(self) -> list[Entry]:
        """Entries that are not durable yet."""
        if self.stable == self.last_index:
            return []
        return self._tail[self.stable + 1 - self._offset :]

    def appliable_index(self) -> int:
        """The last entry that may be applied: committed, and durable here (etcd issue 14370)."""
        return min(self.committed, self.stable) if self.snapshot is None else self.applied

    def next_committed(self, max_bytes: int) -> list[Entry]:
        """What to apply next; at least one entry when there is any."""
        hi = self.appliable_index()
        if hi <= self.applied:
            return []
        return self.slice(self.applied + 1, hi + 1, max_bytes)

    # --- writing ---

    def append_new(self, entries: Sequence[Entry], term: int, max_uncommitted_bytes: int) -> bool:
        """Number and append what a leader proposes. False, and nothing done, when too much is uncommitted.

        Anything is taken while nothing is uncommitted, and empty data always: a new leader's first entry must fit.
        Hot road: 0.2 us an entry.
        """
        index = self.last_index
        start = end = self._ends[-1] if self._ends else self._before
        ends: list[int] = []
        add = ends.append
        for entry in entries:
            index += 1
            entry.term = term
            entry.index = index
            entry.wire = None
            end += len(entry.data)
            add(end)
        if end > start:
            waiting = self.uncommitted_bytes()
            if waiting and waiting + end - start > max_uncommitted_bytes:
                return False
        self._tail += entries
        self._ends += ends
        self.last_index = index
        return True

    def append_from_leader(self, entries: Sequence[Entry]) -> None:
        """Append what a leader sent, replacing a conflicting end of the log. The caller has checked where it fits."""
        first = entries[0].index
        assert self.committed < first <= self.last_index + 1, (self.committed, first, self.last_index)
        if first <= self.last_index:
            self._cut(first)
        end = self._ends[-1] if self._ends else self._before
        for entry in entries:
            end += len(entry.data)
            self._ends.append(end)
        self._tail += entries
        self.last_index = entries[-1].index

    def _cut(self, first: int) -> None:
        """Drop every entry from `first` on."""
        position = max(first - self._offset, 0)
        if position == 0:
            self._offset = first
        del self._tail[position:]
        del self._ends[position:]
        self.stable = min(self.stable, first - 1)
        self.last_index = first - 1

    def restore(self, snapshot: raft_pb2.Snapshot) -> None:
        """A snapshot replaces the whole log; it waits to be installed."""
        index = snapshot.metadata.index
        assert index > self.committed, (index, self.committed)
        self.snapshot = snapshot
        if self._ends:
            self._before = self._ends[-1]
        self._tail, self._ends = [], []
        self._offset = index + 1
        self.last_index = self.stable = self.committed = index

    def installed(self, snapshot: raft_pb2.Snapshot) -> None:
        """The snapshot, and with it storage's new start, is durable; unless an even newer one has come since."""
        self.applied = max(self.applied, snapshot.metadata.index)
        if self.snapshot is snapshot:
            self.snapshot = None

    def commit_to(self, index: int) -> bool:
        """Raise the commit index; it never falls. True when it rose."""
        if index <= self.committed:
            return False
        assert index <= self.last_index, (index, self.last_index)
        self.committed = index
        return True

    def stable_to(self, index: int, term: int) -> None:
        """Entries up to `index` are durable, if the one there is still of `term`: a leader may have replaced it since.

        When it was replaced, what is left of the written entries is written once more with the next Ready.
        """
        position = index - self._offset
        if index > self.stable and index <= self.last_index and self._tail[position].term == term:
            self.stable = index
            self._drop()

    def applied_to(self, index: int) -> None:
        """Entries up to `index` have been taken over for apply."""
        assert self.applied <= index <= min(self.committed, self.stable), (self.applied, index, self.committed)
        self.applied = index
        self._drop()

    def _drop(self) -> None:
        """Let go of what is both durable and applied."""
        count = min(self.stable, self.applied) + 1 - self._offset
        if count > 0:
            self._before = self._ends[count - 1]
            del self._tail[:count]
            del self._ends[:count]
            self._offset += count
